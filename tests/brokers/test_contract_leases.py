"""Renewing leases, and recovering the jobs of leases that were not renewed."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from aiospinach.brokers.base import Broker
from aiospinach.brokers.questions import Counts
from aiospinach.brokers.records import Settlement
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from .. import asking
from .conftest import LEASE, ids, put, put_and_take, settle, take, take_when_expired

ROUNDING = 0.002
"""A broker may count in whole milliseconds."""


async def let_leases_expire(broker: Broker) -> None:
    """Wait without any call until leases taken now have expired, including their grace."""
    end = time.monotonic() + broker.lease + broker.grace + ROUNDING
    while time.monotonic() < end:
        await asyncio.sleep(0.01)


async def test_the_times_of_a_lease_follow_from_its_length(broker: Broker) -> None:
    assert broker.lease == LEASE
    assert broker.margin == pytest.approx(LEASE / 12)
    assert broker.grace == pytest.approx(LEASE / 6)
    assert broker.tick_period == pytest.approx(LEASE / 12)


async def test_a_renewal_extends_the_trust_in_a_lease(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    trusted_until = lease.trusted_until
    for _ in range(3):
        await asyncio.sleep(0.01)
        sent = time.monotonic()
        renewed = await broker.renew(queue, [lease.id])
        answered = time.monotonic()
        trust = broker.lease - broker.margin
        assert sent + trust <= renewed.trusted_until <= answered + trust
        assert renewed.trusted_until > trusted_until
        assert (list(renewed.lost), list(renewed.cancelled)) == ([], [])
        trusted_until = renewed.trusted_until


async def test_a_renewed_lease_does_not_expire(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    end = time.monotonic() + 1.5 * (broker.lease + broker.grace)
    while time.monotonic() < end:
        assert list((await broker.renew(queue, [lease.id])).lost) == []
        assert list((await broker.tick(queue)).expired) == []
        await asyncio.sleep(broker.lease / 8)
    assert await settle(broker, queue, lease, Action.DONE)


async def test_a_renewal_returns_the_lost_leases(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"ab")
    a, b = await take(broker, queue)
    assert await settle(broker, queue, a, Action.DONE)
    renewed = await broker.renew(queue, [a.id, b.id, "of-nobody:1"])
    assert sorted(renewed.lost) == sorted([a.id, "of-nobody:1"])
    assert await asking.counts(broker, queue) == Counts(ready=0, running=1, waiting=0, dead=0)


async def test_renewing_no_leases_returns_nothing(broker: Broker, queue: str) -> None:
    renewed = await broker.renew(queue, [])
    assert (list(renewed.lost), list(renewed.cancelled)) == ([], [])


async def test_renewals_return_cancelled_jobs_as_long_as_they_run(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"ab")
    a, b = await take(broker, queue)
    assert (await asking.cancel(broker, queue, "a")).status is JobStatus.RUNNING
    for _ in range(2):
        renewed = await broker.renew(queue, [a.id, b.id])
        assert (list(renewed.lost), list(renewed.cancelled)) == ([], [a.id])
    assert list((await broker.renew(queue, [b.id])).cancelled) == []
    assert await settle(broker, queue, a, Action.CANCELLED)
    renewed = await broker.renew(queue, [a.id, b.id])
    assert (list(renewed.lost), list(renewed.cancelled)) == ([a.id], [])


@pytest.mark.parametrize("action", [Action.RETRY, Action.RELEASE, Action.PARK])
async def test_a_job_cancelled_while_running_is_not_requeued(
    broker: Broker, queue: str, action: Action
) -> None:
    await put(broker, queue, "a", "b", "c")
    kept_job, fenced, cancelled_job = await take(broker, queue)
    assert await settle(broker, queue, fenced, Action.DONE)
    assert (await asking.cancel(broker, queue, "c")).status is JobStatus.RUNNING
    settled = [Settlement(lease, action, 60.0) for lease in (kept_job, fenced, cancelled_job)]
    exchanged = await broker.exchange(queue, settled, 0)
    assert (list(exchanged.fenced), list(exchanged.cancelled)) == ([fenced.id], [cancelled_job.id])
    counts = await asking.counts(broker, queue)
    assert (counts.ready + counts.waiting + counts.parked, counts.running) == (1, 0)
    assert (await asking.cancel(broker, queue, "c")).status is JobStatus.NOT_SET


@pytest.mark.parametrize("action", [Action.DONE, Action.FAIL, Action.CANCELLED])
async def test_a_job_that_ends_before_its_worker_noticed_the_cancellation_has_ended(
    broker: Broker, queue: str, action: Action
) -> None:
    lease = await put_and_take(broker, queue, "a")
    await asking.cancel(broker, queue, "a")
    exchanged = await broker.exchange(queue, [Settlement(lease, action)], 1)
    assert (list(exchanged.fenced), list(exchanged.cancelled), list(exchanged.leases)) == ([], [], [])
    assert (await asking.counts(broker, queue)).dead == (action is Action.FAIL)


async def test_a_cancellation_survives_the_loss_of_the_worker(broker: Broker, queue: str) -> None:
    await put_and_take(broker, queue, "a", max_retries=1)
    await asking.cancel(broker, queue, "a")
    (found,) = await take_when_expired(broker, queue)
    assert list((await broker.renew(queue, [found.id])).cancelled) == [found.id]
    exchanged = await broker.exchange(queue, [Settlement(found, Action.RETRY)], 1)
    assert (list(exchanged.cancelled), list(exchanged.leases)) == ([found.id], [])


async def test_a_tick_leases_an_expired_job_to_its_caller_after_the_grace(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", max_retries=2)
    taken = time.monotonic()
    (lost,) = await take(broker, queue)
    (found,) = await take_when_expired(broker, queue)
    assert time.monotonic() - taken >= broker.lease + broker.grace - ROUNDING
    assert found.id != lost.id
    assert found.job.id == "a"
    assert (found.job.crashes, found.job.retries, found.job.max_retries) == (1, 0, 2)
    assert bytes(found.job.body) == b"body of a"
    assert await asking.counts(broker, queue) == Counts(ready=0, running=1, waiting=0, dead=0)


async def test_an_exchange_does_not_lease_an_expired_job(broker: Broker, queue: str) -> None:
    await put_and_take(broker, queue, "a")
    (found,) = await take_when_expired(broker, queue)
    assert await take(broker, queue) == []
    assert await settle(broker, queue, found, Action.FAIL, detail=b"lost")
    (dead,) = await asking.dead(broker, queue)
    assert (dead.job.id, dead.job.crashes) == ("a", 1)


async def test_a_lease_for_recovery_is_trusted_and_expires_like_any_other(broker: Broker, queue: str) -> None:
    await put_and_take(broker, queue, "a")
    for _ in range(3):
        sent = time.monotonic()
        (found,) = await take_when_expired(broker, queue)
        trust = broker.lease - broker.margin
        assert sent + trust <= found.trusted_until <= time.monotonic() + trust
        assert found.job.crashes == 1, "only one worker that ran the job was lost"
        assert list((await broker.tick(queue)).expired) == []
    assert await settle(broker, queue, found, Action.RETRY)
    (lease,) = await take(broker, queue)
    assert (lease.job.crashes, lease.job.retries) == (1, 1)


async def test_each_lost_worker_counts_as_one_crash(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", max_retries=5)
    for crashes in (1, 2, 3):
        await take(broker, queue)
        for _ in range(2):
            (found,) = await take_when_expired(broker, queue)
            assert found.job.crashes == crashes
        assert await settle(broker, queue, found, Action.RETRY)


async def test_only_one_of_several_concurrent_ticks_gets_an_expired_job(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"abc")
    assert len(await take(broker, queue)) == 3
    found: list[str] = []
    deadline = time.monotonic() + 10
    while len(found) < 3:
        assert time.monotonic() < deadline
        for ticked in await asyncio.gather(*(broker.tick(queue) for _ in range(8))):
            found += ids(ticked.expired)
        await asyncio.sleep(0.005)
    for ticked in await asyncio.gather(*(broker.tick(queue) for _ in range(8))):
        found += ids(ticked.expired)
    assert sorted(found) == ["a", "b", "c"]


async def test_only_leases_that_were_not_renewed_expire(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"ab")
    kept, lost = await take(broker, queue)
    found: list[str] = []
    deadline = time.monotonic() + 10
    while not found:
        assert time.monotonic() < deadline
        assert list((await broker.renew(queue, [kept.id])).lost) == []
        found += ids((await broker.tick(queue)).expired)
        await asyncio.sleep(0.01)
    assert found == [lost.job.id]


async def test_an_expired_lease_can_be_settled_until_the_job_is_recovered(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    await let_leases_expire(broker)
    assert await settle(broker, queue, lease, Action.DONE)
    assert list((await broker.tick(queue)).expired) == []
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 0)


async def test_an_expired_lease_can_be_renewed_until_the_job_is_recovered(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    await let_leases_expire(broker)
    assert list((await broker.renew(queue, [lease.id])).lost) == []
    assert list((await broker.tick(queue)).expired) == []
    assert await settle(broker, queue, lease, Action.DONE)


@pytest.mark.parametrize("count", [100, 350, 5000])
async def test_many_lost_jobs_are_all_recovered_without_waiting(
    broker: Broker, queue: str, count: int
) -> None:
    """A tick recovers some of them, and requests another tick at once."""
    names = [str(number) for number in range(count)]
    await put(broker, queue, *names)
    taken = [lease for _ in range(0, count, 1000) for lease in await take(broker, queue, 1000)]
    assert len(taken) == count
    await let_leases_expire(broker)
    found: list[str] = []
    ticks = 0
    deadline = time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < deadline
        ticked = await broker.tick(queue)
        if not ticked.expired:  # the machine was paused for so long that the rescue pauses
            await asyncio.sleep(0.01)
            continue
        found += ids(ticked.expired)
        ticks += 1
        assert ticked.next_due == (0 if len(found) < count else None)
        done = [Settlement(lease, Action.DONE) for lease in ticked.expired]
        assert list((await broker.exchange(queue, done, 0)).fenced) == []
    assert sorted(found) == sorted(names)
    assert ticks == math.ceil(count / 100)
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 0)


# Rescue pauses after a time without ticks.


async def test_no_lease_is_recovered_at_once_after_a_time_without_ticks(broker: Broker, queue: str) -> None:
    await put(broker, queue, "settled", "renewed")
    settled, renewed = await take(broker, queue)
    await broker.tick(queue)
    await let_leases_expire(broker)
    assert list((await broker.tick(queue)).expired) == []
    assert list((await broker.renew(queue, [renewed.id])).lost) == []
    assert await settle(broker, queue, settled, Action.DONE)
    assert await asking.counts(broker, queue) == Counts(ready=0, running=1, waiting=0, dead=0)


async def test_expired_leases_are_recovered_after_a_rescue_pause_of_a_quarter_lease(
    broker: Broker, queue: str
) -> None:
    await put_and_take(broker, queue, "a")
    await broker.tick(queue)
    await let_leases_expire(broker)
    first = time.monotonic()
    assert ids(await take_when_expired(broker, queue)) == ["a"]
    assert time.monotonic() - first >= broker.lease / 4 - ROUNDING


async def test_lost_jobs_are_recovered_even_if_ticks_are_far_apart(broker: Broker, queue: str) -> None:
    """Ticks that are further apart than the threshold shorten the rescue pause, and do not restart it."""
    await put_and_take(broker, queue, "a")
    await broker.tick(queue)
    await let_leases_expire(broker)
    found: list[str] = []
    ticks_made = 0
    while not found:
        found += ids((await broker.tick(queue)).expired)
        ticks_made += 1
        assert ticks_made <= 6
        await asyncio.sleep(0 if found else broker.lease / 4 + 2 * ROUNDING)
    assert found == ["a"]
    assert ticks_made >= 3, "a long gap shortens the rescue pause only a little"


async def test_a_rescue_pause_of_one_queue_does_not_affect_another(
    broker: Broker, queue: str, other_queue: str
) -> None:
    lease = await put_and_take(broker, queue, "a")
    await put_and_take(broker, other_queue, "b")
    await broker.tick(queue)
    while time.monotonic() < lease.trusted_until + broker.margin + broker.grace + ROUNDING:
        await broker.tick(other_queue)
        await asyncio.sleep(0.005)
    assert ids(await take_when_expired(broker, other_queue)) == ["b"]
    assert list((await broker.tick(queue)).expired) == []
