"""When a failed job is retried, and when it is dead."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import AbortException, Engine, JobStatus, JobTimeout, RetryException, current_job

from ..asking import counts
from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker
from .job_results import finish_of, reasons_of_death

TRY = ["job_started", "job_schedule_retry", "job_finished"]


def body_of(kind: str, act: Callable[[], Any]) -> Callable[[], Any]:
    """A body that calls ``act``, in the event loop or in a thread."""

    async def in_loop() -> None:
        act()

    def in_thread() -> None:
        act()

    return in_loop if kind == "async" else in_thread


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_job_is_retried_until_it_succeeds(
    engine: Engine, broker: FailingBroker, heard: Heard, kind: str
) -> None:
    tries: list[int] = []
    attempts: list[int] = []

    def backoff(attempt: int) -> float:
        attempts.append(attempt)
        return 0.01

    def act() -> None:
        job = current_job()
        assert job is not None
        tries.append(job.retries)
        if job.retries < 3:
            raise ValueError("not yet")

    engine.task(name="job", max_retries=5, backoff=backoff)(body_of(kind, act))
    job = await engine.schedule("job")
    await engine.start_workers(stop_when_queue_empty=True)
    assert tries == [0, 1, 2, 3]
    assert attempts == [1, 2, 3]
    assert heard.names(job.id) == ["job_scheduled", *TRY, *TRY, *TRY, "job_started", "job_finished"]
    retried = [kwargs for name, kwargs in heard if name == "job_schedule_retry"]
    assert [finish["job"].retries for finish in retried] == [1, 2, 3]
    assert {finish["job"].status for finish in retried} == {JobStatus.WAITING}
    assert {type(finish["err"]) for finish in retried} == {ValueError}
    assert heard.last("job_finished")["job"].status is JobStatus.SUCCEEDED
    assert (await counts(broker, "default")).dead == 0


async def test_a_job_without_retries_left_has_failed(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    @engine.task(max_retries=2, backoff=lambda attempt: 0)
    async def job() -> None:
        raise ValueError("never")

    scheduled = await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names(scheduled.id) == [
        "job_scheduled",
        *TRY,
        *TRY,
        "job_started",
        "job_failed",
        "job_finished",
    ]
    failed = heard.last("job_failed")
    assert (failed["job"].status, failed["job"].retries) == (JobStatus.FAILED, 2)
    assert await reasons_of_death(broker) == {scheduled.id: "exhausted"}


@pytest.mark.parametrize("error", [ValueError, RetryException])
async def test_a_job_without_retries_starts_once(
    engine: Engine, broker: FailingBroker, heard: Heard, error: type[Exception]
) -> None:
    @engine.task
    async def job() -> None:
        raise error("no")

    scheduled = await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names(scheduled.id) == ["job_scheduled", "job_started", "job_failed", "job_finished"]
    assert type(heard.last("job_failed")["err"]) is error


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_an_abort_ends_the_retries(
    engine: Engine, broker: FailingBroker, heard: Heard, kind: str
) -> None:
    def act() -> None:
        raise AbortException("hopeless")

    engine.task(name="job", max_retries=10)(body_of(kind, act))
    job = await engine.schedule("job")
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_failed", "job_finished"]
    assert await reasons_of_death(broker) == {job.id: "aborted"}


async def test_an_abort_in_a_task_group_ends_the_retries(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    async def child() -> None:
        raise AbortException("no use")

    @engine.task(max_retries=3, backoff=lambda attempt: 0.01)
    async def job() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    scheduled = await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert await reasons_of_death(broker) == {scheduled.id: "aborted"}
    assert heard.count("job_started") == 1


async def test_a_retry_exception_in_a_task_group_sets_the_moment(engine: Engine, heard: Heard) -> None:
    async def child() -> None:
        raise RetryException("later", timedelta(hours=1))

    @engine.task(max_retries=3, backoff=lambda attempt: 0.01)
    async def job() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    scheduled = await job.schedule()
    await engine.start_workers(block=False)
    await until(lambda: heard.count("job_schedule_retry"), "the retry is signalled")
    await engine.stop_workers()
    at = heard.last("job_schedule_retry")["job"].at
    assert timedelta(minutes=59) < at - scheduled.at < timedelta(minutes=61)


async def test_a_job_that_times_out_is_retried(engine: Engine, heard: Heard) -> None:
    tries: list[int] = []

    @engine.task(max_retries=1, timeout=0.02, backoff=lambda attempt: 0)
    async def job() -> None:
        tries.append(1)
        if len(tries) == 1:
            await asyncio.Event().wait()

    await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert len(tries) == 2
    assert isinstance(heard.last("job_schedule_retry")["err"], JobTimeout)
    assert heard.last("job_finished")["err"] is None


async def test_without_a_backoff_the_delay_is_exponential(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    @engine.task(max_retries=3)
    async def job() -> None:
        raise ValueError

    before = datetime.now(UTC)
    scheduled = await job.schedule()
    await engine.start_workers(block=False)
    await finish_of(heard, scheduled)
    await engine.stop_workers()
    delay = heard.last("job_schedule_retry")["job"].at - before
    assert timedelta(seconds=2.99) <= delay <= timedelta(seconds=16)
    assert (await counts(broker, "default")).waiting == 1


@pytest.mark.parametrize(
    "backoff",
    [lambda attempt: 0.1, lambda attempt: timedelta(milliseconds=100), lambda attempt: attempt / 10],
)
async def test_the_backoff_sets_the_delay(
    engine: Engine, heard: Heard, backoff: Callable[[int], float | timedelta]
) -> None:
    tries: list[datetime] = []

    @engine.task(max_retries=1, backoff=backoff)
    async def job() -> None:
        tries.append(datetime.now(UTC))
        if len(tries) == 1:
            raise ValueError

    await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    at = heard.last("job_schedule_retry")["job"].at
    assert timedelta(milliseconds=99) <= at - tries[0] < timedelta(seconds=5)
    assert timedelta(milliseconds=-1) <= tries[1] - at < timedelta(seconds=5)


def in_past() -> datetime:
    return datetime.now(UTC) - timedelta(days=1)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(milliseconds=60)


def soon_and_naive() -> datetime:
    return soon().replace(tzinfo=None)


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (soon, 0.05),
        (soon_and_naive, 0.05),
        (in_past, 0.0),
        (lambda: timedelta(milliseconds=60), 0.059),
        (lambda: timedelta(days=-1), 0.0),
        (lambda: timedelta.min, 0.0),
        (lambda: timedelta(0), 0.0),
    ],
)
async def test_a_retry_exception_sets_the_moment(
    engine: Engine, heard: Heard, make: Callable[[], datetime | timedelta], least: float
) -> None:
    tries: list[datetime] = []

    @engine.task(max_retries=1, backoff=lambda attempt: 1000)
    async def job() -> None:
        tries.append(datetime.now(UTC))
        if len(tries) == 1:
            raise RetryException("later", at=make())

    await job.schedule()
    await asyncio.wait_for(engine.start_workers(stop_when_queue_empty=True), 10)
    assert tries[1] - tries[0] >= timedelta(seconds=least)


async def test_a_retry_in_a_distant_future_is_kept_waiting(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    @engine.task(max_retries=1)
    async def job() -> None:
        raise RetryException("much later", at=timedelta.max)

    scheduled = await job.schedule()
    await engine.start_workers(block=False)
    finish = await finish_of(heard, scheduled)
    await engine.stop_workers()
    assert finish["job"].at.year == 9998
    assert (await counts(broker, "default")).waiting == 1


def backoff_that_raises(error: BaseException) -> Callable[[int], Any]:
    def backoff(attempt: int) -> float:
        raise error

    return backoff


def backoff_of_two(attempt: int, more: int) -> float:
    return 0


class Garbage:
    def __lt__(self, other: object) -> bool:
        raise ValueError("not comparable")


HOSTILE: dict[str, Callable[..., Any]] = {
    "raises": backoff_that_raises(ValueError("no")),
    "raises_system_exit": backoff_that_raises(SystemExit(1)),
    "raises_cancelled": backoff_that_raises(asyncio.CancelledError()),
    "raises_keyboard_interrupt": backoff_that_raises(KeyboardInterrupt()),
    "raises_abort": backoff_that_raises(AbortException("no")),
    "takes_two": backoff_of_two,
    "nan": lambda attempt: math.nan,
    "none": lambda attempt: None,
    "text": lambda attempt: "10",
    "garbage": lambda attempt: Garbage(),
    "complex": lambda attempt: 1j,
    "year_one": lambda attempt: datetime(1, 1, 1, tzinfo=UTC),
    "year_9999": lambda attempt: datetime(9999, 12, 31, tzinfo=UTC),
}


@pytest.mark.parametrize("backoff", HOSTILE.values(), ids=HOSTILE)
async def test_an_invalid_backoff_is_logged_and_replaced_by_the_default(
    engine: Engine,
    broker: FailingBroker,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    backoff: Callable[[int], Any],
) -> None:
    @engine.task(max_retries=1, backoff=backoff)
    async def job() -> None:
        raise KeyError("mine")

    before = datetime.now(UTC)
    scheduled = await job.schedule()
    await engine.start_workers(block=False)
    finish = await finish_of(heard, scheduled)
    await engine.stop_workers()
    assert type(finish["err"]) is KeyError
    assert finish["job"].status is JobStatus.WAITING
    assert timedelta(seconds=2.99) <= finish["job"].at - before <= timedelta(seconds=16)
    assert [r.levelname for r in caplog.records if "its backoff or" in r.getMessage()] == ["ERROR"]


@pytest.mark.parametrize("delay", [math.inf, 1e300, 10**400, timedelta.max])
async def test_an_infinite_delay_is_capped(
    engine: Engine, broker: FailingBroker, heard: Heard, delay: float | timedelta
) -> None:
    @engine.task(max_retries=1, backoff=lambda attempt: delay)
    async def job() -> None:
        raise ValueError

    scheduled = await job.schedule()
    await engine.start_workers(block=False)
    finish = await finish_of(heard, scheduled)
    await engine.stop_workers()
    assert finish["job"].status is JobStatus.WAITING
    assert finish["job"].at.year == 9998


@pytest.mark.parametrize("delay", [-1, -math.inf, 0, timedelta.min, False])
async def test_a_negative_delay_is_treated_as_zero(
    engine: Engine, heard: Heard, delay: float | timedelta
) -> None:
    tries: list[int] = []

    @engine.task(max_retries=1, backoff=lambda attempt: delay)
    async def job() -> None:
        tries.append(1)
        raise ValueError

    await job.schedule()
    await asyncio.wait_for(engine.start_workers(stop_when_queue_empty=True), 10)
    assert len(tries) == 2


async def test_an_invalid_moment_of_a_retry_is_replaced_by_the_default(
    engine: Engine, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    @engine.task(max_retries=1, backoff=lambda attempt: 0)
    async def job() -> None:
        error = RetryException("later")
        error.at = "tomorrow"  # type: ignore[assignment]
        raise error

    scheduled = await job.schedule()
    await engine.start_workers(block=False)
    finish = await finish_of(heard, scheduled)
    await engine.stop_workers()
    assert finish["job"].status is JobStatus.WAITING
    assert type(finish["err"]) is RetryException
    assert any("moment of its retry is wrong" in r.getMessage() for r in caplog.records)


async def test_a_retry_does_not_wait_for_other_jobs(engine: Engine, heard: Heard) -> None:
    ran: list[str] = []
    blocker = asyncio.Event()

    @engine.task(max_retries=1, backoff=lambda attempt: 0.02)
    async def flaky() -> None:
        ran.append("flaky")
        if len(ran) == 1:
            raise ValueError

    @engine.task
    async def other() -> None:
        await blocker.wait()

    await engine.start_workers(2, block=False)
    await flaky.schedule()
    await other.schedule()
    await until(lambda: ran == ["flaky", "flaky"], timeout=2)
    blocker.set()
    await engine.stop_workers()
