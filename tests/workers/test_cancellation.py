"""``engine.cancel``: waiting jobs never run, running async bodies are cancelled; returns the job's status."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import Engine, InvalidValue, JobCancelled, JobStatus, UnknownQueue, signals

from .. import asking
from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker
from .job_results import finish_of


def later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


async def test_a_queued_job_never_runs(engine: Engine, broker: FailingBroker, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task
    async def job(number: int) -> None:
        ran.append(number)

    jobs = [await job.schedule(number) for number in range(3)]
    assert await engine.cancel(jobs[1]) is JobStatus.QUEUED
    assert heard.names(jobs[1].id) == ["job_scheduled", "job_cancelled"]
    cancelled = heard.last("job_cancelled")["job"]
    assert (cancelled, cancelled.status, cancelled.args) == (jobs[1], JobStatus.CANCELLED, (1,))
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert ran == [0, 2]
    assert await engine.cancel(jobs[1]) is JobStatus.NOT_SET
    counts = await asking.counts(broker, "default")
    assert (counts.ready, counts.running, counts.waiting, counts.dead) == (0, 0, 0, 0)


async def test_a_waiting_job_never_runs(engine: Engine, broker: FailingBroker, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task
    async def job() -> None:
        ran.append(1)

    waiting = await job.schedule_at(datetime.now(UTC) + timedelta(milliseconds=50))
    assert await engine.cancel(waiting) is JobStatus.WAITING
    assert heard.names(waiting.id) == ["job_scheduled", "job_cancelled"]
    last = await job.schedule_at(datetime.now(UTC) + timedelta(milliseconds=100))
    await engine.start_workers(block=False)
    await finish_of(heard, last)
    await engine.stop_workers()
    assert ran == [1]


async def test_a_job_that_waits_for_its_retry_is_not_retried(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    @engine.task(max_retries=1, backoff=lambda attempt: 1000)
    async def job() -> None:
        raise ValueError

    scheduled = await job.schedule()
    await engine.start_workers(block=False)
    await finish_of(heard, scheduled)
    assert await engine.cancel(scheduled) is JobStatus.WAITING
    await engine.stop_workers()
    assert (await asking.counts(broker, "default")).waiting == 0
    assert heard.names(scheduled.id)[-1] == "job_cancelled"


@pytest.mark.parametrize("max_retries", [0, 3])
async def test_a_running_async_body_is_cancelled(
    engine: Engine, broker: FailingBroker, heard: Heard, max_retries: int
) -> None:
    cleaned = asyncio.Event()

    @engine.task(max_retries=max_retries)
    async def job() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()

    scheduled = await job.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: heard.count("job_started"))
    assert await engine.cancel(scheduled) is JobStatus.RUNNING
    finish = await finish_of(heard, scheduled)
    await engine.stop_workers()
    assert cleaned.is_set()
    assert isinstance(finish["err"], JobCancelled)
    assert finish["job"].status is JobStatus.CANCELLED
    assert heard.names(scheduled.id) == ["job_scheduled", "job_started", "job_cancelled", "job_finished"]
    counts = await asking.counts(broker, "default")
    assert (counts.ready, counts.running, counts.waiting, counts.dead) == (0, 0, 0, 0)


async def test_the_cleanup_of_a_cancelled_body_is_not_cancelled(namespace: str, heard: Heard) -> None:
    """Neither a second cancel nor a renewal, which reports the cancellation again, interrupts the cleanup."""
    cleaning, cleaned, may_continue = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with Engine(FailingBroker(lease=0.1), namespace) as engine:

        @engine.task
        async def job() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cleaning.set()
                await may_continue.wait()
                cleaned.set()

        scheduled = await job.schedule()
        await engine.start_workers(1, block=False)
        await until(lambda: heard.count("job_started"))
        await engine.cancel(scheduled)
        await cleaning.wait()
        assert await engine.cancel(scheduled) is JobStatus.RUNNING
        await asyncio.sleep(0.15)  # several renewals
        may_continue.set()
        finish = await finish_of(heard, scheduled)
        await engine.stop_workers()
    assert cleaned.is_set()
    assert finish["job"].status is JobStatus.CANCELLED


async def test_a_running_sync_body_continues(engine: Engine, heard: Heard) -> None:
    began, release = threading.Event(), threading.Event()

    @engine.task
    def job() -> str:
        began.set()
        assert release.wait(30)
        return "to the end"

    scheduled = await job.schedule()
    await engine.start_workers(1, block=False)
    await until(began.is_set)
    assert await engine.cancel(scheduled) is JobStatus.RUNNING
    release.set()
    finish = await finish_of(heard, scheduled)
    await engine.stop_workers()
    assert (finish["result"], finish["job"].status) == ("to the end", JobStatus.SUCCEEDED)


async def test_a_sync_job_that_raises_after_its_cancellation_is_not_retried(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    began, release = threading.Event(), threading.Event()

    @engine.task(max_retries=5)
    def job() -> None:
        began.set()
        assert release.wait(30)
        raise ValueError("late")

    scheduled = await job.schedule()
    await engine.start_workers(1, block=False)
    await until(began.is_set)
    await engine.cancel(scheduled)
    release.set()
    finish = await finish_of(heard, scheduled)
    await engine.stop_workers()
    assert finish["job"].status is JobStatus.CANCELLED
    assert isinstance(finish["err"].__cause__, ValueError)
    assert (await asking.counts(broker, "default")).waiting == 0


async def test_the_body_does_not_run_if_the_job_was_cancelled_during_its_receivers(
    engine: Engine, heard: Heard
) -> None:
    ran: list[int] = []

    @engine.task
    async def job() -> None:
        ran.append(1)

    async def receiver(namespace: str, **kwargs: Any) -> None:
        assert await engine.cancel(kwargs["job"]) is JobStatus.RUNNING

    signals.job_started.connect(receiver, engine.namespace)
    scheduled = await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == []
    assert (await finish_of(heard, scheduled))["job"].status is JobStatus.CANCELLED


async def test_only_the_body_of_the_cancelled_job_is_cancelled(engine: Engine, heard: Heard) -> None:
    end = asyncio.Event()

    @engine.task
    async def job(number: int) -> int:
        await end.wait()
        return number

    jobs = [await job.schedule(number) for number in range(3)]
    await engine.start_workers(3, block=False)
    await until(lambda: heard.count("job_started") == 3)
    await engine.cancel(jobs[1])
    await finish_of(heard, jobs[1])
    end.set()
    assert [(await finish_of(heard, one))["result"] for one in jobs] == [0, None, 2]
    await engine.stop_workers()


async def test_a_body_is_cancelled_from_another_thread(namespace: str, heard: Heard) -> None:
    engine = Engine(FailingBroker(), namespace)

    @engine.task
    async def job() -> None:
        await asyncio.Event().wait()

    thread = threading.Thread(
        target=lambda: asyncio.run(engine.start_workers(stop_when_queue_empty=True), debug=True),
        daemon=True,
    )
    scheduled = await job.schedule()
    thread.start()
    await until(lambda: heard.count("job_started"))
    assert await engine.cancel(scheduled) is JobStatus.RUNNING
    await until(lambda: heard.count("job_finished"), timeout=2)
    await until(lambda: not thread.is_alive())
    assert heard.last("job_finished")["job"].status is JobStatus.CANCELLED


async def test_an_id_without_a_queue_is_looked_up_in_every_queue(engine: Engine) -> None:
    @engine.task(queue="a")
    async def in_a() -> None:
        pass

    @engine.task(queue="b")
    async def in_b() -> None:
        pass

    job = await in_b.schedule()
    assert await engine.cancel(job.id) is JobStatus.QUEUED
    assert await engine.cancel(job.id) is JobStatus.NOT_SET


async def test_an_id_with_a_queue_is_looked_up_only_there(engine: Engine) -> None:
    @engine.task(queue="a")
    async def in_a() -> None:
        pass

    @engine.task(queue="b")
    async def in_b() -> None:
        pass

    first = await in_a.options(id="same").schedule()
    second = await in_b.options(id="same").schedule_at(later())
    assert await engine.cancel("same", queue="b") is JobStatus.WAITING
    assert await engine.cancel("same", queue="b") is JobStatus.NOT_SET
    assert await engine.cancel("same", queue="a") is JobStatus.QUEUED
    assert await engine.cancel(first) is JobStatus.NOT_SET
    assert await engine.cancel(second) is JobStatus.NOT_SET


async def test_cancelling_an_unknown_id_returns_not_set(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def job() -> None:
        pass

    assert await engine.cancel("nobody") is JobStatus.NOT_SET
    assert await engine.cancel("nobody", queue="default") is JobStatus.NOT_SET
    assert heard == []


async def test_cancelling_a_job_that_has_ended_returns_not_set(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def job() -> None:
        pass

    scheduled = await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert await engine.cancel(scheduled) is JobStatus.NOT_SET
    assert heard.count("job_cancelled") == 0


async def test_an_unknown_queue_and_a_bad_id_are_refused(engine: Engine) -> None:
    @engine.task
    async def job() -> None:
        pass

    with pytest.raises(UnknownQueue, match="nowhere"):
        await engine.cancel("x", queue="nowhere")
    with pytest.raises(InvalidValue):
        await engine.cancel("not an id")
    with pytest.raises(InvalidValue):
        await engine.cancel(None)  # type: ignore[arg-type]
