"""What all views show first: queues, pauses, workers, rates and the last hour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import Broker, Engine, EngineOverview, MinuteRow, QueueCounts, QueueOverview
from aiospinach.views import HISTORY, OverviewReader, overview, read_overview

from ..brokers_under_test import BROKERS, MakeBroker

MINUTE = datetime(2026, 11, 29, 8, 30, tzinfo=UTC)


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    """An engine on every broker, whose workers report often."""
    make: MakeBroker = request.param
    broker: Broker = make(lease=1.2)
    async with Engine(broker, namespace) as engine:
        yield engine


async def test_an_overview_shows_queues_workers_and_what_has_ended(engine: Engine, namespace: str) -> None:
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
    await engine.start_workers(2, block=False)
    await hold.schedule()
    async with asyncio.timeout(10):
        while (await read_overview(engine)).busy != 1:
            await asyncio.sleep(0.01)
    await engine.pause(fail, reason="broken")
    await engine.pause(queue="mail", reason="provider is down")
    seen = await read_overview(engine)
    mail, web = seen.queues
    assert (seen.namespace, mail.name, web.name) == (namespace, "mail", "web")
    assert (mail.running, mail.slots, mail.workers, seen.slots) == (1, 2, 1, 2)
    assert mail.pause is not None
    assert mail.pause.reason == "provider is down"
    assert mail.paused_tasks == []
    assert [(pause.task, pause.reason) for pause in web.paused_tasks] == [("fail", "broken")]
    assert web.pause is None
    assert (web.dead, web.oldest) == (3, None)
    assert sum(web.per_minute) == sum(web.failed_per_minute) == sum(seen.per_minute) == 3
    assert len(web.per_minute) == len(seen.per_minute) == HISTORY
    assert [worker.name for worker in seen.workers] == [worker.name for worker in await engine.workers()]
    release.set()


async def test_an_engine_without_tasks_has_no_rows(engine: Engine) -> None:
    seen = await read_overview(engine)
    assert (seen.queues, seen.workers, seen.busy, seen.slots) == ([], [], 0, 0)
    assert (seen.per_minute, seen.rate) == ((0,) * HISTORY, 0)


# Minutes, as an engine of the test answers.


class Answers:
    """Stands for an engine: answers what the test has prepared, and notes what it is asked."""

    namespace = "shop"

    def __init__(self, *queues: str) -> None:
        self.at = MINUTE
        self.queues = queues
        self.live: dict[str, list[MinuteRow]] = {}
        self.past: dict[str, list[MinuteRow]] = {}
        self.asked: list[str] = []

    async def overview(self) -> EngineOverview:
        counts = QueueCounts(ready=0, running=0, waiting=0, dead=0, parked=0, oldest=None, workers=0)
        return EngineOverview(
            at=self.at,
            queues={
                queue: QueueOverview(counts=counts, pauses=[], slots=0, minutes=self.live.get(queue, []))
                for queue in self.queues
            },
            workers=[],
        )

    async def throughput(self, *, queue: str) -> list[MinuteRow]:
        self.asked.append(queue)
        return self.past.get(queue, [])


def row(minute: datetime, done: int, failed: int = 0, retried: int = 0) -> MinuteRow:
    return MinuteRow(
        minute=minute, queue="mail", done=done, failed=failed, retried=retried, seconds=0.0, by_task={}
    )


def reader(engine: Any) -> OverviewReader:
    return OverviewReader(engine)


async def test_minutes_that_pass_come_from_overviews_and_never_shrink() -> None:
    engine = Answers("mail")
    engine.past["mail"] = [row(MINUTE - timedelta(minutes=59), 7), row(MINUTE - timedelta(minutes=60), 99)]
    engine.live["mail"] = [row(MINUTE, 5, failed=1, retried=2)]
    reads = reader(engine)
    [mail] = (await reads.read()).queues
    assert list(mail.per_minute) == [7] + [0] * 58 + [8]
    assert list(mail.failed_per_minute) == [0] * 59 + [3]
    engine.at = MINUTE + timedelta(minutes=1)
    engine.live["mail"] = [row(MINUTE, 4), row(engine.at, 2)]  # a worker has left
    [mail] = (await reads.read()).queues
    assert list(mail.per_minute) == [0] * 58 + [8, 2]
    assert engine.asked == ["mail"]


async def test_the_rate_is_that_of_the_last_minute() -> None:
    engine = Answers("mail", "web")
    engine.live["mail"] = [row(MINUTE - timedelta(minutes=1), 60), row(MINUTE, 20)]
    engine.live["web"] = [row(MINUTE, 10)]
    engine.at = MINUTE + timedelta(seconds=15)
    seen = await reader(engine).read()
    assert [queue.rate for queue in seen.queues] == [20 + 60 * 0.75, 10]
    assert seen.rate == 75


async def test_the_past_of_one_queue_at_a_time_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Answers("mail", "web", "video")
    reads = reader(engine)
    await reads.read()
    await reads.read()
    assert engine.asked == ["mail", "web", "video"], "a minute has not passed"
    engine.asked.clear()
    monkeypatch.setattr(overview, "REREAD_AFTER", 0.0)
    await reads.read()
    assert len(engine.asked) == 1
    await reads.read()
    await reads.read()
    assert sorted(engine.asked) == ["mail", "video", "web"]


async def test_queues_that_appear_later_get_their_past() -> None:
    engine = Answers("mail")
    reads = reader(engine)
    await reads.read()
    engine.queues = ("mail", "web")
    engine.past["web"] = [row(MINUTE, 3)]
    assert [queue.per_minute[-1] for queue in (await reads.read()).queues] == [0, 3]
    assert engine.asked == ["mail", "web"]
