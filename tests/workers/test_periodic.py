"""Periodic tasks fire each tick at most once, and skip missed ticks."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from aiospinach import Cron, Engine, InvalidValue, Job, JobStatus, MemoryBroker, current_job
from aiospinach.brokers.records import Fired, Firing, TickResult

from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


class Hourly(Cron):
    """Due every hour, last ``ago`` milliseconds before now."""

    def __init__(self, ago: int) -> None:
        super().__init__("0 * * * *")
        self.due = round(time.time() * 1000) - ago

    def next_after(self, now: int) -> int:
        hours = (now - self.due) // 3_600_000 + 1
        return self.due + hours * 3_600_000


async def test_a_period_fires_each_of_its_ticks_once(engine: Engine, heard: Heard) -> None:
    jobs: list[Job] = []

    @engine.task(periodicity=timedelta(milliseconds=100))
    async def tick() -> None:
        job = current_job()
        assert job is not None
        assert datetime.now(UTC) >= job.at
        jobs.append(job)

    await engine.start_workers(3, block=False)
    await until(lambda: len(jobs) >= 4)
    await engine.stop_workers()
    dues = [milliseconds(job.at) for job in jobs]
    assert len(set(dues)) == len(dues)
    assert all(due % 100 == 0 for due in dues)
    assert [job.id for job in jobs] == [f"{tick.name}@{due}" for due in dues]
    scheduled = [kwargs["job"] for name, kwargs in heard if name == "job_scheduled"]
    assert scheduled[: len(jobs)] == jobs
    assert {job.status for job in scheduled} == {JobStatus.QUEUED}


async def test_a_periodic_job_is_retried_like_any_other(engine: Engine, heard: Heard) -> None:
    tries: list[str] = []

    calendar = Hourly(1000)

    @engine.task(periodicity=calendar, max_retries=2, backoff=lambda attempt: 0)
    async def tick() -> None:
        job = current_job()
        assert job is not None
        tries.append(job.id)
        raise ValueError

    broker: FailingBroker = engine._broker  # type: ignore[assignment]
    due = calendar.due
    await broker.register("default", {}, {tick.name: due})
    await engine.start_workers(block=False)
    await until(lambda: heard.count("job_failed"))
    await engine.stop_workers()
    assert tries == [f"{tick.name}@{due}"] * 3


async def test_a_tick_that_is_late_fires_once(engine: Engine, broker: FailingBroker, heard: Heard) -> None:
    calendar = Hourly(30_000)

    @engine.task(periodicity=calendar)
    async def tick() -> None:
        pass

    due = calendar.due
    await broker.register("default", {}, {tick.name: due})
    await engine.start_workers(block=False)
    await until(lambda: heard.count("job_finished"))
    await engine.stop_workers()
    assert [kwargs["job"].id for name, kwargs in heard if name == "job_finished"] == [f"{tick.name}@{due}"]
    assert milliseconds(heard.last("job_finished")["job"].at) == due


async def test_missed_ticks_are_skipped_and_logged(
    engine: Engine, broker: FailingBroker, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    @engine.task(periodicity=timedelta(seconds=1000))
    async def tick() -> None:
        pass

    before = broker.now()
    await broker.register("default", {}, {tick.name: before // 1_000_000 * 1_000_000 - 10_000_000})
    await engine.start_workers(block=False)
    await until(lambda: "missed" in caplog.text)
    await until(lambda: broker.sleepers)
    await engine.stop_workers()
    assert tick.name in caplog.text
    assert heard.names() == ["worker_started", "worker_terminated"]
    ticked = await broker.tick("default")
    assert ticked.periodic == []
    assert ticked.next_due is not None
    assert before + ticked.next_due * 1000 <= before + 1_000_000 + 1000


async def test_a_restart_does_not_fire_a_tick_again(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    calendar = Hourly(1)

    @engine.task(periodicity=calendar)
    async def tick() -> None:
        pass

    await broker.register("default", {}, {tick.name: calendar.due})
    for _ in range(3):
        await engine.start_workers(block=False)
        await until(lambda: heard.count("job_finished") and broker.sleepers)
        await engine.stop_workers()
    assert heard.count("job_scheduled") == 1
    assert heard.count("job_finished") == 1


async def test_a_tick_fired_by_another_worker_is_not_fired_again(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    calendar = Hourly(1)

    @engine.task(periodicity=calendar)
    async def tick() -> None:
        pass

    due = calendar.due
    await broker.register("default", {}, {tick.name: due})
    elsewhere = [Firing(tick.name, due, due + 3_600_000)]
    assert await broker.fire("default", elsewhere) == [Fired.MOVED]
    assert await broker.fire("default", elsewhere) == [Fired.TAKEN]
    await engine.start_workers(block=False)
    await until(lambda: broker.sleepers)
    await engine.stop_workers()
    assert heard.count("job_scheduled") == 0


async def test_a_tick_of_the_previous_calendar_of_a_task_is_not_fired(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    """A release that changes a monthly calendar may be started at any moment of the month."""
    calendar = Hourly(1000)

    @engine.task(periodicity=calendar)
    async def tick() -> None:
        pass

    await broker.register("default", {}, {tick.name: calendar.due - 1})
    await engine.start_workers(block=False)
    await until(lambda: broker.sleepers)
    await engine.stop_workers()
    assert heard.names() == ["worker_started", "worker_terminated"]
    assert (await broker.tick("default")).periodic == []
    assert await broker.fire("default", [Firing(tick.name, calendar.next_after(broker.now()), 2**50)]) == [
        Fired.MOVED
    ], "it is due by the new calendar"


async def test_a_slow_periodic_job_does_not_delay_the_next_if_they_may_overlap(
    engine: Engine, heard: Heard
) -> None:
    began: list[int] = []
    end = asyncio.Event()

    @engine.task(periodicity=timedelta(milliseconds=100), overlap=True)
    async def tick() -> None:
        began.append(1)
        await end.wait()

    await engine.start_workers(3, block=False)
    await until(lambda: len(began) == 3)
    end.set()
    await engine.stop_workers()


async def test_a_periodic_task_runs_in_a_thread_too(engine: Engine, heard: Heard) -> None:
    @engine.task(periodicity=timedelta(milliseconds=100))
    def tick() -> str:
        return "in a thread"

    await engine.start_workers(block=False)
    await until(lambda: heard.count("job_finished") >= 2)
    await engine.stop_workers()
    assert heard.last("job_finished")["result"] == "in a thread"


async def test_a_periodic_task_attached_while_workers_run_fires(engine: Engine, heard: Heard) -> None:
    await engine.start_workers(block=False)
    ran: list[int] = []

    @engine.task(periodicity=timedelta(milliseconds=100))
    async def late() -> None:
        ran.append(1)

    await until(lambda: len(ran) >= 2, timeout=3)
    await engine.stop_workers()


async def test_a_periodic_task_of_another_queue_fires_for_its_workers_only(
    engine: Engine, heard: Heard
) -> None:
    ran: list[str] = []

    @engine.task(queue="a", periodicity=timedelta(milliseconds=100))
    async def in_a() -> None:
        ran.append("a")

    @engine.task(queue="b", periodicity=timedelta(milliseconds=100))
    async def in_b() -> None:
        ran.append("b")

    await engine.start_workers(2, "a", block=False)
    await until(lambda: len(ran) >= 3)
    await engine.stop_workers()
    assert set(ran) == {"a"}
    await engine.start_workers(2, ["a", "b"], block=False)
    await until(lambda: "b" in ran)
    await engine.stop_workers()


async def test_a_periodic_task_can_be_scheduled_by_hand(engine: Engine, heard: Heard) -> None:
    @engine.task(periodicity=timedelta(hours=1))
    async def tick() -> None:
        pass

    job = await tick.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_finished"]


async def test_ticks_of_one_moment_are_fired_in_one_call(namespace: str, heard: Heard) -> None:
    broker, calendar = CountingBroker(), Hourly(1)
    async with Engine(broker, namespace) as engine:
        for number in range(50):

            @engine.task(name=f"tick-{number}", periodicity=calendar)
            async def tick() -> None:
                pass

        await broker.register("default", {}, {f"tick-{number}": calendar.due for number in range(50)})
        await engine.start_workers(block=False)
        await until(lambda: heard.count("job_finished") == 50)
        await engine.stop_workers()
    assert broker.fired == [50]
    assert heard.count("job_scheduled") == 50


class CountingBroker(FailingBroker):
    """Records the number of ticks that each call fires."""

    def __init__(self) -> None:
        super().__init__()
        self.fired: list[int] = []

    async def fire(self, queue: str, firings: Sequence[Firing]) -> list[Fired]:
        self.fired.append(len(firings))
        return await super().fire(queue, firings)


class FullBroker(FailingBroker):
    """Refuses the jobs of ticks, as a full store does."""

    async def fire(self, queue: str, firings: Sequence[Firing]) -> list[Fired]:
        without = [msgspec.structs.replace(firing, job=None) for firing in firings]
        fired = await super().fire(queue, without)
        return [Fired.REFUSED if how is Fired.MOVED else how for how in fired]


async def test_a_tick_refused_by_a_full_store_is_logged(
    namespace: str, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    broker, calendar = FullBroker(), Hourly(1)
    async with Engine(broker, namespace) as engine:

        @engine.task(periodicity=calendar)
        async def tick() -> None:
            pass

        await broker.register("default", {}, {tick.name: calendar.due})
        await engine.start_workers(block=False)
        await until(lambda: "the store is full" in caplog.text)
        await until(lambda: broker.sleepers)
        await engine.stop_workers()
    [warning] = [record for record in caplog.records if "the store is full" in record.message]
    assert (warning.levelname, tick.name in warning.message) == ("WARNING", True)
    assert heard.count("job_scheduled") == 0


class ShiftedBroker(FailingBroker):
    """A broker whose clock shows a time shortly before a full minute when it is created."""

    def __init__(self, milliseconds_before: int) -> None:
        super().__init__()
        now = int(time.time() * 1000)
        self._shift = 60_000 - now % 60_000 - milliseconds_before

    def now(self) -> int:
        return super().now() + getattr(self, "_shift", 0)


async def test_a_cron_task_fires_on_the_minute(namespace: str, heard: Heard) -> None:
    broker = ShiftedBroker(200)
    minute = (broker.now() // 60_000 + 1) * 60_000
    seen: list[int] = []

    async with Engine(broker, namespace) as engine:

        @engine.task(periodicity=Cron("* * * * *", tz="Europe/Paris"))
        async def tick() -> None:
            seen.append(broker.now())

        await engine.start_workers(block=False)
        await until(lambda: seen, timeout=3)
        await until(lambda: broker.sleepers)
        await engine.stop_workers()
    [job] = [kwargs["job"] for name, kwargs in heard if name == "job_finished"]
    assert job.id == f"{tick.name}@{minute}"
    assert milliseconds(job.at) == minute
    assert minute <= seen[0] < minute + 2000
    next_due = (await broker.tick("default")).next_due
    assert next_due is not None
    assert 50 < next_due <= 60


async def test_a_broker_that_outlives_its_engine_forgets_its_periodic_tasks(namespace: str) -> None:
    broker = Ticking()
    engine = Engine(broker, namespace)

    @engine.task(name="gone", periodicity=timedelta(milliseconds=100))
    async def removed() -> None: ...

    async with engine:
        await engine.start_workers(1, block=False)
        await until(lambda: broker.ticks >= 2)
        await engine.stop_workers()
    del engine, removed
    gc.collect()
    async with Engine(broker, namespace) as engine:

        @engine.task(name="other")
        async def other() -> None: ...

        await engine.start_workers(1, block=False)
        ticks = broker.ticks
        await asyncio.sleep(0.3)
        assert broker.ticks - ticks <= 2
        await engine.stop_workers()


class Ticking(MemoryBroker):
    """Counts the calls of ``tick``."""

    ticks = 0

    async def tick(self, queue: str) -> TickResult:
        self.ticks += 1
        return await super().tick(queue)


@pytest.mark.parametrize("overlap", [False, True])
async def test_ticks_overlap_only_if_allowed(
    engine: Engine, heard: Heard, caplog: pytest.LogCaptureFixture, overlap: bool
) -> None:
    running = most = 0
    end = asyncio.Event()

    @engine.task(name="slow", periodicity=timedelta(milliseconds=100), overlap=overlap)
    async def slow() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await end.wait()
        running -= 1

    await engine.start_workers(5, block=False)
    if overlap:
        await until(lambda: most == 5)
        assert engine.health().skipped_ticks == 0
    else:
        await until(lambda: engine.health().skipped_ticks >= 3)
        assert most == 1
        [line] = [r.getMessage() for r in caplog.records if "a tick is skipped" in r.getMessage()]
        assert line.startswith("task slow: a tick is skipped, since the job of the tick before still waits")
        end.set()
        finished = heard.count("job_finished")
        await until(lambda: heard.count("job_finished") > finished + 2, "it ticks again")
    end.set()
    await engine.stop_workers()


async def test_overlap_is_refused_for_a_task_that_is_not_periodic(engine: Engine) -> None:
    with pytest.raises(InvalidValue, match="task 'job': overlap is for periodic tasks"):

        @engine.task(name="job", overlap=True)
        async def job() -> None:
            pass


@pytest.mark.parametrize("catch_up", [None, 300.0, timedelta(minutes=5)])
async def test_a_missed_tick_fires_once_if_the_task_catches_up(
    engine: Engine, broker: FailingBroker, heard: Heard, catch_up: float | timedelta | None
) -> None:
    @engine.task(name="nightly", periodicity=Cron("* * * * *"), catch_up=catch_up)
    async def nightly() -> None:
        pass

    missed = broker.now() // 60_000 * 60_000 - 180_000
    await broker.register("default", {}, {"nightly": missed})
    await engine.start_workers(block=False)
    await until(lambda: broker._queues["default"].periodic["nightly"] > broker.now())
    await engine.stop_workers()
    ran = [kwargs["job"].id for name, kwargs in heard if name == "job_scheduled"]
    assert ran == ([] if catch_up is None else [f"nightly@{missed}"])


async def test_catch_up_is_refused_for_a_task_that_is_not_periodic(engine: Engine) -> None:
    with pytest.raises(InvalidValue, match="task 'job': catch_up is for periodic tasks"):

        @engine.task(name="job", catch_up=60)
        async def job() -> None:
            pass
