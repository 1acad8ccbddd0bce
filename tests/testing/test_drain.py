"""``drain`` and ``advance``: jobs run when the test asks for it, in the order of their moments."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from aiospinach import (
    AbortException,
    AlreadyRunning,
    Batch,
    Cron,
    Engine,
    InvalidValue,
    Job,
    JobStatus,
    MemoryBroker,
    RetryException,
    UnknownTask,
    WorkerLost,
    current_job,
    signals,
    testing,
)

from ..waiting import until
from .conftest import Shop


@pytest.fixture
def engine(namespace: str) -> Engine:
    return Engine(MemoryBroker(), namespace)


@pytest.fixture
def jobs(engine: Engine) -> Iterator[testing.Jobs]:
    with testing.memory(engine) as jobs:
        yield jobs


# What is due.


async def test_a_drain_runs_what_is_due_and_what_these_jobs_schedule(
    engine: Engine, jobs: testing.Jobs
) -> None:
    done: list[int] = []

    @engine.task
    async def count_down(left: int) -> None:
        done.append(left)
        if left:
            await count_down.schedule(left - 1)

    await count_down.schedule(3)
    await count_down.schedule_at(jobs.now + timedelta(hours=1), 0)
    assert await jobs.drain() == 4
    assert done == [3, 2, 1, 0]
    assert (await engine.counts())["default"].waiting == 1
    assert await jobs.drain() == 0


async def test_a_drain_ends_after_the_last_signal_and_the_jobs_of_its_receivers(
    engine: Engine, jobs: testing.Jobs
) -> None:
    done: list[str] = []

    @engine.task
    async def work(what: str) -> None:
        done.append(what)

    @signals.job_finished.connect_via(engine.namespace)
    async def follow(namespace: str, job: Job, **kwargs: object) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        if job.args == ("a",):
            await work.schedule("b")
        done.append(f"after {job.args[0]}")

    await work.schedule("a")
    assert await jobs.drain() == 2
    assert sorted(done) == ["a", "after a", "after b", "b"]


async def test_queues_limits_threads_and_batches(engine: Engine, jobs: testing.Jobs) -> None:
    running: list[int] = []
    most = 0

    @engine.task(queue="mail", max_concurrency=1)
    async def one_by_one(number: int) -> None:
        nonlocal most
        running.append(number)
        most = max(most, len(running))
        await asyncio.sleep(0)
        running.remove(number)

    @engine.task
    def plain(number: int) -> None:
        assert threading.current_thread() is not threading.main_thread()

    batch = Batch()
    for number in range(10):
        batch.schedule(one_by_one, number)
        batch.schedule(plain, number)
    await engine.schedule_batch(batch)
    assert await jobs.drain() == 20
    assert (most, jobs.runs(one_by_one), jobs.runs(plain)) == (1, 10, 10)


async def test_jobs_of_a_task_that_is_attached_later_wait_and_then_run(
    engine: Engine, jobs: testing.Jobs
) -> None:
    @engine.task(name="known")
    async def known() -> None: ...

    @engine.task(name="late")
    async def late() -> None: ...

    await late.schedule()
    await late.schedule()
    task = engine._tasks._tasks.pop("late")  # another release of the program has it
    assert await jobs.drain() == 0
    assert (await engine.counts())["default"].parked == 2
    engine._tasks._tasks["late"] = task
    assert await jobs.drain() == 2


async def test_the_workers_of_the_application_run_the_jobs_of_their_queues(
    engine: Engine, jobs: testing.Jobs
) -> None:
    @engine.task(queue="mail")
    async def mail() -> None: ...

    @engine.task
    async def other() -> None: ...

    await mail.schedule()
    await other.schedule()
    await engine.start_workers(queue="mail", block=False)
    assert await jobs.drain() == 1
    await engine.stop_workers()
    assert await jobs.drain() == 1


# Errors.


async def test_a_drain_raises_the_error_of_a_job_that_failed(engine: Engine, jobs: testing.Jobs) -> None:
    done: list[str] = []

    @engine.task
    async def fail() -> None:
        raise ZeroDivisionError("secret")

    @engine.task
    async def succeed() -> None:
        done.append("done")

    await fail.schedule()
    await succeed.schedule()
    with pytest.raises(ZeroDivisionError) as caught:
        await jobs.drain()
    assert done == ["done"]  # all has run
    assert "drain(): the first error" in caught.value.__notes__[0]
    assert await jobs.drain() == 0  # it is raised once


async def test_an_error_that_is_followed_by_a_retry_is_raised_too(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError

    with testing.memory(shop.engine) as jobs:
        monkeypatch.setattr(shop.engine._tasks.find("note"), "function", fail)
        await shop.engine.schedule("note", "a")
        with pytest.raises(ZeroDivisionError):
            await jobs.drain()
        assert await jobs.advance(days=1, raise_errors=False) == 3


async def test_errors_that_were_asked_for_or_overcome_are_not_raised(
    engine: Engine, jobs: testing.Jobs
) -> None:
    tries: list[int] = []

    @engine.task(max_retries=3, backoff=lambda retry: 60)
    async def flaky() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise RetryException("later", at=timedelta(minutes=1))
        if len(tries) == 2:
            raise ZeroDivisionError

    await flaky.schedule()
    assert await jobs.drain() == 1
    assert await jobs.advance(minutes=5) == 2
    await flaky.schedule()
    assert await jobs.drain() == 1


async def test_an_abort_is_a_failure_and_raise_errors_may_be_off(engine: Engine, jobs: testing.Jobs) -> None:
    @engine.task(max_retries=3)
    async def abort() -> None:
        raise AbortException("never")

    await abort.schedule()
    assert await jobs.drain(raise_errors=False) == 1
    await abort.schedule()
    with pytest.raises(AbortException):
        await jobs.drain()


async def test_a_cancelled_job_raises_nothing(engine: Engine, jobs: testing.Jobs) -> None:
    @engine.task
    async def cancel_itself() -> None:
        job = current_job()
        assert job is not None
        assert await engine.cancel(job) is JobStatus.RUNNING
        await asyncio.Event().wait()

    await cancel_itself.schedule()
    assert await jobs.drain() == 1


# Ends.


async def test_an_endless_chain_is_an_error_and_stops(engine: Engine, jobs: testing.Jobs) -> None:
    @engine.task(name="endless")
    async def endless() -> None:
        await endless.schedule()

    await endless.schedule()
    with pytest.raises(AssertionError, match=r"more than 50 jobs ran at one moment.* of endless"):
        await jobs.drain(limit=50)
    assert 50 < jobs.runs(endless) < 80


async def test_a_body_that_hangs_is_named_and_cancelled(engine: Engine, jobs: testing.Jobs) -> None:
    ended: list[str] = []

    @engine.task(name="hang")
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    job = await hang.schedule()
    with pytest.raises(TimeoutError, match=rf"after 0.1 s these jobs still run: hang {job.id}"):
        await jobs.drain(timeout=0.1)
    assert ended == ["cancelled"]
    assert await jobs.drain() == 0


async def test_a_thread_that_hangs_does_not_hold_up_the_test(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiospinach.testing.drive.END_WITHIN", 0.1)
    may_end = threading.Event()

    @engine.task(name="hang")
    def hang() -> None:
        may_end.wait(50)

    memory = testing.memory(engine)
    jobs = await memory.__aenter__()
    await hang.schedule()
    with pytest.raises(TimeoutError, match="hang") as caught:
        await jobs.drain(timeout=0.1)
    await memory.__aexit__(TimeoutError, caught.value, None)
    may_end.set()
    await until(lambda: not engine._workers.is_running, "the workers have ended")


async def test_workers_that_are_stopped_meanwhile_are_an_error(engine: Engine, jobs: testing.Jobs) -> None:
    @engine.task
    async def stop() -> None:
        await engine.stop_workers()

    await stop.schedule()
    await engine.start_workers(block=False)
    with pytest.raises(TimeoutError, match="were they stopped"):
        await jobs.drain(timeout=0.2)


async def test_a_drain_within_a_drain_is_refused(engine: Engine, jobs: testing.Jobs) -> None:
    @engine.task
    async def drain() -> None:
        await jobs.drain()

    await drain.schedule()
    with pytest.raises(AlreadyRunning, match="await it first, and call none of them in a job"):
        await jobs.drain()
    assert await jobs.drain() == 0


async def test_a_cancelled_drain_cancels_the_bodies(engine: Engine, jobs: testing.Jobs) -> None:
    ended: list[str] = []

    @engine.task
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    await hang.schedule()
    draining = asyncio.create_task(jobs.drain())
    await until(lambda: jobs.runs(hang), "the body runs")
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert ended == ["cancelled"]
    assert not engine._workers.is_running


# The clock.


async def test_a_retry_after_20_minutes_takes_milliseconds(engine: Engine, jobs: testing.Jobs) -> None:
    moments: list[datetime] = []

    @engine.task(max_retries=1, backoff=lambda retry: 1200)
    async def flaky() -> None:
        moments.append(jobs.now)
        if len(moments) == 1:
            raise ZeroDivisionError

    await flaky.schedule()
    assert await jobs.drain(raise_errors=False) == 1
    assert await jobs.advance(minutes=19) == 0
    assert await jobs.advance(minutes=1) == 1  # at once: the time limit of a test is less than 20 minutes
    assert moments[1] - moments[0] >= timedelta(minutes=20)


async def test_future_jobs_retries_and_ticks_run_at_their_moments_and_in_order(
    engine: Engine, jobs: testing.Jobs
) -> None:
    done: list[tuple[str, int]] = []
    begin = jobs.now

    def note(what: str) -> None:
        done.append((what, round((jobs.now - begin) / timedelta(minutes=1))))

    @engine.task(name="hourly", periodicity=timedelta(hours=1))
    async def hourly() -> None:
        note("hourly")

    @engine.task(max_retries=1, backoff=lambda retry: 50 * 60)
    async def flaky() -> None:
        note("flaky")
        if len([what for what, _ in done if what == "flaky"]) == 1:
            raise ZeroDivisionError

    @engine.task
    async def later(what: str) -> None:
        note(what)
        if what == "second":
            await later.schedule_at(jobs.now + timedelta(minutes=5), "third")

    await later.schedule_at(begin + timedelta(minutes=40), "second")
    await later.schedule_at(begin + timedelta(minutes=20), "first")
    await flaky.schedule()
    assert await jobs.advance(minutes=55) >= 5
    own = [event for event in done if event[0] != "hourly"]
    assert own == [("flaky", 0), ("first", 20), ("second", 40), ("third", 45), ("flaky", 50)]
    before = jobs.runs(hourly)
    await jobs.advance(hours=24)
    assert jobs.runs(hourly) == before + 24
    assert done == sorted(done, key=lambda event: event[1])


@pytest.mark.parametrize(
    ("expression", "zone"),
    [("30 2 * * *", "Europe/Berlin"), ("0 */6 * * *", "America/New_York"), ("15 1 * * 0", "Europe/London")],
)
async def test_a_year_of_a_cron_across_both_changes_of_the_clock(
    namespace: str, expression: str, zone: str
) -> None:
    engine = Engine(MemoryBroker(), namespace)
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)

    @engine.task(periodicity=Cron(expression, tz=zone))
    async def report() -> None: ...

    with testing.memory(engine, at=begin) as jobs:
        ran = await jobs.advance(end - begin)
        moments = [job.at for job in jobs.scheduled]
    expected = []
    for moment in CronSim(expression, begin.astimezone(ZoneInfo(zone))):
        if moment >= end:
            break
        expected.append(moment.astimezone(UTC))
    assert moments == expected
    assert ran == len(expected) > 50


async def test_the_clock_stands_at_the_end_of_the_time_also_if_nothing_is_due(
    engine: Engine, jobs: testing.Jobs
) -> None:
    before = jobs.now
    assert await jobs.advance(timedelta(days=1), hours=2, minutes=3, seconds=4) == 0
    passed = jobs.now - before - timedelta(days=1, hours=2, minutes=3, seconds=4)
    assert timedelta(0) <= passed < timedelta(seconds=30)


async def test_the_clock_does_not_go_back(jobs: testing.Jobs) -> None:
    with pytest.raises(InvalidValue, match="forward"):
        await jobs.advance(hours=-1)


async def test_a_delay_from_now_is_over_after_as_much_time(engine: Engine, jobs: testing.Jobs) -> None:
    """The clock runs: what code adds to ``datetime.now()`` later in a test is not due too late."""

    @engine.task
    async def work() -> None: ...

    await asyncio.sleep(0.01)
    await work.schedule_at(datetime.now(UTC) + timedelta(days=1))
    jobs.assert_scheduled(work, after=timedelta(days=1))
    assert await jobs.advance(hours=23, minutes=59) == 0
    assert await jobs.advance(minutes=1) == 1


async def test_a_lost_job_without_retries_is_an_error_of_advance(engine: Engine, jobs: testing.Jobs) -> None:
    @engine.task
    async def once() -> None: ...

    await once.schedule()
    jobs.lose_worker()
    assert await jobs.drain() == 1
    with pytest.raises(WorkerLost):
        await jobs.advance(minutes=2)


async def test_an_unknown_task_is_named(jobs: testing.Jobs) -> None:
    task: Any = "nothing"
    with pytest.raises(UnknownTask):
        jobs.runs(task)


@pytest.mark.parametrize("has_workers", [False, True])
async def test_a_drain_ends_although_paused_jobs_are_ready(
    engine: Engine, jobs: testing.Jobs, has_workers: bool
) -> None:
    done: list[int] = []

    @engine.task(queue="mail", name="send")
    async def send(number: int) -> None:
        done.append(number)

    @engine.task(queue="mail", name="other", max_concurrency=1)
    async def other(number: int) -> None:
        done.append(number)

    if has_workers:
        await engine.start_workers(2, block=False)
    await engine.pause(queue="mail")
    await send.schedule(1)
    await other.schedule(2)
    await engine.schedule_at(send, jobs.now + timedelta(seconds=30), 3)
    assert await jobs.drain() == 0
    assert await jobs.advance(minutes=1) == 0
    assert await engine.resume(queue="mail")
    assert await jobs.drain() == 3
    await engine.pause(send, for_=timedelta(minutes=5))
    await send.schedule(4)
    await other.schedule(5)
    assert await jobs.drain() == 1
    assert await jobs.advance(minutes=4) == 0
    assert await jobs.advance(minutes=2) == 1
    assert sorted(done[:3]) == [1, 2, 3]
    assert done[3:] == [5, 4]
    await engine.stop_workers()
