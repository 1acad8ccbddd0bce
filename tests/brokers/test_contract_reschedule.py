"""Moving jobs to another moment, on every broker."""

from __future__ import annotations

import asyncio

import pytest

from aiospinach.brokers.base import Broker
from aiospinach.brokers.questions import Counts, LookJob, LookOldest
from aiospinach.brokers.records import Settlement
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from .. import asking
from .conftest import (
    drain_wake_ups,
    ids,
    job,
    make_dead,
    put,
    put_and_take,
    settle,
    take,
    take_parked,
    take_when_due,
    take_when_expired,
)

LATER = 60_000
MANY = 1001
"""More leases than one script searches."""


async def crowd(broker: Broker, queue: str, others: int) -> None:
    """Have so many jobs run beside the job of a test."""
    if others:
        await put(broker, queue, *(f"runs-{number}" for number in range(others)), task="crowd")
        assert len(await take(broker, queue, others)) == others


async def test_a_waiting_job_is_moved_to_now(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", at=broker.now() + LATER)
    await broker.tick(queue)
    await drain_wake_ups(broker, queue)
    assert await asking.reschedule(broker, queue, "a") is JobStatus.WAITING
    assert await broker.wait([queue], 10) == queue
    [lease] = await take(broker, queue)
    assert lease.job.at <= broker.now()
    assert await settle(broker, queue, lease, Action.DONE)
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 0)


async def test_a_waiting_job_is_moved_to_an_earlier_moment(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", at=broker.now() + LATER)
    await drain_wake_ups(broker, queue)
    soon = broker.now() + 50
    assert await asking.reschedule(broker, queue, "a", soon) is JobStatus.WAITING
    assert await broker.wait([queue], 10) == queue
    assert (await broker.exchange(queue, [], 1)).has_earlier_due
    [lease] = await take_when_due(broker, queue)
    assert lease.job.at == soon <= broker.now()


async def test_a_waiting_job_is_moved_to_a_later_moment(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", at=broker.now() + 20)
    assert await asking.reschedule(broker, queue, "a", broker.now() + LATER) is JobStatus.WAITING
    await asyncio.sleep(0.03)
    ticked = await broker.tick(queue)
    assert ticked.next_due is not None
    assert ticked.next_due > 50
    assert await take(broker, queue) == []


async def test_a_job_keeps_the_moment_of_its_creation(broker: Broker, queue: str) -> None:
    created = broker.now() + LATER
    await put(broker, queue, "a", at=created)
    await asking.reschedule(broker, queue, "a", created + 1)
    moved = await broker.look(queue, LookJob("a"))
    assert moved is not None
    assert (moved.at, moved.created) == (created + 1, created)


@pytest.mark.parametrize("others", [0, MANY])
async def test_a_queued_job_is_moved_to_a_later_moment(broker: Broker, queue: str, others: int) -> None:
    await crowd(broker, queue, others)
    await put(broker, queue, *"abc")
    later = broker.now() + 100
    assert await asking.reschedule(broker, queue, "b", later) is JobStatus.QUEUED
    moved = await broker.look(queue, LookJob("b"))
    assert moved is not None
    assert moved.at == later
    assert ids(await take(broker, queue)) == ["a", "c"]
    assert (await asking.counts(broker, queue)).waiting == 1
    [lease] = await take_when_due(broker, queue)
    assert lease.job.id == "b"
    assert broker.now() >= later
    assert await take(broker, queue) == []


async def test_a_queued_job_that_is_due_by_then_keeps_its_place(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"abc")
    later = broker.now() + 20
    assert await asking.reschedule(broker, queue, "b", later) is JobStatus.QUEUED
    while broker.now() < later:
        await asyncio.sleep(0.005)
    assert ids(await take(broker, queue)) == ["a", "b", "c"]


@pytest.mark.parametrize("others", [0, MANY])
async def test_a_queued_job_is_moved_to_later_and_back(broker: Broker, queue: str, others: int) -> None:
    await crowd(broker, queue, others)
    await put(broker, queue, *"abc")
    assert await asking.reschedule(broker, queue, "b", broker.now() + LATER) is JobStatus.QUEUED
    assert await asking.reschedule(broker, queue, "b", broker.now() + 2 * LATER) is JobStatus.QUEUED
    assert await asking.reschedule(broker, queue, "b") is JobStatus.QUEUED
    assert ids(await take(broker, queue)) == ["a", "b", "c"]
    assert await asking.reschedule(broker, queue, "b") is JobStatus.RUNNING


async def test_a_queued_job_that_is_due_keeps_its_moment(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", at=1000)
    assert await asking.reschedule(broker, queue, "a") is JobStatus.QUEUED
    assert await broker.look(queue, LookOldest()) == 1000
    [lease] = await take(broker, queue)
    assert lease.job == job("a", at=1000)


async def test_a_job_behind_a_limit_is_moved(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    await put(broker, queue, *"abcd")
    first, *_ = await take(broker, queue)
    later = broker.now() + LATER
    assert await asking.reschedule(broker, queue, "b", later) is JobStatus.QUEUED
    assert await settle(broker, queue, first, Action.DONE)
    [second] = await take(broker, queue)
    assert second.job.id == "c"
    assert await asking.reschedule(broker, queue, "b") is JobStatus.WAITING
    assert await settle(broker, queue, second, Action.DONE)
    [third] = await take(broker, queue)
    assert await settle(broker, queue, third, Action.DONE)
    assert [third.job.id, *ids(await take(broker, queue))] == ["d", "b"]


async def test_a_job_behind_a_pause_is_moved(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"abc")
    await asking.pause(broker, queue, "send")
    assert await take(broker, queue) == []
    assert await asking.reschedule(broker, queue, "a", broker.now() + LATER) is JobStatus.QUEUED
    await asking.resume(broker, queue, "send")
    assert ids(await take(broker, queue)) == ["b", "c"]
    assert (await asking.counts(broker, queue)).waiting == 1


async def test_a_retry_is_moved(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    assert await settle(broker, queue, lease, Action.RETRY, 60.0)
    assert await asking.reschedule(broker, queue, "a") is JobStatus.WAITING
    [again] = await take(broker, queue)
    assert again.job.retries == 1


async def test_a_parked_job_is_moved(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    await settle(broker, queue, lease, Action.PARK)
    later = broker.now() + LATER
    assert await asking.reschedule(broker, queue, "a", later) is JobStatus.WAITING
    assert await take_parked(broker, queue, "send") == []
    assert await asking.counts(broker, queue) == Counts(0, 0, 1, 0)
    assert await asking.reschedule(broker, queue, "a") is JobStatus.WAITING
    [again] = await take(broker, queue)
    assert again.job.parked_at == 0


@pytest.mark.parametrize("others", [0, MANY])
@pytest.mark.parametrize("delay", [0, LATER])
async def test_a_running_job_stays_and_is_not_harmed(
    broker: Broker, queue: str, others: int, delay: int
) -> None:
    await crowd(broker, queue, others)
    lease = await put_and_take(broker, queue, "a", max_retries=2)
    at = broker.now() + delay if delay else 0
    assert await asking.reschedule(broker, queue, "a", at) is JobStatus.RUNNING
    assert list((await broker.renew(queue, [lease.id])).cancelled) == []
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.RETRY)], 1)
    assert list(exchanged.cancelled) == []
    [again] = exchanged.leases
    assert again.job.id == "a"
    assert await settle(broker, queue, again, Action.RELEASE)
    assert ids(await take(broker, queue)) == ["a"]


async def test_a_lost_job_is_not_moved(broker: Broker, queue: str) -> None:
    await put_and_take(broker, queue, "a", max_retries=1)
    [found] = await take_when_expired(broker, queue)
    assert await asking.reschedule(broker, queue, "a", broker.now() + LATER) is JobStatus.RUNNING
    assert await settle(broker, queue, found, Action.RETRY)
    assert ids(await take(broker, queue)) == ["a"]


async def test_a_dead_job_stays_dead(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, "a")
    assert await asking.reschedule(broker, queue, "a") is JobStatus.FAILED
    assert await take(broker, queue) == []


async def test_a_job_that_does_not_live_is_not_moved(broker: Broker, queue: str) -> None:
    await put(broker, queue, "gone")
    await asking.cancel(broker, queue, "gone")
    for name in ("unknown", "gone"):
        assert await asking.reschedule(broker, queue, name) is JobStatus.NOT_SET
        assert await asking.reschedule(broker, queue, name, broker.now() + LATER) is JobStatus.NOT_SET
    assert await take(broker, queue) == []
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 0)


@pytest.mark.parametrize("others", [0, MANY])
async def test_a_job_cancelled_while_it_runs_is_not_moved(broker: Broker, queue: str, others: int) -> None:
    await crowd(broker, queue, others)
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    await asking.cancel(broker, queue, "a")
    await asking.reschedule(broker, queue, "a", broker.now() + LATER)
    assert list((await broker.renew(queue, [lease.id])).cancelled) == [lease.id]


@pytest.mark.parametrize("others", [0, MANY])
@pytest.mark.parametrize("is_met", [False, True])
async def test_a_moved_job_can_be_cancelled(broker: Broker, queue: str, others: int, is_met: bool) -> None:
    await crowd(broker, queue, others)
    await put(broker, queue, "a", "b")
    assert await asking.reschedule(broker, queue, "a", broker.now() + LATER) is JobStatus.QUEUED
    if is_met:
        assert ids(await take(broker, queue)) == ["b"]
    cancelled = await asking.cancel(broker, queue, "a")
    assert cancelled.status is (JobStatus.WAITING if is_met else JobStatus.QUEUED)
    await put(broker, queue, "a", body=b"another")
    leases = await take(broker, queue)
    assert [bytes(lease.job.body) for lease in leases if lease.job.id == "a"] == [b"another"]
    assert await take(broker, queue) == []


async def test_a_job_in_the_place_of_a_cancelled_one_is_moved(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b")
    await asking.cancel(broker, queue, "a")
    await put(broker, queue, "a", at=broker.now() + LATER)
    assert await asking.reschedule(broker, queue, "a") is JobStatus.QUEUED
    assert ids(await take(broker, queue)) == ["a", "b"]


async def test_a_requeued_job_is_moved(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, "a")
    assert await asking.requeue(broker, queue, "a")
    assert await asking.reschedule(broker, queue, "a", broker.now() + LATER) is JobStatus.QUEUED
    assert await take(broker, queue) == []
    assert await asking.counts(broker, queue) == Counts(0, 0, 1, 0)


async def test_the_id_of_a_moved_job_is_in_use(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", named=True)
    await asking.reschedule(broker, queue, "a", broker.now() + LATER)
    assert await broker.enqueue(queue, [job("a", named=True), job("a")]) == [False, False]


async def test_each_job_starts_once_and_not_before_its_moment(broker: Broker, queue: str) -> None:
    """Jobs are moved while workers lease them."""
    names = [f"job-{number}" for number in range(100)]
    await put(broker, queue, *names)
    moved: dict[str, int] = {}
    started: dict[str, int] = {}

    async def work() -> None:
        while len(started) < len(names):
            await broker.tick(queue)
            leases = await take(broker, queue, 3)
            for lease in leases:
                assert lease.job.id not in started, "once"
                started[lease.job.id] = broker.now()
            await broker.exchange(queue, [Settlement(lease, Action.DONE) for lease in leases], 0)
            await asyncio.sleep(0)

    async def move(some: list[str], delay: int) -> None:
        for name in some:
            at = broker.now() + delay
            if (await asking.reschedule(broker, queue, name, at)).name in ("QUEUED", "WAITING"):
                moved[name] = at
            await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await asyncio.gather(work(), work(), move(names[::2], 30), move(names[::-2], 60))
    assert moved
    assert all(started[name] >= at for name, at in moved.items())
