"""The order of jobs: queues by their order, first in first out, within the limits of tasks."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from aiospinach import Batch, Engine, Tasks
from aiospinach.brokers.records import Envelope
from aiospinach.workers import maintenance as maintenance

from .. import asking
from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker


class Gate:
    """Tasks in several queues, whose bodies record their start, and wait to be let through."""

    def __init__(self, engine: Engine, *queues: str) -> None:
        self.began: list[str] = []
        self.running: Counter[str] = Counter()
        self._let_through: asyncio.Queue[None] = asyncio.Queue()
        for queue in queues:
            engine.task(name=f"in_{queue}", queue=queue)(self.body)

    async def body(self, label: str) -> None:
        self.began.append(label)
        self.running[label[0]] += 1
        await self._let_through.get()
        self.running[label[0]] -= 1

    def let_through(self, number: int = 1) -> None:
        for _ in range(number):
            self._let_through.put_nowait(None)


async def schedule(engine: Engine, *labels: str) -> None:
    """Schedule jobs; the first letter of each label is its queue."""
    for label in labels:
        await engine.schedule(f"in_{label[0]}", label)


async def test_jobs_of_one_queue_run_first_in_first_out(engine: Engine) -> None:
    ran: list[int] = []

    @engine.task
    async def job(number: int) -> None:
        ran.append(number)

    for number in range(50):
        await job.schedule(number)
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert ran == list(range(50))


async def test_earlier_queues_come_first(engine: Engine) -> None:
    gate = Gate(engine, "a", "b", "c")
    await schedule(engine, "c1", "b1", "a1", "c2", "b2", "a2")
    gate.let_through(6)
    await engine.start_workers(1, ["a", "b", "c"], stop_when_queue_empty=True)
    assert gate.began == ["a1", "a2", "b1", "b2", "c1", "c2"]


async def test_a_new_job_of_an_earlier_queue_runs_before_those_that_wait(engine: Engine) -> None:
    gate = Gate(engine, "a", "b")
    await schedule(engine, "b1", "b2", "b3", "b4")
    await engine.start_workers(1, ["a", "b"], block=False, shutdown_timeout=0)
    await until(lambda: gate.began == ["b1"])
    await schedule(engine, "a1")
    gate.let_through()
    await until(lambda: len(gate.began) == 2)
    await schedule(engine, "a2")
    gate.let_through()
    await until(lambda: len(gate.began) == 3)
    gate.let_through()
    await until(lambda: len(gate.began) == 4)
    assert gate.began == ["b1", "a1", "a2", "b2"]
    gate.let_through(3)
    await until(lambda: len(gate.began) == 6)
    await engine.stop_workers()
    assert gate.began == ["b1", "a1", "a2", "b2", "b3", "b4"]


async def test_later_queues_get_the_remaining_slots(engine: Engine) -> None:
    gate = Gate(engine, "a", "b", "c")
    await schedule(engine, "c1", "b1", "b2", "b3", "a1", "a2")
    await engine.start_workers(4, ["a", "b", "c"], block=False)
    await until(lambda: len(gate.began) == 4)
    for _ in range(20):
        await asyncio.sleep(0)
    assert gate.running == {"a": 2, "b": 2}
    gate.let_through(6)
    await until(lambda: len(gate.began) == 6)
    await engine.stop_workers()
    assert set(gate.began[:4]) == {"a1", "a2", "b1", "b2"}


async def test_a_job_of_a_later_queue_wakes_idle_workers(engine: Engine, broker: FailingBroker) -> None:
    gate = Gate(engine, "a", "b")
    await engine.start_workers(2, ["a", "b"], block=False)
    await until(lambda: broker.sleepers)
    for label in ("b1", "a1", "b2"):
        await schedule(engine, label)
        await until(lambda label=label: label in gate.began, timeout=2)  # type: ignore[misc]
        gate.let_through()
    await engine.stop_workers()


async def test_a_wait_is_extended_to_all_queues_when_a_slot_becomes_free(
    engine: Engine, broker: FailingBroker
) -> None:
    gate = Gate(engine, "a", "b")
    await engine.start_workers(1, ["a", "b"], block=False)
    await schedule(engine, "b1")
    await until(lambda: gate.began == ["b1"])
    await until(
        lambda: [waiter.queues for waiter in broker._waits.waiters] == [{"a"}],
        "it waits for the earlier queue",
    )
    gate.let_through(2)
    await until(
        lambda: [waiter.queues for waiter in broker._waits.waiters] == [{"a", "b"}],
        "it waits for all queues",
        timeout=3,
    )
    await schedule(engine, "b2")
    await until(lambda: gate.began == ["b1", "b2"], timeout=3)
    await engine.stop_workers()


async def test_jobs_of_other_queues_are_not_run(engine: Engine, broker: FailingBroker) -> None:
    gate = Gate(engine, "a", "b")
    await schedule(engine, "a1", "b1")
    gate.let_through(1)
    await engine.start_workers(2, "a", stop_when_queue_empty=True)
    assert gate.began == ["a1"]
    assert (await asking.counts(broker, "b")).ready == 1


async def test_a_registry_attached_while_workers_run_is_served(engine: Engine, heard: Heard) -> None:
    await engine.start_workers(block=False)
    tasks = Tasks()
    running = most = 0

    @tasks.task(max_concurrency=2)
    async def late() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1

    engine.attach_tasks(tasks)
    for _ in range(10):
        await engine.schedule(late)
    await until(lambda: heard.count("job_finished") == 10)
    await engine.stop_workers()
    assert most == 2


# max_concurrency.


async def test_max_concurrency_bounds_the_running_jobs_of_a_task(engine: Engine, heard: Heard) -> None:
    running = most = 0

    @engine.task(max_concurrency=3)
    async def limited() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    for _ in range(100):
        await limited.schedule()
    await engine.start_workers(10, stop_when_queue_empty=True)
    assert most == 3
    assert heard.count("job_finished") == 100


async def test_a_task_at_its_limit_does_not_block_others(engine: Engine, heard: Heard) -> None:
    gate = Gate(engine)
    began: list[int] = []
    engine.task(name="limited", max_concurrency=1)(gate.body)

    @engine.task
    async def free(number: int) -> None:
        began.append(number)

    for number in range(50):
        await engine.schedule("limited", f"l{number}")
    for number in range(50):
        await free.schedule(number)
    await engine.start_workers(4, block=False)
    await until(lambda: len(began) == 50)
    assert began == list(range(50))
    assert gate.began == ["l0"]
    gate.let_through(50)
    await until(lambda: heard.count("job_finished") == 100)
    await engine.stop_workers()
    assert gate.began == [f"l{number}" for number in range(50)]


async def test_the_slot_of_a_limited_task_is_freed_by_a_failure_or_retry(
    engine: Engine, heard: Heard
) -> None:
    ran: list[int] = []

    @engine.task(max_concurrency=1, max_retries=1, backoff=lambda attempt: 0.01)
    async def limited(number: int) -> None:
        ran.append(number)
        if number % 2:
            raise ValueError

    for number in range(10):
        await limited.schedule(number)
    await asyncio.wait_for(engine.start_workers(4, stop_when_queue_empty=True), 20)
    assert Counter(ran) == {number: 1 + number % 2 for number in range(10)}


async def test_a_limit_holds_for_sync_tasks_as_well(engine: Engine, heard: Heard) -> None:
    lock = threading.Lock()
    running = most = 0

    @engine.task(max_concurrency=2)
    def limited() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1

    for _ in range(20):
        await limited.schedule()
    await engine.start_workers(6, stop_when_queue_empty=True)
    assert most == 2
    assert heard.count("job_finished") == 20


async def test_a_removed_limit_does_not_apply_after_a_restart(namespace: str, heard: Heard) -> None:
    broker = FailingBroker()
    first = Engine(broker, namespace)

    async def body() -> None:
        pass

    first.task(name="job", max_concurrency=1)(body)
    await first.start_workers(stop_when_queue_empty=True)
    del first
    gc.collect()
    second = Engine(broker, namespace)
    gate = Gate(second)

    @second.task(name="job")
    async def free() -> None:
        await gate.body("x")

    for _ in range(3):
        await free.schedule()
    await second.start_workers(3, block=False)
    await until(lambda: len(gate.began) == 3)
    gate.let_through(3)
    await second.stop_workers()


# Many.


@pytest.mark.large
@pytest.mark.parametrize("number", [1, 32])
async def test_twenty_thousand_jobs_run_once_each(engine: Engine, broker: FailingBroker, number: int) -> None:
    ran: Counter[int] = Counter()

    @engine.task
    async def job(index: int) -> None:
        ran[index] += 1

    for start in range(0, 20_000, 5_000):
        batch = Batch()
        for index in range(start, start + 5_000):
            batch.schedule(job, index)
        await engine.schedule_batch(batch)
    await engine.start_workers(number, stop_when_queue_empty=True)
    assert len(ran) == 20_000
    assert set(ran.values()) == {1}
    counts = await asking.counts(broker, "default")
    assert (counts.ready, counts.running, counts.waiting, counts.dead) == (0, 0, 0, 0)


@pytest.mark.large
async def test_jobs_scheduled_while_workers_run_are_run_once_each(engine: Engine, heard: Heard) -> None:
    ran: Counter[int] = Counter()

    @engine.task
    async def job(index: int) -> None:
        ran[index] += 1

    async def producer(start: int) -> None:
        for index in range(start, start + 500):
            await job.schedule(index)
            if index % 7 == 0:
                await asyncio.sleep(0)

    await engine.start_workers(8, block=False)
    await asyncio.gather(*(producer(start) for start in range(0, 2000, 500)))
    await until(lambda: heard.count("job_finished") == 2000)
    await engine.stop_workers()
    assert len(ran) == 2000
    assert set(ran.values()) == {1}


# Jobs for later.


async def test_a_job_for_later_starts_when_it_is_due_and_never_before(engine: Engine, heard: Heard) -> None:
    started: dict[int, datetime] = {}

    @engine.task
    async def job(number: int) -> None:
        started[number] = datetime.now(UTC)

    await engine.start_workers(block=False)
    due = {}
    for number, delay in enumerate([200, 50, 120, 80, 300]):
        at = datetime.now(UTC) + timedelta(milliseconds=delay)
        due[number] = (await job.schedule_at(at, number)).at
        assert abs(due[number] - at) <= timedelta(milliseconds=1)
    await until(lambda: len(started) == 5)
    await engine.stop_workers()
    for number, at in due.items():
        assert timedelta(0) <= started[number] - at < timedelta(seconds=1)
    assert list(started) == [1, 3, 2, 0, 4]


async def test_a_job_due_earlier_wakes_a_worker_that_waits_for_a_later_one(
    engine: Engine, broker: FailingBroker
) -> None:
    started = asyncio.Event()

    @engine.task
    async def job() -> None:
        started.set()

    await job.schedule_at(datetime.now(UTC) + timedelta(hours=1))
    await engine.start_workers(block=False)
    await until(lambda: broker.sleepers)
    at = (await job.schedule_at(datetime.now(UTC) + timedelta(milliseconds=60))).at
    # Without a wake-up workers look for jobs only every 5 s.
    await asyncio.wait_for(started.wait(), 2)
    assert datetime.now(UTC) >= at
    await engine.stop_workers()
    assert (await asking.counts(broker, "default")).waiting == 1


async def test_a_job_for_later_in_a_later_queue_wakes_a_worker(engine: Engine, broker: FailingBroker) -> None:
    gate = Gate(engine, "a", "b")
    await engine.start_workers(1, ["a", "b"], block=False, shutdown_timeout=0)
    await until(lambda: broker.sleepers)
    await engine.schedule_at("in_b", datetime.now(UTC) + timedelta(milliseconds=40), "b1")
    await until(lambda: gate.began == ["b1"], timeout=2)
    gate.let_through()
    await engine.stop_workers()


async def test_a_past_moment_means_now(engine: Engine, heard: Heard) -> None:
    ran: list[str] = []

    @engine.task
    async def job(label: str) -> None:
        ran.append(label)

    await job.schedule("first")
    await job.schedule_at(datetime.now(UTC) - timedelta(days=400), "second")
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert ran == ["first", "second"]


async def test_jobs_that_became_due_without_workers_run_at_the_next_start(
    engine: Engine, heard: Heard
) -> None:
    ran: list[int] = []

    @engine.task
    async def job(number: int) -> None:
        ran.append(number)

    late = datetime.now(UTC) + timedelta(milliseconds=30)
    await job.schedule_at(late, 1)
    await until(lambda: datetime.now(UTC) > late + timedelta(milliseconds=2))
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert ran == [1]


async def test_an_idle_worker_repeats_its_registration(
    engine: Engine, broker: FailingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "REGISTER_EVERY", 0.02)
    registered: list[dict[str, int]] = []
    register = broker.register

    async def record(queue: str, limits: dict[str, int], periodic: dict[str, int], worker: str) -> object:
        registered.append(limits)
        return await register(queue, limits, periodic, worker)

    monkeypatch.setattr(broker, "register", record)

    @engine.task(name="job", max_concurrency=3)
    async def job() -> None: ...

    await engine.start_workers(1, block=False)
    await until(lambda: len(registered) >= 4)
    await engine.stop_workers()
    assert all(limits == {"job": 3} for limits in registered)


async def test_without_a_queue_the_workers_run_every_queue_of_the_tasks(
    engine: Engine, broker: FailingBroker, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    for queue in ("mail", "default", "bulk"):

        @engine.task(name=f"of-{queue}", queue=queue)
        async def job() -> None:
            pass

    for queue in ("mail", "default", "bulk"):
        await engine.schedule(f"of-{queue}")
    await engine.start_workers(1, stop_when_queue_empty=True)
    ran = [kwargs["job"].queue for name, kwargs in heard if name == "job_finished"]
    assert ran == ["default", "bulk", "mail"]
    assert "run none of its jobs" not in caplog.text


async def test_workers_of_an_engine_without_tasks_use_the_default_queue(
    engine: Engine, broker: FailingBroker
) -> None:
    await broker.enqueue("default", [Envelope("a", "unknown", b"[[],{}]")])
    await engine.start_workers(block=False)
    await until(lambda: engine.health().unknown_tasks == ("unknown",))


async def test_a_queue_that_the_workers_do_not_run_is_logged(
    engine: Engine, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    @engine.task(name="send", queue="mail")
    async def send() -> None:
        pass

    @engine.task(name="tick", queue="mail", periodicity=timedelta(hours=1))
    async def tick() -> None:
        pass

    @engine.task(name="job")
    async def job() -> None:
        pass

    await engine.start_workers(queue="default", block=False)
    [line] = [r.getMessage() for r in caplog.records if "run none of its jobs" in r.getMessage()]
    assert line.startswith("queue mail: these workers run none of its jobs, of the tasks send, tick: ")
    caplog.clear()
    engine.task(name="late", queue="later")(job.function)
    assert "queue later: these workers run none of its jobs, of the tasks late" in caplog.text
