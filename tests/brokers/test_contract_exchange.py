"""Settling and leasing in one call: the effects of every action, and the fencing of lost leases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiospinach.brokers.base import Broker
from aiospinach.brokers.questions import Counts
from aiospinach.brokers.records import Envelope, Lease, Settlement
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from .. import asking
from .conftest import ids, job, put, put_and_take, settle, take, take_parked, take_when_due, take_when_expired

NOTHING = Counts(0, 0, 0, 0)
SETTLEMENTS = [
    pytest.param(Action.DONE, 0.0, NOTHING, id="done"),
    pytest.param(Action.CANCELLED, 0.0, NOTHING, id="cancelled"),
    pytest.param(Action.FAIL, 0.0, Counts(0, 0, 0, 1), id="fail"),
    pytest.param(Action.RETRY, 0.0, Counts(1, 0, 0, 0), id="retry at once"),
    pytest.param(Action.RETRY, 60.0, Counts(0, 0, 1, 0), id="retry later"),
    pytest.param(Action.RELEASE, 0.0, Counts(1, 0, 0, 0), id="release"),
    pytest.param(Action.PARK, 60.0, Counts(0, 0, 0, 0, parked=1), id="park"),
]


async def test_an_exchange_with_an_empty_queue_returns_nothing(broker: Broker, queue: str) -> None:
    exchanged = await broker.exchange(queue, [], 10)
    assert (list(exchanged.leases), list(exchanged.fenced)) == ([], [])


async def test_want_is_the_maximum_number_of_leases(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"abcde")
    assert ids(await take(broker, queue, 0)) == []
    assert ids(await take(broker, queue, 2)) == ["a", "b"]
    assert ids(await take(broker, queue, 1000)) == ["c", "d", "e"]
    assert ids(await take(broker, queue, 1)) == []


async def test_a_job_is_leased_to_one_caller_only(broker: Broker, queue: str) -> None:
    names = [str(number) for number in range(100)]
    await put(broker, queue, *names)
    shares = await asyncio.gather(*(take(broker, queue, 7) for _ in range(20)))
    assert sorted(name for share in shares for name in ids(share)) == sorted(names)
    assert len({lease.id for share in shares for lease in share}) == 100


async def test_one_exchange_settles_and_leases(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"abc")
    first, second = await take(broker, queue, 2)
    exchanged = await broker.exchange(
        queue, [Settlement(first, Action.DONE), Settlement(second, Action.FAIL, 0.0, b"why")], 5
    )
    assert list(exchanged.fenced) == []
    assert ids(exchanged.leases) == ["c"]
    assert await asking.counts(broker, queue) == Counts(ready=0, running=1, waiting=0, dead=1)


async def test_an_exchange_may_lease_the_job_that_it_releases(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.RELEASE)], 1)
    (again,) = exchanged.leases
    assert again.job.id == "a"
    assert again.id != lease.id


async def test_a_lease_is_trusted_until_its_margin_before_the_end(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a")
    sent = time.monotonic()
    (lease,) = await take(broker, queue)
    answered = time.monotonic()
    trust = broker.lease - broker.margin
    assert sent + trust <= lease.trusted_until <= answered + trust


@pytest.mark.parametrize(("action", "delay", "after"), SETTLEMENTS)
async def test_each_action_moves_the_job_to_its_new_state(
    broker: Broker, queue: str, action: Action, delay: float, after: Counts
) -> None:
    lease = await put_and_take(broker, queue, "a")
    assert await asking.counts(broker, queue) == Counts(ready=0, running=1, waiting=0, dead=0)
    assert await settle(broker, queue, lease, action, delay)
    assert await asking.counts(broker, queue) == after


async def test_a_retry_is_counted_and_leased_after_its_delay(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=5)
    for retry in (1, 2, 3):
        before = broker.now()
        assert await settle(broker, queue, lease, Action.RETRY, 0.05)
        after = broker.now()
        assert await take(broker, queue) == []
        (lease,) = await take_when_due(broker, queue)
        assert broker.now() >= before + 50
        assert before + 50 <= lease.job.at <= after + 50
        assert (lease.job.retries, lease.job.max_retries, lease.job.crashes) == (retry, 5, 0)


async def test_a_retry_without_delay_is_added_to_the_end_of_the_queue(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"abc")
    (lease,) = await take(broker, queue, 1)
    assert await settle(broker, queue, lease, Action.RETRY)
    leases = await take(broker, queue)
    assert ids(leases) == ["b", "c", "a"]
    assert [lease.job.retries for lease in leases] == [0, 0, 1]


async def test_a_failed_job_is_dead_with_its_detail(broker: Broker, queue: str) -> None:
    detail = b'{"reason":"error"}\x00\xff\n'
    lease = await put_and_take(broker, queue, "a", max_retries=3)
    before = broker.now()
    assert await settle(broker, queue, lease, Action.FAIL, detail=detail)
    after = broker.now()
    (dead,) = await asking.dead(broker, queue)
    assert dead.job == lease.job
    assert bytes(dead.detail) == detail
    assert before <= dead.died_at <= after
    await broker.tick(queue)
    assert await take(broker, queue) == []


async def test_a_released_job_is_next_and_uses_no_retry(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"abc", max_retries=3)
    first, second = await take(broker, queue, 2)
    assert await settle(broker, queue, second, Action.RELEASE)
    assert await settle(broker, queue, first, Action.RELEASE)
    leases = await take(broker, queue)
    assert ids(leases) == ["a", "b", "c"]
    assert [(lease.job.retries, lease.job.crashes) for lease in leases] == [(0, 0)] * 3


async def test_a_parked_job_keeps_the_moment_of_its_first_parking(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    before = broker.now()
    assert await settle(broker, queue, lease, Action.PARK)
    after = broker.now()
    assert await take(broker, queue) == []
    (lease,) = await take_parked(broker, queue, "send")
    parked_at = lease.job.parked_at
    assert before <= parked_at <= after
    assert lease.job.retries == 0
    for _ in range(2):
        assert await settle(broker, queue, lease, Action.PARK)
        (lease,) = await take_parked(broker, queue, "send")
        assert lease.job.parked_at == parked_at


async def test_the_moment_of_parking_survives_release_and_death(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    assert await settle(broker, queue, lease, Action.PARK)
    (lease,) = await take_parked(broker, queue, "send")
    assert await settle(broker, queue, lease, Action.RELEASE)
    (lease,) = await take(broker, queue)
    assert lease.job.parked_at > 0
    assert await settle(broker, queue, lease, Action.FAIL)
    (dead,) = await asking.dead(broker, queue)
    assert dead.job.parked_at == lease.job.parked_at


async def test_a_retry_resets_the_moment_of_parking(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    assert await settle(broker, queue, lease, Action.PARK)
    (lease,) = await take_parked(broker, queue, "send")
    assert lease.job.parked_at > 0
    assert await settle(broker, queue, lease, Action.RETRY)
    (lease,) = await take(broker, queue)
    assert (lease.job.parked_at, lease.job.retries) == (0, 1)


@pytest.mark.parametrize("limit", [0, 3])
async def test_jobs_released_in_one_exchange_keep_their_order(broker: Broker, queue: str, limit: int) -> None:
    await broker.register(queue, {"send": limit}, {})
    await put(broker, queue, *"abcde")
    leases = await take(broker, queue, 3)
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.RELEASE) for lease in leases], 0)
    assert list(exchanged.fenced) == []
    assert ids(await take(broker, queue, 3)) == ["a", "b", "c"]


async def test_a_retry_in_a_distant_future_remains_a_job(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    assert await settle(broker, queue, lease, Action.RETRY, 250e9)
    assert await asking.counts(broker, queue) == Counts(ready=0, running=0, waiting=1, dead=0)
    cancelled = await asking.cancel(broker, queue, "a")
    assert cancelled.job is not None
    assert cancelled.job.at > 250e12


@pytest.mark.parametrize("again", list(Action))
@pytest.mark.parametrize(("action", "delay", "after"), SETTLEMENTS)
async def test_a_lease_settles_once(
    broker: Broker, queue: str, action: Action, delay: float, after: Counts, again: Action
) -> None:
    lease = await put_and_take(broker, queue, "a")
    assert await settle(broker, queue, lease, action, delay, b"first")
    assert not await settle(broker, queue, lease, again, 30.0, b"second")
    assert await asking.counts(broker, queue) == after
    assert [bytes(dead.detail) for dead in await asking.dead(broker, queue)] == [b"first"] * after.dead


async def test_the_first_of_two_settlements_of_one_lease_in_an_exchange_counts(
    broker: Broker, queue: str
) -> None:
    lease = await put_and_take(broker, queue, "a")
    both = [Settlement(lease, Action.FAIL), Settlement(lease, Action.RELEASE)]
    exchanged = await broker.exchange(queue, both, 1)
    assert list(exchanged.fenced) == [lease.id]
    assert list(exchanged.leases) == []
    assert await asking.counts(broker, queue) == Counts(ready=0, running=0, waiting=0, dead=1)


def successor(job_id: str, **fields: Any) -> Envelope:
    """A job that is stored when the previous one of its id ends."""
    return job(job_id, body=b"next", **fields)


@pytest.mark.parametrize("action", [Action.DONE, Action.FAIL, Action.CANCELLED])
async def test_a_successor_is_queued_when_the_job_ends(broker: Broker, queue: str, action: Action) -> None:
    lease = await put_and_take(broker, queue, "a", named=True)
    await put(broker, queue, "b")
    exchanged = await broker.exchange(queue, [Settlement(lease, action, successor=successor("a"))], 2)
    assert [(each.job.id, each.job.body) for each in exchanged.leases] == [
        ("b", b"body of b"),
        ("a", b"next"),
    ]
    assert len(await asking.dead(broker, queue)) == (action is Action.FAIL)
    assert await broker.enqueue(queue, [job("a")]) == [False]


async def test_a_successor_waits_for_its_moment(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    later = successor("a", at=broker.now() + 300)
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.DONE, successor=later)], 1)
    assert list(exchanged.leases) == []
    assert await asking.counts(broker, queue) == Counts(ready=0, running=0, waiting=1, dead=0)
    [lease] = await take_when_due(broker, queue)
    assert (lease.job.body, broker.now() >= later.at) == (b"next", True)


async def test_a_successor_to_run_at_once_does_not_wait_if_its_clock_is_ahead(
    broker: Broker, queue: str
) -> None:
    lease = await put_and_take(broker, queue, "a")
    at_once = successor("a", at=broker.now() + 60_000, at_once=True)
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.DONE, successor=at_once)], 1)
    assert [each.job.body for each in exchanged.leases] == [b"next"]


@pytest.mark.parametrize("action", [Action.RETRY, Action.RELEASE, Action.PARK])
async def test_no_successor_is_stored_for_a_job_that_will_run_again(
    broker: Broker, queue: str, action: Action
) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    exchanged = await broker.exchange(queue, [Settlement(lease, action, successor=successor("a"))], 0)
    assert not exchanged.fenced
    leases = await take(broker, queue) + await take_parked(broker, queue, "send")
    assert [each.job.body for each in leases] == [b"body of a"]


@pytest.mark.parametrize("action", [Action.DONE, Action.FAIL, Action.RETRY])
async def test_no_successor_is_stored_for_a_cancelled_job(broker: Broker, queue: str, action: Action) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    assert (await asking.cancel(broker, queue, "a")).status is JobStatus.RUNNING
    await broker.exchange(queue, [Settlement(lease, action, successor=successor("a"))], 0)
    after = await asking.counts(broker, queue)
    assert after == Counts(ready=0, running=0, waiting=0, dead=int(action is Action.FAIL))


async def test_a_fenced_settlement_stores_no_successor(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    assert await settle(broker, queue, lease, Action.DONE)
    late = Settlement(lease, Action.DONE, successor=successor("a"))
    assert list((await broker.exchange(queue, [late], 0)).fenced) == [lease.id]
    assert await asking.counts(broker, queue) == NOTHING


async def test_only_the_lost_leases_of_an_exchange_are_fenced(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"abc")
    a, b, c = await take(broker, queue)
    assert await settle(broker, queue, b, Action.DONE)
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.DONE) for lease in (a, b, c)], 0)
    assert list(exchanged.fenced) == [b.id]
    assert await asking.counts(broker, queue) == NOTHING


async def test_a_settled_lease_cannot_affect_the_next_run_of_its_job(broker: Broker, queue: str) -> None:
    old = await put_and_take(broker, queue, "a", max_retries=1)
    assert await settle(broker, queue, old, Action.RETRY)
    (new,) = await take(broker, queue)
    for action in Action:
        assert not await settle(broker, queue, old, action)
    assert list((await broker.renew(queue, [old.id, new.id])).lost) == [old.id]
    assert await settle(broker, queue, new, Action.DONE)
    assert await asking.counts(broker, queue) == NOTHING


@pytest.mark.parametrize("action", list(Action))
async def test_a_zombie_cannot_affect_a_job_recovered_by_another_worker(
    broker: Broker, queue: str, action: Action
) -> None:
    zombie = await put_and_take(broker, queue, "a", max_retries=1)
    (taken,) = await take_when_expired(broker, queue)
    assert not await settle(broker, queue, zombie, action, 30.0, b"from the grave")
    assert await asking.counts(broker, queue) == Counts(ready=0, running=1, waiting=0, dead=0)
    assert list((await broker.renew(queue, [zombie.id, taken.id])).lost) == [zombie.id]
    assert await settle(broker, queue, taken, Action.RETRY)
    (lease,) = await take(broker, queue)
    assert (lease.job.retries, lease.job.crashes) == (1, 1)


async def test_a_lease_of_another_queue_is_fenced(broker: Broker, queue: str, other_queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    await put_and_take(broker, other_queue, "a")
    elsewhere = Settlement(Lease("a:of-nobody", lease.job, lease.trusted_until), Action.DONE)
    assert list((await broker.exchange(other_queue, [elsewhere], 0)).fenced) == ["a:of-nobody"]
    assert (await asking.counts(broker, other_queue)).running == 1
    assert await settle(broker, queue, lease, Action.DONE)


async def _retry(broker: Broker, queue: str, lease: Lease) -> None:
    assert await settle(broker, queue, lease, Action.RETRY)


async def _park(broker: Broker, queue: str, lease: Lease) -> None:
    assert await settle(broker, queue, lease, Action.PARK)


async def _expire(broker: Broker, queue: str, lease: Lease) -> None:
    assert ids(await take_when_expired(broker, queue)) == [lease.job.id]


@pytest.mark.parametrize("change", [_retry, _park, _expire])
async def test_the_job_of_a_lease_is_not_changed_by_later_calls(
    broker: Broker, queue: str, change: Callable[[Broker, str, Lease], Awaitable[None]]
) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=3)
    then = (lease.job.at, lease.job.retries, lease.job.crashes, lease.job.parked_at)
    await change(broker, queue, lease)
    assert (lease.job.at, lease.job.retries, lease.job.crashes, lease.job.parked_at) == then


async def test_a_job_cancelled_in_the_queue_is_skipped(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"abcd")
    for name in "ac":
        assert (await asking.cancel(broker, queue, name)).status is JobStatus.QUEUED
    assert ids(await take(broker, queue, 2)) == ["b", "d"]


async def test_is_something_left_reports_further_runnable_jobs(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"limited": 1}, {})
    await put(broker, queue, "a", "b", "c")
    await put(broker, queue, "first", "second", task="limited")
    exchanged = await broker.exchange(queue, [], 2)
    assert (ids(exchanged.leases), exchanged.is_something_left) == (["a", "b"], True)
    exchanged = await broker.exchange(queue, [], 5)
    assert (ids(exchanged.leases), exchanged.is_something_left) == (["c", "first"], False)
    limited = exchanged.leases[1]
    exchanged = await broker.exchange(queue, [Settlement(limited, Action.DONE)], 0)
    assert exchanged.is_something_left, "the slot is free"
    exchanged = await broker.exchange(queue, [], 5)
    assert (ids(exchanged.leases), exchanged.is_something_left) == (["second"], False)


async def test_is_something_left_ignores_waiting_and_cancelled_jobs(broker: Broker, queue: str) -> None:
    await put(broker, queue, "later", at=broker.now() + 60_000)
    await put(broker, queue, "a", "b", "c")
    for job_id in ("a", "c"):
        await asking.cancel(broker, queue, job_id)
    exchanged = await broker.exchange(queue, [], 3)
    assert (ids(exchanged.leases), exchanged.is_something_left) == (["b"], False)


@pytest.mark.parametrize("cancelled", [1, 2])
async def test_is_something_left_sees_jobs_behind_cancelled_ones(
    broker: Broker, queue: str, cancelled: int
) -> None:
    """Ids of cancelled jobs fill the page of the line that an exchange reads."""
    gone = [f"gone-{number}" for number in range(cancelled)]
    await put(broker, queue, *gone, "a", "b", "c", "d")
    for job_id in gone:
        await asking.cancel(broker, queue, job_id)
    exchanged = await broker.exchange(queue, [], 2)
    assert (ids(exchanged.leases), exchanged.is_something_left) == (["a", "b"], True)
    exchanged = await broker.exchange(queue, [], 2)
    assert (ids(exchanged.leases), exchanged.is_something_left) == (["c", "d"], False)
