"""A job whose id is in use is not stored; where that is probably a mistake, a warning is logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import Batch, Broker, BrokerUnavailable, Engine, JobStatus, MemoryBroker, current_job, signals
from aiospinach.brokers.questions import Question

from .brokers_under_test import BROKERS, MakeBroker
from .conftest import Heard
from .waiting import until

LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    make: MakeBroker = request.param
    async with Engine(make(), namespace) as engine:
        yield engine


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("delay", [None, timedelta(seconds=0.05)])
async def test_a_job_can_schedule_its_own_id_again_and_again(
    engine: Engine, heard: Heard, delay: timedelta | None, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[tuple[str, int]] = []
    workers_end = asyncio.Event()

    @engine.task(queue="chains")
    async def refresh(step: int) -> None:
        job = current_job()
        assert job is not None
        ran.append((job.id, step))
        chained = refresh.options(id="object-7")
        if step == 5:
            workers_end.set()
        elif delay is None:
            assert (await chained.schedule(step + 1)).status is JobStatus.QUEUED
            assert (await chained.schedule(step + 10)).status is JobStatus.NOT_SET
        else:
            job = await chained.schedule_at(datetime.now(UTC) + delay, step + 1)
            assert job.status is JobStatus.WAITING

    await refresh.options(id="object-7").schedule(1)
    async with asyncio.timeout(10):
        await engine.start_workers(block=False)
        await workers_end.wait()
        await until(lambda: heard.count("job_finished") == 5, "the last step has ended")
    assert ran == [("object-7", step) for step in range(1, 6)]
    assert heard.count("job_scheduled") == 5
    assert not warnings(caplog)


async def test_a_chain_continues_after_a_failure_and_ends_when_cancelled(
    engine: Engine, heard: Heard
) -> None:
    ran: list[int] = []
    begun, never = asyncio.Event(), asyncio.Event()

    @engine.task
    async def refresh(step: int) -> None:
        ran.append(step)
        await refresh.options(id="object-7").schedule(step + 1)
        if step == 2:
            raise ValueError("a step that fails")
        if step == 3:
            begun.set()
            await never.wait()

    first = await refresh.options(id="object-7").schedule(1)
    async with asyncio.timeout(10):
        await engine.start_workers(block=False)
        await begun.wait()
        assert await engine.cancel(first) is JobStatus.RUNNING
        await until(lambda: heard.count("job_finished") == 3, "the last step has ended")
        assert await engine.cancel(first) is JobStatus.NOT_SET
    assert ran == [1, 2, 3]
    assert heard.names().count("job_failed") == 1


async def test_a_job_that_is_tried_again_schedules_its_successor_again(engine: Engine) -> None:
    ran: list[str] = []

    @engine.task(max_retries=1, backoff=lambda retry: 0.0)
    async def refresh(step: str) -> None:
        ran.append(step)
        if step == "first":
            await refresh.options(id="object-7").schedule(f"follows try {len(ran)}")
            if len(ran) == 1:
                raise ValueError("tried again")

    await refresh.options(id="object-7").schedule("first")
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == ["first", "first", "follows try 2"]


async def test_a_successor_may_come_in_a_batch(engine: Engine) -> None:
    ran: list[str] = []
    statuses: list[JobStatus] = []

    @engine.task
    async def refresh(step: str) -> None:
        ran.append(step)
        if step == "first":
            batch = Batch().schedule(refresh.options(id="object-7"), "second")
            batch.schedule(refresh.options(id="other"), "other")
            statuses.extend(job.status for job in await engine.schedule_batch(batch))

    await refresh.options(id="object-7").schedule("first")
    await engine.start_workers(stop_when_queue_empty=True)
    assert statuses == [JobStatus.QUEUED, JobStatus.QUEUED]
    assert sorted(ran) == ["first", "other", "second"]


async def test_a_successor_scheduled_after_the_job_ended_is_logged(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    @engine.task
    async def refresh() -> None: ...

    @signals.job_finished.connect_via(engine.namespace)
    async def once_more(namespace: str, **kwargs: Any) -> None:
        assert (await refresh.options(id="object-7").schedule()).status is JobStatus.NOT_SET

    await refresh.options(id="object-7").schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    [warning] = warnings(caplog)
    assert "id=object-7" in warning
    assert "has ended, and the id is in use for ten minutes" in warning


async def test_duplicates_of_other_jobs_are_not_logged(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    statuses: list[JobStatus] = []

    @engine.task
    async def work(other: str) -> None:
        statuses.append((await work.options(id=other).schedule("b")).status)

    for _ in range(3):
        await work.options(id="a").schedule("b")
    await work.options(id="b").schedule("a")
    await engine.start_workers(stop_when_queue_empty=True)
    assert statuses == [JobStatus.NOT_SET, JobStatus.NOT_SET]
    assert not warnings(caplog)


async def test_another_moment_for_a_waiting_job_is_logged_and_not_applied(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    @engine.task
    async def remind() -> None: ...

    named = remind.options(id="reminder")
    await named.schedule_at(LATER)
    again = await named.schedule_at(LATER)
    assert (again.status, again.at) == (JobStatus.NOT_SET, LATER)
    assert not warnings(caplog)
    moved = await named.schedule_at(LATER + timedelta(hours=1))
    assert (moved.status, moved.at) == (JobStatus.NOT_SET, LATER)
    [warning] = warnings(caplog)
    assert "id=reminder" in warning
    assert f"for {LATER}, and is not moved to {LATER + timedelta(hours=1)}: cancel it first" in warning
    assert await engine.cancel(again) is JobStatus.WAITING
    assert (await named.schedule_at(LATER + timedelta(hours=1))).status is JobStatus.WAITING


async def test_a_future_moment_for_a_job_that_has_ended_is_logged(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    @engine.task
    async def remind() -> None: ...

    named = remind.options(id="reminder")
    past = datetime.now(UTC) - timedelta(minutes=1)
    await named.schedule_at(past)
    await engine.start_workers(stop_when_queue_empty=True)
    assert (await named.schedule_at(past)).status is JobStatus.NOT_SET
    assert not warnings(caplog)
    assert (await named.schedule_at(LATER)).status is JobStatus.NOT_SET
    [warning] = warnings(caplog)
    assert f"no job will run at {LATER}: give it another id" in warning


async def test_a_job_that_waits_for_its_retry_has_no_moment_to_compare(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    @engine.task(max_retries=1, backoff=lambda attempt: 3600)
    async def fails() -> None:
        raise ValueError("not yet")

    named = fails.options(id="x")
    past = datetime.now(UTC) - timedelta(minutes=1)
    await named.schedule_at(past)
    await engine.start_workers(block=False)
    await until(lambda: warnings(caplog), "the retry is logged")
    await engine.stop_workers()
    caplog.clear()
    again = await named.schedule_at(past)
    assert again.at > datetime.now(UTC)
    assert not warnings(caplog)


@pytest.mark.parametrize("error", [BrokerUnavailable, TimeoutError])
async def test_nothing_is_logged_if_the_job_cannot_be_looked_up(
    namespace: str, caplog: pytest.LogCaptureFixture, error: Callable[[str], Exception]
) -> None:
    class Blind(MemoryBroker):
        async def look(self, queue: str, question: Question[Any]) -> Any:
            raise error("away")

    broker: Broker = Blind()
    async with Engine(broker, namespace) as engine:

        @engine.task
        async def remind() -> None: ...

        for hours in (0, 1):
            job = await remind.options(id="x").schedule_at(LATER + timedelta(hours=hours))
        assert (job.status, job.at) == (JobStatus.NOT_SET, LATER + timedelta(hours=1))
    assert not warnings(caplog)
