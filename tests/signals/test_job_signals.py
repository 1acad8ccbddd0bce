"""The signals of a job, their order and keywords, for every way in which a job ends, on every broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import (
    AbortException,
    Batch,
    BatchPartlyStored,
    Broker,
    BrokerUnavailable,
    Engine,
    Job,
    JobCancelled,
    JobStatus,
    JobTimeout,
    RetryException,
    current_job,
    signals,
)

from ..asking import counts
from ..conftest import Heard
from ..waiting import until

QUEUE = "default"
MakeBroker = Callable[..., Broker]


async def cancel_this_job(engine: Engine) -> None:
    job = current_job()
    assert job is not None
    assert await engine.cancel(job) is JobStatus.RUNNING
    await asyncio.Event().wait()


def check_shape(heard: Heard, namespace: str) -> None:
    """Assert that every signal had its documented keywords, with values of the right types."""
    keywords = {
        "job_scheduled": {"job"},
        "job_started": {"job"},
        "job_schedule_retry": {"job", "err"},
        "job_failed": {"job", "err"},
        "job_cancelled": {"job"},
        "job_finished": {"job", "err", "duration", "result"},
        "worker_started": {"worker_name"},
        "worker_terminated": {"worker_name"},
    }
    for name, kwargs in heard:
        assert kwargs.keys() == keywords[name], name
        if "job" in kwargs:
            assert isinstance(kwargs["job"], Job)
            assert kwargs["job"].namespace == namespace
    for status, name in [
        (JobStatus.RUNNING, "job_started"),
        (JobStatus.WAITING, "job_schedule_retry"),
        (JobStatus.FAILED, "job_failed"),
        (JobStatus.CANCELLED, "job_cancelled"),
    ]:
        assert {kwargs["job"].status for heard_name, kwargs in heard if heard_name == name} <= {status}


async def test_the_signals_of_a_job_that_succeeds(engine: Engine, heard: Heard) -> None:
    @engine.task(max_retries=3)
    async def add(a: int, b: int) -> int:
        return a + b

    job = await add.schedule(5, b=3)
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_finished"]
    check_shape(heard, engine.namespace)
    assert heard.last("job_scheduled")["job"].status is JobStatus.QUEUED
    assert heard.last("job_started")["job"].args == (5,)
    assert heard.last("job_started")["job"].kwargs == {"b": 3}
    finished = heard.last("job_finished")
    assert finished["job"].status is JobStatus.SUCCEEDED
    assert finished["err"] is None
    assert finished["result"] == 8
    assert type(finished["duration"]) is float


async def test_duration_is_the_seconds_that_the_body_took(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def slow() -> None:
        await asyncio.sleep(0.05)

    @signals.job_started.connect_via(engine.namespace)
    async def receiver(namespace: str, **kwargs: Any) -> None:
        await asyncio.sleep(0.3)

    await slow.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert 0.045 <= heard.last("job_finished")["duration"] < 0.3


async def test_the_signals_of_a_job_that_fails(engine: Engine, heard: Heard) -> None:
    error = ValueError("wrong")

    @engine.task
    async def failing() -> None:
        raise error

    job = await failing.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_failed", "job_finished"]
    check_shape(heard, engine.namespace)
    assert heard.last("job_failed")["err"] is error
    finished = heard.last("job_finished")
    assert finished["job"].status is JobStatus.FAILED
    assert finished["err"] is error
    assert finished["result"] is None


async def test_the_signals_of_a_job_that_is_retried(engine: Engine, heard: Heard) -> None:
    error = RetryException("later", at=timedelta(milliseconds=50))

    @engine.task(max_retries=1)
    async def flaky() -> str:
        job = current_job()
        assert job is not None
        if job.retries == 0:
            raise error
        return "done"

    job = await flaky.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert heard.names(job.id) == [
        "job_scheduled",
        "job_started",
        "job_schedule_retry",
        "job_finished",
        "job_started",
        "job_finished",
    ]
    check_shape(heard, engine.namespace)
    retry = heard.last("job_schedule_retry")
    assert retry["err"] is error
    assert retry["job"].retries == 1
    first, second = (kwargs for name, kwargs in heard if name == "job_finished")
    assert first["job"].status is JobStatus.WAITING
    assert first["err"] is error
    assert second["job"].status is JobStatus.SUCCEEDED
    assert second["err"] is None
    assert second["result"] == "done"


async def test_a_retry_carries_the_moment_of_the_next_try(engine: Engine, heard: Heard) -> None:
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)

    @engine.task(max_retries=1)
    async def flaky() -> None:
        raise RetryException("later", at=moment)

    await flaky.schedule()
    await engine.start_workers(block=False)
    await until(lambda: heard.count("job_finished"))
    assert abs(heard.last("job_schedule_retry")["job"].at - moment) < timedelta(milliseconds=2)


async def test_the_signals_of_a_job_without_retries_left(engine: Engine, heard: Heard) -> None:
    @engine.task(max_retries=5)
    async def hopeless() -> None:
        raise AbortException("never")

    job = await hopeless.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_failed", "job_finished"]
    assert isinstance(heard.last("job_failed")["err"], AbortException)
    check_shape(heard, engine.namespace)


async def test_the_signals_of_a_job_that_times_out(engine: Engine, heard: Heard) -> None:
    @engine.task(timeout=0.02)
    async def hangs() -> None:
        await asyncio.Event().wait()

    job = await hangs.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_failed", "job_finished"]
    assert isinstance(heard.last("job_failed")["err"], JobTimeout)
    assert isinstance(heard.last("job_finished")["err"], JobTimeout)
    check_shape(heard, engine.namespace)


async def test_the_signals_of_a_job_cancelled_while_it_runs(engine: Engine, heard: Heard) -> None:
    @engine.task(max_retries=3)
    async def hangs() -> None:
        await cancel_this_job(engine)

    job = await hangs.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_cancelled", "job_finished"]
    check_shape(heard, engine.namespace)
    finished = heard.last("job_finished")
    assert finished["job"].status is JobStatus.CANCELLED
    assert isinstance(finished["err"], JobCancelled)


@pytest.mark.parametrize("due", [timedelta(seconds=-1), timedelta(hours=1)])
async def test_the_signals_of_a_job_cancelled_before_it_runs(
    engine: Engine, heard: Heard, due: timedelta
) -> None:
    @engine.task
    async def never(number: int) -> None:
        pass

    job = await never.schedule_at(datetime.now(UTC) + due, 7)
    expected = JobStatus.WAITING if due > timedelta(0) else JobStatus.QUEUED
    assert heard.last("job_scheduled")["job"].status is expected
    assert await engine.cancel(job) is expected
    assert heard.names() == ["job_scheduled", "job_cancelled"]
    check_shape(heard, engine.namespace)
    assert heard.last("job_cancelled")["job"].args == (7,)
    assert await engine.cancel(job) is JobStatus.NOT_SET
    assert len(heard) == 2


@pytest.mark.parametrize("error", [asyncio.CancelledError("own"), SystemExit(3), KeyboardInterrupt()])
async def test_a_body_that_raises_a_base_exception_has_failed_like_any_other(
    engine: Engine, heard: Heard, error: BaseException
) -> None:
    @engine.task
    async def rude() -> None:
        raise error

    job = await rude.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_failed", "job_finished"]
    assert heard.last("job_finished")["err"] is error


async def test_a_plain_body_has_the_same_signals(engine: Engine, heard: Heard) -> None:
    @engine.task
    def divide(a: int, b: int) -> int:
        return a // b

    right = await divide.schedule(6, 3)
    wrong = await divide.schedule(6, 0)
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names(right.id) == ["job_scheduled", "job_started", "job_finished"]
    assert heard.names(wrong.id) == ["job_scheduled", "job_started", "job_failed", "job_finished"]
    check_shape(heard, engine.namespace)


async def test_job_started_comes_before_the_body_and_job_finished_after_it(
    engine: Engine, heard: Heard
) -> None:
    at_body: list[list[str]] = []

    @engine.task
    async def body() -> None:
        at_body.append(heard.names())
        await asyncio.sleep(0)
        at_body.append(heard.names())

    await body.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert at_body == [["job_scheduled", "worker_started", "job_started"]] * 2


# Scheduling.


async def test_no_job_scheduled_is_sent_for_a_duplicate(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def body() -> None:
        pass

    first = await body.options(id="order-17").schedule()
    second = await body.options(id="order-17").schedule()
    batch = Batch()
    batch.schedule(body.options(id="order-17"))
    batch.schedule(body.options(id="order-18"))
    await engine.schedule_batch(batch)
    assert second.status is JobStatus.NOT_SET
    assert first == second
    assert [kwargs["job"].id for _, kwargs in heard] == ["order-17", "order-18"]


async def test_job_scheduled_is_sent_after_the_job_is_stored(engine: Engine, broker: Broker) -> None:
    seen: list[int] = []

    @signals.job_scheduled.connect_via(engine.namespace)
    async def receiver(namespace: str, **kwargs: Any) -> None:
        seen.append((await counts(broker, QUEUE)).ready)

    @engine.task
    async def body() -> None:
        pass

    await body.schedule()
    await body.schedule()
    assert seen == [1, 2]


async def test_job_scheduled_is_sent_for_every_job_of_a_batch(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def one(number: int) -> None:
        pass

    @engine.task(queue="other")
    async def two(number: int) -> None:
        pass

    batch = Batch()
    for number in range(3):
        batch.schedule(one, number)
        batch.schedule_at(two, datetime.now(UTC) + timedelta(hours=1), number)
    jobs = await engine.schedule_batch(batch)
    assert [kwargs["job"] for _, kwargs in heard] == jobs
    assert [kwargs["job"].status for _, kwargs in heard] == [JobStatus.QUEUED, JobStatus.WAITING] * 3
    check_shape(heard, engine.namespace)


async def test_job_scheduled_is_sent_for_the_stored_jobs_of_a_partly_stored_batch(
    engine: Engine, broker: Broker, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue = broker.enqueue

    async def broken(queue: str, *args: Any, **kwargs: Any) -> Any:
        if queue == "other":
            raise BrokerUnavailable("gone")
        return await enqueue(queue, *args, **kwargs)

    monkeypatch.setattr(broker, "enqueue", broken)

    @engine.task
    async def one() -> None:
        pass

    @engine.task(queue="other")
    async def two() -> None:
        pass

    batch = Batch()
    batch.schedule(one)
    batch.schedule(two)
    with pytest.raises(BatchPartlyStored) as raised:
        await engine.schedule_batch(batch)
    assert [kwargs["job"] for _, kwargs in heard] == list(raised.value.stored)
    assert heard.names() == ["job_scheduled"]


async def test_no_job_scheduled_is_sent_for_a_job_that_was_not_stored(
    engine: Engine, broker: Broker, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*args: Any, **kwargs: Any) -> Any:
        raise BrokerUnavailable("gone")

    @engine.task
    async def body() -> None:
        pass

    monkeypatch.setattr(broker, "enqueue", broken)
    with pytest.raises(BrokerUnavailable):
        await body.schedule()
    assert heard == []


async def test_job_scheduled_is_sent_for_a_periodic_tick_in_the_worker(engine: Engine, heard: Heard) -> None:
    @engine.task(periodicity=timedelta(milliseconds=100))
    async def tick() -> None:
        pass

    await engine.start_workers(block=False)
    await until(lambda: heard.count("job_scheduled") >= 2)
    await engine.stop_workers()
    scheduled = [kwargs["job"] for name, kwargs in heard if name == "job_scheduled"]
    assert len(set(scheduled)) == len(scheduled)
    for job in scheduled:
        assert job.status is JobStatus.QUEUED
        assert job.task_name == tick.name
        assert job.id == f"{tick.name}@{round(job.at.timestamp() * 1000)}"
    ran = {kwargs["job"] for name, kwargs in heard if name == "job_started"}
    assert ran <= set(scheduled)
    check_shape(heard, engine.namespace)
