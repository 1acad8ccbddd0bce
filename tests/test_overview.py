"""The overview of an engine: all queues and workers with one call, on every broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from aiospinach import Broker, Engine, EngineOverview, MemoryBroker, QueueOverview, UnknownQueue
from aiospinach.brokers.overview import QueueSeen

from .brokers_under_test import BROKERS, MakeBroker


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    """An engine on every broker, whose workers report often."""
    make: MakeBroker = request.param
    broker: Broker = make(lease=1.2)
    async with Engine(broker, namespace) as engine:
        yield engine


async def test_an_overview_has_the_counts_pauses_workers_and_numbers_of_all_queues(engine: Engine) -> None:
    release = asyncio.Event()

    @engine.task(queue="mail", name="hold")
    async def hold() -> None:
        await release.wait()

    @engine.task(queue="web", name="fail")
    async def fail() -> None:
        raise ValueError

    for _ in range(3):
        await fail.schedule()
    await engine.start_workers(4, stop_when_queue_empty=True)
    await engine.start_workers(2, ["mail", "web"], block=False)
    await hold.schedule()
    await engine.pause(queue="web", reason="provider is down")
    await engine.pause(fail)
    async with asyncio.timeout(10):
        while (seen := await engine.overview()).workers[0].running != 1:
            await asyncio.sleep(0.01)
    assert list(seen.queues) == ["mail", "web"]
    assert {name: queue.counts for name, queue in seen.queues.items()} == await engine.counts()
    assert seen.queues["web"].counts.dead == 3
    assert [*seen.queues["mail"].pauses, *seen.queues["web"].pauses] == await engine.pauses()
    assert [pause.task for pause in seen.queues["web"].pauses] == [None, "fail"]
    assert [worker.name for worker in seen.workers] == [worker.name for worker in await engine.workers()]
    assert seen.workers[0].queues == ("mail", "web")
    assert {queue.slots for queue in seen.queues.values()} == {2}
    assert abs(seen.at - datetime.now(UTC)) < timedelta(seconds=30)
    assert list((await engine.overview(queue="web")).queues) == ["web"]
    with pytest.raises(UnknownQueue):
        await engine.overview(queue="nobodys")
    release.set()


async def test_the_minutes_of_an_overview_are_those_of_the_throughput(engine: Engine) -> None:
    @engine.task(queue="mail", name="send")
    async def send() -> None: ...

    await engine.start_workers(2, block=False)
    for _ in range(5):
        await send.schedule()
    async with asyncio.timeout(10):
        while sum(row.done for row in (await engine.overview()).queues["mail"].minutes) < 5:
            await asyncio.sleep(0.01)
    assert (await engine.overview()).queues["mail"].minutes == await engine.throughput()


async def test_an_engine_without_tasks_has_an_empty_overview(engine: Engine) -> None:
    seen = await engine.overview()
    assert seen == EngineOverview(at=seen.at, queues={}, workers=[])


class Counting(MemoryBroker):
    """Counts its overviews."""

    overviews = 0

    async def overview(self, queues: Sequence[str], minutes: Sequence[int] = ()) -> list[QueueSeen]:
        self.overviews += 1
        return await super().overview(queues, minutes)


async def test_counts_and_overviews_of_many_queues_are_one_call_each(namespace: str) -> None:
    broker = Counting()
    async with Engine(broker, namespace) as engine:
        for number in range(5):

            @engine.task(queue=f"queue-{number}", name=f"task-{number}")
            async def work() -> None: ...

        assert len(await engine.counts()) == 5
        assert broker.overviews == 1
        queues = (await engine.overview()).queues
        assert broker.overviews == 2
        assert all(isinstance(queue, QueueOverview) for queue in queues.values())
