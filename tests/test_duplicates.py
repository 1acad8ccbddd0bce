"""A job that is not stored, since its id is in use, is not dropped without a word where a word is needed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import (
    Batch,
    Broker,
    BrokerUnavailable,
    Engine,
    InvalidValue,
    Job,
    JobStatus,
    MemoryBroker,
    current_job,
)
from aiospinach.brokers.records import Question

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


@pytest.mark.parametrize("delay", [None, timedelta(seconds=5)])
async def test_a_job_that_schedules_its_own_id_is_told_how_to_go_on(
    engine: Engine, heard: Heard, delay: timedelta | None
) -> None:
    ran: list[str] = []

    @engine.task
    async def refresh(step: int) -> None:
        job = current_job()
        assert job is not None
        ran.append(job.id)
        if step == 1:
            await refresh.options(id="object-7/2").schedule(2)
        elif delay is None:
            await refresh.options(id=job.id).schedule(3)
        else:
            await refresh.options(id=job.id).schedule_at(datetime.now(UTC) + delay, 3)

    await refresh.options(id="object-7").schedule(1)
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == ["object-7", "object-7/2"]
    error = heard.last("job_failed")["err"]
    assert isinstance(error, InvalidValue)
    assert "'object-7/2' of task" in str(error)
    assert "such as 'object-7/2/2'" in str(error)


async def test_so_is_one_that_does_it_in_a_batch_and_the_rest_is_stored(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    batches: list[list[Job]] = []

    @engine.task
    async def refresh() -> None:
        if not batches:
            batches.append([])
            batch = Batch().schedule(refresh.options(id="object-7")).schedule(refresh.options(id="other"))
            batches.append(await engine.schedule_batch(batch))

    await refresh.options(id="object-7").schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert [job.status for job in batches[1]] == [JobStatus.NOT_SET, JobStatus.QUEUED]
    [said] = warnings(caplog)
    assert "scheduled a job of its own id" in said


async def test_who_is_no_job_schedules_an_id_as_often_as_it_likes(
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


async def test_another_moment_for_a_waiting_job_is_told_and_it_stays_where_it_is(
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
    [said] = warnings(caplog)
    assert "id=reminder" in said
    assert f"for {LATER}, and is not moved to {LATER + timedelta(hours=1)}: cancel it first" in said
    assert await engine.cancel(again) is JobStatus.WAITING
    assert (await named.schedule_at(LATER + timedelta(hours=1))).status is JobStatus.WAITING


async def test_a_moment_to_come_for_a_job_that_has_ended_is_told(
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
    [said] = warnings(caplog)
    assert f"nothing will run at {LATER}, give it another id" in said


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
    await until(lambda: warnings(caplog), "the retry is told")
    await engine.stop_workers()
    caplog.clear()
    again = await named.schedule_at(past)
    assert again.at > datetime.now(UTC)
    assert not warnings(caplog)


@pytest.mark.parametrize("error", [BrokerUnavailable, TimeoutError])
async def test_who_cannot_look_says_nothing(
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
