"""Counts of the jobs of each queue, on every broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from aiospinach import Broker, Engine, InvalidValue, QueueCounts, UnknownQueue

from .brokers_under_test import BROKERS, MakeBroker


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    """An engine on every broker."""
    make: MakeBroker = request.param
    broker: Broker = make()
    async with Engine(broker, namespace) as engine:
        yield engine


async def test_the_jobs_of_each_queue_are_counted_by_their_states(engine: Engine) -> None:
    release = asyncio.Event()
    running = asyncio.Event()

    @engine.task(queue="mail")
    async def hold() -> None:
        running.set()
        await release.wait()

    @engine.task(queue="mail")
    async def fail() -> None:
        raise ValueError

    @engine.task(queue="web")
    async def idle() -> None: ...

    nothing = QueueCounts(ready=0, running=0, waiting=0, dead=0, parked=0, oldest=None, workers=0)
    assert await engine.counts() == {"mail": nothing, "web": nothing}
    await fail.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    await hold.schedule()
    await engine.start_workers(1, "mail", block=False)
    await running.wait()
    now = datetime.now(UTC)
    await hold.schedule_at(now - timedelta(seconds=60))
    await hold.schedule()
    await hold.schedule_at(now + timedelta(seconds=60))
    counts = (await engine.counts())["mail"]
    assert (counts.ready, counts.running, counts.waiting, counts.dead, counts.parked) == (2, 1, 1, 1, 0)
    assert counts.workers >= 1
    assert counts.oldest is not None
    assert 60 <= counts.oldest < 120
    assert list(await engine.counts(queue="web")) == ["web"]
    release.set()
    await engine.stop_workers()


async def test_a_requeued_job_has_not_waited_yet(engine: Engine) -> None:
    @engine.task
    async def fail() -> None:
        raise ValueError

    job = await fail.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert await engine.requeue(job)
    oldest = (await engine.counts())["default"].oldest
    assert oldest is not None
    assert 0 <= oldest < 60


async def test_an_unknown_queue_is_refused(engine: Engine) -> None:
    @engine.task
    async def work() -> None: ...

    with pytest.raises(UnknownQueue, match="mail"):
        await engine.counts(queue="mail")
    with pytest.raises(InvalidValue, match="queue"):
        await engine.counts(queue=1)  # type: ignore[arg-type]
