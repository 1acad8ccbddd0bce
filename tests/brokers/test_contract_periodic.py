"""Periodic tasks: registration, due moments, and ticks that only one caller fires."""

from __future__ import annotations

import asyncio
import time

import pytest

from aiospinach.brokers.base import Broker
from aiospinach.brokers.questions import Counts
from aiospinach.brokers.records import Fired, Firing
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from ..asking import cancel, counts
from .conftest import drain_wake_ups, fire, ids, job, put, settle, take, take_when_due

MINUTE = 60_000


async def test_a_registered_task_becomes_due_at_its_moment(broker: Broker, queue: str) -> None:
    due = broker.now() + 80
    await broker.register(queue, {}, {"hourly": due})
    deadline = time.monotonic() + 10
    while not (periodic := (await broker.tick(queue)).periodic):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
    assert broker.now() >= due
    assert list(periodic) == [("hourly", due)]


async def test_a_due_task_stays_due_until_it_is_fired(broker: Broker, queue: str) -> None:
    due = broker.now() - 5
    await broker.register(queue, {}, {"hourly": due, "daily": due + MINUTE})
    for _ in range(3):
        assert list((await broker.tick(queue)).periodic) == [("hourly", due)]
    assert await fire(broker, queue, "hourly", due, due + MINUTE, None)
    assert list((await broker.tick(queue)).periodic) == []


async def test_a_task_not_fired_for_weeks_is_still_due(broker: Broker, queue: str) -> None:
    due = broker.now() - 30 * 24 * 60 * MINUTE
    await broker.register(queue, {}, {"hourly": due})
    for _ in range(2):
        assert list((await broker.tick(queue)).periodic) == [("hourly", due)]
    now = broker.now()
    assert await fire(broker, queue, "hourly", due, now + MINUTE)
    assert (await broker.tick(queue)).next_due == pytest.approx(60, abs=5)


@pytest.mark.parametrize("again", [-30_000, 0, 30_000])
async def test_the_earlier_due_is_kept(broker: Broker, queue: str, again: int) -> None:
    first = broker.now() - MINUTE
    await broker.register(queue, {}, {"hourly": first})
    await broker.register(queue, {}, {"hourly": first + again})
    assert list((await broker.tick(queue)).periodic) == [("hourly", first + min(0, again))]


async def test_registering_other_tasks_keeps_periodic_tasks(broker: Broker, queue: str) -> None:
    due = broker.now() - 5
    await broker.register(queue, {}, {"a": due})
    await broker.register(queue, {}, {"b": due})
    await broker.register(queue, {}, {})
    assert sorted((await broker.tick(queue)).periodic) == [("a", due), ("b", due)]


async def test_firing_moves_the_due_moment_and_stores_the_job(broker: Broker, queue: str) -> None:
    due = broker.now() - 5
    await broker.register(queue, {}, {"hourly": due})
    tick = job(f"hourly@{due}", task="hourly", at=due, max_retries=2)
    assert await fire(broker, queue, "hourly", due, due + MINUTE, tick)
    ticked = await broker.tick(queue)
    assert list(ticked.periodic) == []
    assert ticked.next_due == pytest.approx(MINUTE / 1000, abs=5)
    (lease,) = await take(broker, queue)
    assert (lease.job.id, lease.job.task, lease.job.max_retries) == (f"hourly@{due}", "hourly", 2)


async def test_only_one_of_several_concurrent_callers_fires_a_tick(broker: Broker, queue: str) -> None:
    due = broker.now() - 5
    await broker.register(queue, {}, {"hourly": due})
    fired = await asyncio.gather(
        *(
            fire(broker, queue, "hourly", due, due + MINUTE + caller, job(f"hourly@{due}-{caller}"))
            for caller in range(10)
        )
    )
    assert sorted(fired) == [False] * 9 + [True]
    winner = fired.index(True)
    assert ids(await take(broker, queue)) == [f"hourly@{due}-{winner}"]
    assert await fire(broker, queue, "hourly", due + MINUTE + winner, due + 2 * MINUTE, None)


async def test_many_ticks_are_fired_in_one_call(broker: Broker, queue: str) -> None:
    """Each tick has its own result, also if others were fired before."""
    due = broker.now() - 5
    names = [f"task-{number}" for number in range(1200)]
    await broker.register(queue, {}, dict.fromkeys(names, due))
    assert await fire(broker, queue, names[0], due, due + MINUTE, job("elsewhere"))
    firings = [Firing(name, due, due + MINUTE, job(f"{name}@{due}")) for name in names]
    firings[1] = Firing(names[1], due, due + MINUTE)
    firings.append(Firing(names[2], due, due + MINUTE, job("again")))
    firings.append(Firing("unknown", due, due + MINUTE, job("unknown")))
    moved, taken = Fired.MOVED, Fired.TAKEN
    assert await broker.fire(queue, firings) == [taken, *[moved] * 1199, taken, taken]
    assert list((await broker.tick(queue)).periodic) == []
    assert ids(await take(broker, queue, 2000)) == ["elsewhere", *(f"{name}@{due}" for name in names[2:])]
    assert await broker.fire(queue, []) == []


@pytest.mark.parametrize("task", ["hourly", "unknown"])
async def test_firing_a_tick_that_was_moved_does_nothing(broker: Broker, queue: str, task: str) -> None:
    due = broker.now() - 5
    await broker.register(queue, {}, {"hourly": due})
    await drain_wake_ups(broker, queue)
    assert not await fire(broker, queue, task, due - 1, due + MINUTE, job("late"))
    assert not await fire(broker, queue, task, due + MINUTE, due + 2 * MINUTE, job("early"))
    assert list((await broker.tick(queue)).periodic) == [("hourly", due)]
    assert await counts(broker, queue) == Counts(0, 0, 0, 0)


async def test_firing_without_a_job_only_moves_the_due_moment(broker: Broker, queue: str) -> None:
    due = broker.now() - 5
    await broker.register(queue, {}, {"hourly": due})
    assert await fire(broker, queue, "hourly", due, due + MINUTE, None)
    assert not await fire(broker, queue, "hourly", due, due + MINUTE, None)
    assert await counts(broker, queue) == Counts(0, 0, 0, 0)
    assert list((await broker.tick(queue)).periodic) == []


async def test_the_job_of_a_tick_is_not_stored_twice(broker: Broker, queue: str) -> None:
    due = broker.now() - 5
    await put(broker, queue, f"hourly@{due}")
    await broker.register(queue, {}, {"hourly": due})
    assert await fire(broker, queue, "hourly", due, due + MINUTE, job(f"hourly@{due}"))
    assert ids(await take(broker, queue)) == [f"hourly@{due}"]


async def test_a_tick_returns_the_seconds_until_the_next_due_moment(broker: Broker, queue: str) -> None:
    assert (await broker.tick(queue)).next_due is None
    now = broker.now()
    await put(broker, queue, "later", at=now + 50_000)
    assert (await broker.tick(queue)).next_due == pytest.approx(50, abs=5)
    await broker.register(queue, {}, {"hourly": now + 30_000})
    assert (await broker.tick(queue)).next_due == pytest.approx(30, abs=5)
    await put(broker, queue, "sooner", at=now + 15_000)
    assert (await broker.tick(queue)).next_due == pytest.approx(15, abs=5)
    await cancel(broker, queue, "sooner")
    assert (await broker.tick(queue)).next_due == pytest.approx(30, abs=5)


async def test_the_next_due_of_an_overdue_periodic_task_is_zero(broker: Broker, queue: str) -> None:
    await broker.register(queue, {}, {"hourly": broker.now() - MINUTE})
    assert (await broker.tick(queue)).next_due == 0


async def test_queued_and_running_jobs_have_no_due_moment(broker: Broker, queue: str) -> None:
    await put(broker, queue, "queued", "running")
    await take(broker, queue, 1)
    assert (await broker.tick(queue)).next_due is None


async def test_a_tick_queues_all_due_jobs_once(broker: Broker, queue: str) -> None:
    due = broker.now() + 30
    await put(broker, queue, *"abc", at=due)
    await put(broker, queue, "later", at=due + MINUTE)
    assert sorted(ids(await take_when_due(broker, queue))) == ["a", "b", "c"]
    await asyncio.gather(*(broker.tick(queue) for _ in range(5)))
    assert await take(broker, queue) == []
    assert await counts(broker, queue) == Counts(ready=0, running=3, waiting=1, dead=0)


async def test_the_broker_counts_milliseconds_since_1970(broker: Broker) -> None:
    first = broker.now()
    assert first == pytest.approx(time.time() * 1000, abs=60_000)
    await asyncio.sleep(0.05)
    assert broker.now() - first >= 45


async def test_a_tick_is_skipped_while_the_job_of_the_previous_one_is_live(
    broker: Broker, queue: str
) -> None:
    await broker.register(queue, {}, {"beat": 100})

    async def fired(due: int, *, may_overlap: bool = False) -> Fired:
        tick = job(f"beat@{due}", task="beat", max_retries=1)
        [how] = await broker.fire(queue, [Firing("beat", due, due + 100, tick, may_overlap)])
        return how

    assert await fired(100) is Fired.MOVED
    assert await fired(200) is Fired.OVERLAPPING, "the job is queued"
    [lease] = await take(broker, queue)
    assert await fired(300) is Fired.OVERLAPPING, "the job is running"
    assert await fired(400, may_overlap=True) is Fired.MOVED
    assert await fired(400) is Fired.TAKEN
    assert await settle(broker, queue, lease, Action.DONE)
    [lease] = await take(broker, queue)
    assert lease.job.id == "beat@400"
    assert await settle(broker, queue, lease, Action.RETRY, 60.0)
    assert await fired(500) is Fired.OVERLAPPING, "the job waits for its retry"
    assert (await cancel(broker, queue, "beat@400")).status is JobStatus.WAITING
    assert await fired(600) is Fired.MOVED
    assert ids(await take(broker, queue)) == ["beat@600"]
