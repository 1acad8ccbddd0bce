"""Limits of tasks are never exceeded, their slots are freed by every settlement, and other tasks run."""

from __future__ import annotations

import asyncio
import random

import pytest

from aiospinach.brokers.base import Broker
from aiospinach.brokers.questions import Counts
from aiospinach.brokers.records import Lease, Settlement
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from ..asking import cancel, counts
from .conftest import drain_wake_ups, ids, put, put_and_take, settle, take, take_when_due, take_when_expired


async def test_jobs_of_a_task_are_leased_up_to_its_limit(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 2}, {})
    await put(broker, queue, *"abcde")
    assert ids(await take(broker, queue, 1)) == ["a"]
    assert ids(await take(broker, queue)) == ["b"]
    assert await take(broker, queue) == []
    assert await counts(broker, queue) == Counts(ready=3, running=2, waiting=0, dead=0)


async def test_limits_apply_per_task_and_queue(broker: Broker, queue: str, other_queue: str) -> None:
    await broker.register(queue, {"one": 1, "two": 2}, {})
    await broker.register(other_queue, {"one": 2}, {})
    for name in (queue, other_queue):
        await put(broker, name, "1a", "1b", "1c", task="one")
        await put(broker, name, "2a", "2b", "2c", task="two")
    assert ids(await take(broker, queue)) == ["1a", "2a", "2b"]
    assert ids(await take(broker, other_queue)) == ["1a", "1b", "2a", "2b", "2c"]


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_limit_holds_under_many_interleaved_exchanges(broker: Broker, queue: str, limit: int) -> None:
    await broker.register(queue, {"send": limit}, {})
    await put(broker, queue, *(f"limited-{number}" for number in range(60)))
    await put(broker, queue, *(f"free-{number}" for number in range(60)), task="free")
    running: set[str] = set()
    most = 0
    ended: list[str] = []

    async def work(seed: int) -> None:
        nonlocal most
        chance = random.Random(seed)
        held: list[Lease] = []
        while len(ended) < 120:
            settled, held = held, []
            ended.extend(ids(settled))
            running.difference_update(ids(settled))
            done = [Settlement(lease, Action.DONE) for lease in settled]
            exchanged = await broker.exchange(queue, done, chance.randint(0, 5))
            assert list(exchanged.fenced) == []
            held = list(exchanged.leases)
            running.update(name for name in ids(held) if name.startswith("limited"))
            most = max(most, len(running))
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
        assert held == []

    await asyncio.gather(*(work(seed) for seed in range(6)))
    assert most == limit
    assert len(set(ended)) == 120
    assert await counts(broker, queue) == Counts(0, 0, 0, 0)


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("delay", [0.0, 60.0])
async def test_every_settlement_frees_its_slot(
    broker: Broker, queue: str, action: Action, delay: float
) -> None:
    await broker.register(queue, {"send": 1}, {})
    lease = await put_and_take(broker, queue, "a")
    await put(broker, queue, "b")
    assert await take(broker, queue) == []
    assert await settle(broker, queue, lease, action, delay)
    assert len(await take(broker, queue)) == 1
    assert await take(broker, queue) == []


async def test_a_settling_exchange_takes_the_slot_that_it_frees(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    lease = await put_and_take(broker, queue, "0")
    await put(broker, queue, *"123")
    for name in "123":
        exchanged = await broker.exchange(queue, [Settlement(lease, Action.DONE)], 5)
        assert ids(exchanged.leases) == [name]
        (lease,) = exchanged.leases


async def test_a_slot_is_held_until_the_lost_job_is_settled(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    zombie = await put_and_take(broker, queue, "a")
    await put(broker, queue, "b")
    (found,) = await take_when_expired(broker, queue)
    assert await take(broker, queue) == []
    assert not await settle(broker, queue, zombie, Action.DONE)
    assert await take(broker, queue) == []
    assert await settle(broker, queue, found, Action.FAIL)
    assert ids(await take(broker, queue)) == ["b"]


async def test_settling_a_lease_twice_frees_one_slot(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 2}, {})
    await put(broker, queue, *"abcde")
    first, _ = await take(broker, queue)
    assert await settle(broker, queue, first, Action.DONE)
    assert not await settle(broker, queue, first, Action.DONE)
    assert ids(await take(broker, queue)) == ["c"]


async def test_a_saturated_task_does_not_block_others(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    await put(broker, queue, *(f"limited-{number}" for number in range(500)))
    await put(broker, queue, "free-0", "free-1", task="free")
    assert ids(await take(broker, queue, 3)) == ["limited-0", "free-0", "free-1"]


async def test_jobs_held_back_by_a_limit_run_before_later_ones(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    lease = await put_and_take(broker, queue, "limited-0")
    await put(broker, queue, "limited-1", "limited-2")
    assert await take(broker, queue) == []
    await put(broker, queue, "free-0", "free-1", task="free")
    await put(broker, queue, "limited-3")
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.DONE)], 2)
    assert ids(exchanged.leases) == ["limited-1", "free-0"]
    lease = exchanged.leases[0]
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.DONE)], 1)
    assert ids(exchanged.leases) == ["limited-2"]
    lease = exchanged.leases[0]
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.DONE)], 2)
    assert sorted(ids(exchanged.leases)) == ["free-1", "limited-3"]


async def test_a_released_job_runs_before_those_held_back_by_the_limit(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    lease = await put_and_take(broker, queue, "a")
    await put(broker, queue, *"bc")
    assert await take(broker, queue) == []
    assert await settle(broker, queue, lease, Action.RELEASE)
    for name in "abc":
        (lease,) = await take(broker, queue)
        assert lease.job.id == name
        assert await settle(broker, queue, lease, Action.DONE)


async def test_the_limit_applies_to_jobs_that_become_due(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    await put(broker, queue, "a", "b", at=broker.now() + 20)
    (lease,) = await take_when_due(broker, queue)
    await broker.tick(queue)
    assert await take(broker, queue) == []
    assert await settle(broker, queue, lease, Action.DONE)
    (other,) = await take_when_due(broker, queue)
    assert sorted([lease.job.id, other.job.id]) == ["a", "b"]


async def test_a_raised_limit_applies_at_once(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    await put(broker, queue, *"abcde")
    assert ids(await take(broker, queue)) == ["a"]
    await broker.register(queue, {"send": 3}, {})
    assert ids(await take(broker, queue)) == ["b", "c"]
    assert await take(broker, queue) == []


async def test_a_removed_limit_holds_back_no_job(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    await put(broker, queue, *"abc")
    assert ids(await take(broker, queue)) == ["a"]
    await broker.register(queue, {"send": 0}, {})
    assert ids(await take(broker, queue)) == ["b", "c"]


async def test_a_lowered_limit_leases_no_job_until_enough_have_ended(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 3}, {})
    await put(broker, queue, *"abcde")
    leases = await take(broker, queue)
    await broker.register(queue, {"send": 1}, {})
    for lease in leases:
        assert await take(broker, queue) == []
        assert await settle(broker, queue, lease, Action.DONE)
    assert ids(await take(broker, queue)) == ["d"]
    assert await take(broker, queue) == []


@pytest.mark.parametrize("before", [{}, {"send": 0}])
async def test_a_new_limit_counts_running_jobs(broker: Broker, queue: str, before: dict[str, int]) -> None:
    await broker.register(queue, before, {})
    await put(broker, queue, *"abcd")
    first, second = await take(broker, queue, 2)
    await broker.register(queue, {"send": 2}, {})
    assert await take(broker, queue) == []
    assert await settle(broker, queue, first, Action.DONE)
    assert await settle(broker, queue, second, Action.DONE)
    assert ids(await take(broker, queue)) == ["c", "d"]


async def test_registering_other_tasks_does_not_change_a_limit(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    await broker.register(queue, {"free": 0}, {})
    await broker.register(queue, {}, {})
    await put(broker, queue, *"ab")
    assert ids(await take(broker, queue)) == ["a"]


async def test_a_job_held_back_by_a_limit_can_be_cancelled(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    lease = await put_and_take(broker, queue, "a")
    await put(broker, queue, *"bc")
    assert await take(broker, queue) == []
    assert (await cancel(broker, queue, "b")).status is JobStatus.QUEUED
    assert await counts(broker, queue) == Counts(ready=1, running=1, waiting=0, dead=0)
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.DONE)], 5)
    assert ids(exchanged.leases) == ["c"]


@pytest.mark.parametrize("action", list(Action))
async def test_a_freed_slot_wakes_a_waiter(broker: Broker, queue: str, action: Action) -> None:
    await broker.register(queue, {"send": 1}, {})
    lease = await put_and_take(broker, queue, "a")
    await put(broker, queue, "b")
    assert await take(broker, queue) == []
    await drain_wake_ups(broker, queue)
    assert await settle(broker, queue, lease, action, 60.0)
    assert await broker.wait([queue], 5) == queue


async def test_jobs_held_back_by_a_limit_wake_no_worker(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    await put_and_take(broker, queue, "a")
    await put(broker, queue, "b")
    assert await take(broker, queue) == []
    await drain_wake_ups(broker, queue)
    assert await take(broker, queue, 0) == []
    await broker.tick(queue)
    assert await broker.wait([queue], 0.05) is None


@pytest.mark.parametrize("limit", [0, 2])
async def test_a_raised_or_removed_limit_wakes_a_waiter(broker: Broker, queue: str, limit: int) -> None:
    await broker.register(queue, {"send": 1}, {})
    await put_and_take(broker, queue, "a")
    await put(broker, queue, "b")
    assert await take(broker, queue) == []
    await drain_wake_ups(broker, queue)
    await broker.register(queue, {"send": limit}, {})
    assert await broker.wait([queue], 5) == queue


async def test_jobs_held_back_by_a_limit_keep_their_order(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    await put(broker, queue, "first")
    (lease,) = await take(broker, queue)
    names = [f"job-{number}" for number in (9, 3, 7, 1, 8, 2)]
    for name in names:
        await put(broker, queue, name)
        assert await take(broker, queue) == []
    for name in names:
        exchanged = await broker.exchange(queue, [Settlement(lease, Action.DONE)], 5)
        (lease,) = exchanged.leases
        assert lease.job.id == name
