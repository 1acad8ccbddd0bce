"""The public interface: scheduling, batches, inline execution, and what an engine refuses."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from aiospinach import (
    Batch,
    BatchPartlyStored,
    BatchTooLarge,
    BrokerUnavailable,
    DuplicateTask,
    Engine,
    InvalidArguments,
    InvalidValue,
    JobStatus,
    JobTimeout,
    MemoryBroker,
    NotAttached,
    Tasks,
    UnknownTask,
    current_job,
    signals,
)
from aiospinach.brokers.records import Envelope

from .conftest import Heard
from .waiting import until

VALUE: ContextVar[str] = ContextVar("VALUE", default="unset")


def hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


# Creation.


def test_the_defaults_are_as_documented() -> None:
    engine = Engine(MemoryBroker())
    assert engine.namespace == "aiospinach"

    @engine.task
    async def job() -> None:
        pass

    assert (job.queue, job.max_retries) == ("default", 0)
    assert job.name == "test_the_defaults_are_as_documented.job"


@pytest.mark.parametrize("namespace", ["", "a b", "a:b", "a@b", "a/b", "é", "x" * 101, None, 5, b"shop"])
def test_a_namespace_has_few_characters(namespace: Any) -> None:
    with pytest.raises(InvalidValue, match="namespace"):
        Engine(MemoryBroker(), namespace)


@pytest.mark.parametrize("namespace", ["a", "A-z_0.9", "x" * 100])
def test_a_namespace_may_be(namespace: str) -> None:
    assert Engine(MemoryBroker(), namespace).namespace == namespace


@pytest.mark.parametrize("broker", [None, MemoryBroker, "redis://localhost", object()])
def test_an_engine_needs_a_broker(broker: Any) -> None:
    with pytest.raises(InvalidValue, match="broker"):
        Engine(broker)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", None, True])
def test_a_signal_timeout_is_a_time(timeout: Any) -> None:
    with pytest.raises(InvalidValue, match="signal_timeout"):
        Engine(MemoryBroker(), signal_timeout=timeout)


def test_a_broker_belongs_to_one_engine_as_long_as_that_lives() -> None:
    broker = MemoryBroker()
    engine = Engine(broker)
    with pytest.raises(InvalidValue, match="another engine"):
        Engine(broker)
    del engine
    gc.collect()
    Engine(broker)


# Tasks.


async def test_a_task_is_still_its_function(engine: Engine) -> None:
    @engine.task
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @engine.task
    def shout(text: str) -> str:
        return text.upper()

    assert await add(5, 3) == 8
    assert shout("hey") == "HEY"
    assert add.__doc__ == "Add two numbers."


async def test_two_tasks_of_one_name_are_refused(engine: Engine) -> None:
    @engine.task(name="same")
    async def first() -> None:
        pass

    with pytest.raises(DuplicateTask, match="same"):

        @engine.task(name="same")
        async def second() -> None:
            pass

    tasks = Tasks()

    @tasks.task
    async def fine() -> None:
        pass

    @tasks.task(name="same")
    async def third() -> None:
        pass

    with pytest.raises(DuplicateTask, match="same"):
        engine.attach_tasks(tasks)
    with pytest.raises(UnknownTask):
        await engine.schedule(fine)


async def test_a_registry_is_attached_once_or_twice_and_grows(engine: Engine, heard: Heard) -> None:
    tasks = Tasks(queue="mail", max_retries=2)

    @tasks.task
    async def early() -> None:
        pass

    with pytest.raises(NotAttached, match="attach_tasks"):
        await early.schedule()
    engine.attach_tasks(tasks)
    engine.attach_tasks(tasks)

    @tasks.task(max_retries=0)
    async def late() -> None:
        pass

    first, second = await early.schedule(), await late.schedule()
    assert [(job.queue, job.max_retries) for job in (first, second)] == [("mail", 2), ("mail", 0)]
    await engine.start_workers(queue="mail", stop_when_queue_empty=True)
    assert heard.count("job_finished") == 2


async def test_a_task_of_two_engines_must_be_scheduled_with_one_of_them(
    engine: Engine, namespace: str
) -> None:
    tasks = Tasks()

    @tasks.task
    async def shared() -> None:
        pass

    other = Engine(MemoryBroker(), f"{namespace}-other")
    engine.attach_tasks(tasks)
    other.attach_tasks(tasks)
    with pytest.raises(NotAttached, match="2 engines"):
        await shared.schedule()
    job = await other.schedule(shared)
    assert job.namespace == f"{namespace}-other"
    with pytest.raises(InvalidValue):
        engine.attach_tasks(shared)  # type: ignore[arg-type]


# Scheduling.


async def test_schedule_returns_the_job_that_the_signal_carries(engine: Engine, heard: Heard) -> None:
    @engine.task(name="compute", queue="sums", max_retries=3)
    async def compute(a: int, b: int = 0) -> int:
        return a + b

    before = datetime.now(UTC)
    job = await engine.schedule(compute, 5, b=3)
    assert (job.task_name, job.queue, job.namespace) == ("compute", "sums", engine.namespace)
    assert (job.status, job.retries, job.max_retries) == (JobStatus.QUEUED, 0, 3)
    assert (job.args, job.kwargs) == ((5,), {"b": 3})
    assert abs(job.at - before) < timedelta(seconds=5)
    assert heard == [("job_scheduled", {"job": job})]
    assert heard[0][1]["job"] is job
    assert "5" not in repr(job).replace(job.id, "").replace(engine.namespace, "")


async def test_the_three_ways_to_schedule_are_equivalent(engine: Engine, heard: Heard) -> None:
    ran: list[tuple[int, int]] = []

    @engine.task(name="compute")
    async def compute(a: int, b: int) -> None:
        ran.append((a, b))

    jobs = [
        await engine.schedule(compute, 1, b=2),
        await engine.schedule("compute", 1, b=2),
        await compute.schedule(1, b=2),
        await engine.schedule_at(compute, datetime.now(UTC), 1, b=2),
        await compute.schedule_at(datetime.now(UTC), 1, b=2),
        *await engine.schedule_batch(Batch().schedule(compute, 1, b=2).schedule("compute", 1, b=2)),
    ]
    assert len({job.id for job in jobs}) == 7
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == [(1, 2)] * 7


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30)), None])
async def test_a_job_for_later_waits_in_utc(engine: Engine, zone: timezone | None) -> None:
    @engine.task
    async def job() -> None:
        pass

    at = hour().replace(microsecond=0)
    given = at.astimezone(zone) if zone is not None else at.replace(tzinfo=None)
    scheduled = await engine.schedule_at(job, given)
    assert scheduled.status is JobStatus.WAITING
    assert scheduled.at == at
    assert scheduled.at.tzinfo is UTC


@pytest.mark.parametrize(
    "at", [None, 5, "tomorrow", timedelta(hours=1), datetime(1960, 1, 1, tzinfo=UTC), datetime.max]
)
async def test_a_moment_is_a_datetime(engine: Engine, heard: Heard, at: Any) -> None:
    @engine.task
    async def job() -> None:
        pass

    with pytest.raises(InvalidValue):
        await engine.schedule_at(job, at)
    with pytest.raises(InvalidValue):
        Batch().schedule_at(job, at)
    assert heard == []


async def test_tasks_of_another_registry_are_refused(engine: Engine, heard: Heard) -> None:
    async def function() -> None:
        pass

    @Tasks().task
    async def foreign() -> None:
        pass

    with pytest.raises(UnknownTask, match="foreign"):
        await engine.schedule(foreign)
    with pytest.raises(UnknownTask, match="nobody"):
        await engine.schedule("nobody")
    with pytest.raises(InvalidValue, match="decorate"):
        await engine.schedule(function)  # type: ignore[call-overload]
    with pytest.raises(InvalidValue):
        await engine.schedule("not a name")
    with pytest.raises(UnknownTask):
        await engine.execute(foreign)
    with pytest.raises(UnknownTask):
        await engine.schedule_batch(Batch().schedule(foreign))
    assert heard == []


async def test_a_foreign_task_with_a_known_name_is_refused(engine: Engine) -> None:
    @engine.task(name="same")
    async def ours() -> None:
        pass

    @Tasks().task(name="same")
    async def theirs() -> None:
        pass

    with pytest.raises(UnknownTask, match="same"):
        await engine.schedule(theirs)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "a"),
        ((1, 2, 3), {}, "job"),
        ((1,), {"c": 1}, "c"),
        ((1,), {"a": 1}, "a"),
        (("text",), {}, "a"),
        ((object(),), {}, "a"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused(
    engine: Engine, heard: Heard, args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    @engine.task(name="job")
    async def job(a: int, b: int = 0) -> None:
        pass

    schedule: Callable[..., Any] = engine.schedule
    for task in (job, "job"):
        with pytest.raises(InvalidArguments, match=message):
            await schedule(task, *args, **kwargs)
    with pytest.raises(InvalidArguments, match=message):
        await engine.schedule_batch(Batch().schedule("job", *args, **kwargs))
    assert heard == []


# Ids.


async def test_an_id_is_stored_once(engine: Engine, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task
    async def job(number: int) -> None:
        ran.append(number)

    first = await job.options(id="order-17").schedule(1)
    assert (first.id, first.status) == ("order-17", JobStatus.QUEUED)
    for again in (
        await job.options(id="order-17").schedule(2),
        await job.options(id="order-17").schedule_at(hour(), 3),
        await engine.schedule(job.options(id="order-17"), 4),
        *await engine.schedule_batch(Batch().schedule(job.options(id="order-17"), 5)),
    ):
        assert again == first
        assert again.status is JobStatus.NOT_SET
    assert heard.names() == ["job_scheduled"]
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == [1]
    # And for ten minutes after it was stored.
    assert (await job.options(id="order-17").schedule(6)).status is JobStatus.NOT_SET
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == [1]


async def test_an_id_belongs_to_its_queue(engine: Engine) -> None:
    @engine.task(queue="a")
    async def in_a() -> None:
        pass

    @engine.task(queue="b")
    async def in_b() -> None:
        pass

    first = await in_a.options(id="same").schedule()
    second = await in_b.options(id="same").schedule()
    assert first.status is second.status is JobStatus.QUEUED
    assert first != second


async def test_options_apply_to_one_call(engine: Engine) -> None:
    @engine.task
    async def job() -> None:
        pass

    await job.options(id="mine").schedule()
    assert (await job.schedule()).id != "mine"
    assert job.options(id=None)._job_id is None


@pytest.mark.parametrize("job_id", ["", "a b", "x" * 201, 5, b"x"])
async def test_an_id_has_few_characters(engine: Engine, job_id: Any) -> None:
    @engine.task
    async def job() -> None:
        pass

    with pytest.raises(InvalidValue, match="job id"):
        job.options(id=job_id)
    await job.options(id="a:b@c.d-e_f").schedule()


async def test_the_id_of_a_cancelled_job_is_free_at_once(engine: Engine, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task
    async def job(number: int) -> None:
        ran.append(number)

    await engine.cancel(await job.options(id="one").schedule(1))
    assert (await job.options(id="one").schedule(2)).status is JobStatus.QUEUED
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == [2]


# Batches.


async def test_a_batch_is_stored_in_its_order(engine: Engine, heard: Heard) -> None:
    ran: list[str] = []

    @engine.task(queue="a")
    async def in_a(label: str) -> None:
        ran.append(label)

    @engine.task(queue="b")
    async def in_b(label: str) -> None:
        ran.append(label)

    batch = Batch().schedule(in_a, "a1").schedule(in_b, "b1").schedule(in_a, "a2")
    batch.schedule_at(in_b, hour(), "later")
    assert len(batch) == 4
    jobs = await engine.schedule_batch(batch)
    assert [job.args[0] for job in jobs] == ["a1", "b1", "a2", "later"]
    assert [job.status for job in jobs] == [JobStatus.QUEUED] * 3 + [JobStatus.WAITING]
    assert [kwargs["job"] for name, kwargs in heard if name == "job_scheduled"] == jobs
    await engine.start_workers(1, ["a", "b"], stop_when_queue_empty=True)
    assert ran == ["a1", "a2", "b1"]


async def test_an_empty_batch_stores_nothing(engine: Engine, heard: Heard) -> None:
    assert await engine.schedule_batch(Batch()) == []
    assert heard == []
    with pytest.raises(InvalidValue):
        await engine.schedule_batch([])  # type: ignore[arg-type]


async def test_a_batch_with_one_bad_job_stores_none(engine: Engine, heard: Heard) -> None:
    @engine.task(name="job")
    async def job(number: int) -> None:
        pass

    batch = Batch().schedule(job, 1).schedule("job", "text").schedule(job, 3)
    with pytest.raises(InvalidArguments):
        await engine.schedule_batch(batch)
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names() == ["worker_started", "worker_terminated"]


async def test_a_batch_holds_ten_thousand_jobs(engine: Engine) -> None:
    @engine.task
    async def job() -> None:
        pass

    batch = Batch()
    for _ in range(10_000):
        batch.schedule(job)
    with pytest.raises(BatchTooLarge):
        batch.schedule(job)
    assert len(batch) == 10_000
    assert len(await engine.schedule_batch(batch)) == 10_000


@pytest.mark.parametrize("named", [True, False])
async def test_a_batch_holds_eight_megabytes(engine: Engine, heard: Heard, named: bool) -> None:
    @engine.task(name="job")
    async def job(text: str) -> None:
        pass

    async def store() -> None:
        batch = Batch()
        for _ in range(42):
            batch.schedule("job" if named else job, "x" * 200_000)
        await engine.schedule_batch(batch)

    with pytest.raises(BatchTooLarge):
        await store()
    assert heard == []


class QueueAway(MemoryBroker):
    """Refuses to store jobs in one queue."""

    def __init__(self, queue: str) -> None:
        super().__init__()
        self._away = queue

    async def enqueue(self, queue: str, jobs: Any, **options: Any) -> list[bool]:
        if queue == self._away:
            raise BrokerUnavailable("away")
        return await super().enqueue(queue, jobs, **options)


@pytest.mark.parametrize(("away", "stored"), [("a", None), ("b", ["a1", "a2"]), ("c", ["a1", "b1", "a2"])])
async def test_the_error_for_a_batch_over_several_queues_names_the_stored_jobs(
    namespace: str, away: str, stored: list[str] | None
) -> None:
    engine = Engine(QueueAway(away), namespace)

    async def body(label: str) -> None:
        pass

    batch = Batch()
    for queue in "abc":
        engine.task(name=queue, queue=queue)(body)
    for label in ("a1", "b1", "a2", "c1"):
        batch.schedule(label[0], label)
    if stored is None:
        with pytest.raises(BrokerUnavailable):
            await engine.schedule_batch(batch)
        return
    with pytest.raises(BatchPartlyStored) as caught:
        await engine.schedule_batch(batch)
    assert [job.args[0] for job in caught.value.stored] == stored
    assert isinstance(caught.value.__cause__, BrokerUnavailable)


# Inline execution.


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_executing_runs_the_body_with_its_signals_and_no_broker(
    namespace: str, heard: Heard, kind: str
) -> None:
    broker = QueueAway("default")
    engine = Engine(broker, namespace)
    seen: list[Any] = []

    if kind == "async":

        @engine.task(name="add", max_retries=5)
        async def add(a: int, b: int) -> int:
            seen.append(current_job())
            return a + b

    else:

        @engine.task(name="add", max_retries=5)
        def add_in_thread(a: int, b: int) -> int:
            seen.append(current_job())
            assert threading.current_thread() is not threading.main_thread()
            return a + b

    assert await engine.execute("add", 5, b=3) == 8
    assert heard.names() == ["job_started", "job_finished"]
    started, finished = heard[0][1], heard[1][1]
    assert seen == [started["job"]]
    assert (started["job"].status, finished["job"].status) == (JobStatus.RUNNING, JobStatus.SUCCEEDED)
    assert (started["job"].args, started["job"].kwargs) == ((5,), {"b": 3})
    assert (finished["err"], finished["result"]) == (None, 8)
    assert 0 <= finished["duration"] < 5
    assert started["job"] == finished["job"]
    assert current_job() is None


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_executing_raises_what_the_body_raises(engine: Engine, heard: Heard, kind: str) -> None:
    error = ValueError("mine")

    if kind == "async":

        @engine.task(name="bad", max_retries=3)
        async def bad() -> None:
            raise error

    else:

        @engine.task(name="bad", max_retries=3)
        def bad_in_thread() -> None:
            raise error

    with pytest.raises(ValueError, match="mine") as caught:
        await engine.execute("bad")
    assert caught.value is error
    assert heard.names() == ["job_started", "job_finished"]
    assert heard.last("job_finished")["err"] is error
    assert heard.last("job_finished")["job"].status is JobStatus.FAILED
    assert current_job() is None


async def test_executing_applies_the_timeout_of_the_task(engine: Engine, heard: Heard) -> None:
    @engine.task(timeout=0.02)
    async def slow() -> None:
        await asyncio.Event().wait()

    with pytest.raises(JobTimeout, match=r"0\.02 s"):
        await engine.execute(slow)
    assert isinstance(heard.last("job_finished")["err"], JobTimeout)


async def test_a_timeout_error_of_the_body_is_not_the_timeout_of_the_task(engine: Engine) -> None:
    @engine.task(timeout=30)
    async def own() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError) as caught:
        await engine.execute(own)
    assert type(caught.value) is TimeoutError


async def test_cancelling_an_execution_cancels_the_body(engine: Engine, heard: Heard) -> None:
    cancelled: list[int] = []

    @engine.task
    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(1)

    execution = asyncio.create_task(engine.execute(endless))
    await until(lambda: heard.count("job_started"))
    await asyncio.sleep(0)
    execution.cancel()
    with pytest.raises(asyncio.CancelledError):
        await execution
    assert cancelled == [1]
    assert heard.names() == ["job_started", "job_finished"]
    assert isinstance(heard.last("job_finished")["err"], asyncio.CancelledError)


async def test_cancelling_an_execution_waits_for_its_thread(engine: Engine, heard: Heard) -> None:
    release = threading.Event()
    began = threading.Event()

    @engine.task
    def blocked() -> str:
        began.set()
        assert release.wait(30)
        return "to the end"

    execution = asyncio.create_task(engine.execute(blocked))
    await until(began.is_set)
    execution.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not execution.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await execution
    assert heard.names() == ["job_started", "job_finished"]


async def test_a_timeout_around_an_execution_also_ends_one_in_a_thread(engine: Engine) -> None:
    release = threading.Event()

    @engine.task
    def blocked() -> None:
        assert release.wait(30)

    asyncio.get_running_loop().call_later(0.05, release.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await engine.execute(blocked)


async def test_an_execution_shares_the_context_of_its_caller(engine: Engine) -> None:
    seen: list[str] = []

    @engine.task
    async def job() -> None:
        seen.append(VALUE.get())
        VALUE.set("by the body")

    VALUE.set("by the caller")
    await engine.execute(job)
    assert (seen, VALUE.get()) == (["by the caller"], "by the body")


async def test_executions_within_a_job_have_a_job_of_their_own(engine: Engine, heard: Heard) -> None:
    seen: list[Any] = []

    @engine.task
    async def inner() -> None:
        seen.append(current_job())

    @engine.task
    async def outer() -> None:
        seen.append(current_job())
        await engine.execute(inner)
        seen.append(current_job())

    job = await outer.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert [one.task_name for one in seen] == [outer.name, inner.name, outer.name]
    assert seen[0] == seen[2] == job


async def test_executing_checks_that_the_arguments_fit(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def job(a: int) -> int:
        return a

    execute: Callable[..., Any] = engine.execute
    with pytest.raises(InvalidArguments):
        await execute(job)
    with pytest.raises(InvalidArguments):
        await execute(job, 1, 2)
    assert heard == []
    assert await execute(job, a=1) == 1


async def test_executing_accepts_arguments_that_no_broker_could_store(engine: Engine) -> None:
    @engine.task
    async def same(value: object) -> object:
        return value

    value = object()
    assert await engine.execute(same, value) is value


async def test_an_execution_has_the_given_id(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def job() -> None:
        pass

    await engine.execute(job.options(id="here"))
    assert heard.last("job_finished")["job"].id == "here"


# The engine as a whole.


class Opened(MemoryBroker):
    """Counts how often it was opened and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    async def open(self, namespace: str, **options: Any) -> None:
        self.calls.append(f"open {namespace}")
        await super().open(namespace, **options)

    async def aclose(self) -> None:
        self.calls.append("close")
        await super().aclose()


async def test_the_broker_is_opened_by_entering_an_engine_not_by_creating_it(namespace: str) -> None:
    broker = Opened()
    engine = Engine(broker, namespace)

    @engine.task
    async def job() -> None:
        pass

    assert broker.calls == []
    async with engine as entered:
        assert entered is engine
        assert broker.calls == [f"open {namespace}"]
    assert broker.calls[-1] == "close"
    await engine.schedule(job)
    assert broker.calls[-1] == f"open {namespace}"


async def test_leaving_an_engine_closes_its_broker_even_if_its_workers_crashed(namespace: str) -> None:
    class Broken(Opened):
        async def sweep(self, *arguments: Any, **last: Any) -> Any:
            raise RuntimeError("defect")

    broker = Broken()
    terminated = asyncio.Event()
    signals.worker_terminated.connect(lambda sender, **kwargs: terminated.set(), namespace)

    async def main() -> None:
        async with Engine(broker, namespace) as engine:
            await engine.start_workers(block=False)
            await terminated.wait()

    with pytest.raises(RuntimeError, match="defect"):
        await main()
    assert broker.calls[-1] == "close"


async def test_two_engines_in_one_process_run_and_signal_only_their_own_jobs(
    namespace: str, heard: Heard
) -> None:
    mine, other = Engine(MemoryBroker(), namespace), Engine(MemoryBroker(), f"{namespace}-other")
    ran: list[str] = []
    for engine in (mine, other):

        @engine.task(name="job")
        async def job() -> None:
            running = current_job()
            assert running is not None
            ran.append(running.namespace)

        await engine.schedule("job")
    await asyncio.gather(
        mine.start_workers(stop_when_queue_empty=True), other.start_workers(stop_when_queue_empty=True)
    )
    assert sorted(ran) == [namespace, f"{namespace}-other"]
    assert heard.count("job_finished") == 1


async def test_a_cancelled_schedule_either_stores_and_signals_the_job_or_neither(
    engine: Engine, heard: Heard
) -> None:
    ran: list[int] = []

    @engine.task
    async def job(number: int) -> None:
        ran.append(number)

    for number in range(20):
        scheduling = asyncio.create_task(job.schedule(number))
        if number % 2:
            await asyncio.sleep(0)
        scheduling.cancel()
        await asyncio.wait([scheduling])
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == sorted(set(ran))
    assert len(ran) == heard.count("job_scheduled")


async def test_a_job_that_another_process_stored_is_run(namespace: str, heard: Heard) -> None:
    broker = MemoryBroker()
    engine = Engine(broker, namespace)

    @engine.task(name="add")
    async def add(a: int, *, b: int) -> int:
        return a + b

    await broker.enqueue("default", [Envelope("elsewhere", "add", b'[[5],{"b":3}]')])
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.last("job_finished")["result"] == 8
    assert heard.last("job_finished")["job"].id == "elsewhere"
