"""Cancelling jobs, dead jobs, counts of jobs, and flushing a queue."""

from __future__ import annotations

import asyncio

import pytest

from aiospinach.brokers.base import DEAD_AT_MOST, Broker
from aiospinach.brokers.questions import Counts, LookJob, Requeue, SteerResult
from aiospinach.brokers.records import Settlement
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from .. import asking
from .conftest import (
    fire,
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


async def test_a_dead_job_may_be_kept_without_its_arguments(broker: Broker, queue: str) -> None:
    for name, body in (("a", b"[[1],{}]"), ("b", b"[[],{}]")):
        lease = await put_and_take(broker, queue, name, body=body)
        await broker.exchange(queue, [Settlement(lease, Action.FAIL, detail=b"{}", is_bare=True)], 0)
    dead = {dead.job.id: bytes(dead.job.body) for dead in await asking.dead(broker, queue)}
    assert dead == {"a": b"", "b": b"[[],{}]"}, "a job without arguments is not bare"
    assert await broker.steer(queue, Requeue("a")) == SteerResult(JobStatus.NOT_SET, is_bare=True)
    assert await broker.steer(queue, Requeue("b")) == SteerResult(JobStatus.FAILED)
    assert ids(await take(broker, queue)) == ["b"]
    assert await asking.discard(broker, queue, "a")


async def test_a_retry_keeps_its_arguments(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", body=b"[[1],{}]", max_retries=1)
    await broker.exchange(queue, [Settlement(lease, Action.RETRY, is_bare=True)], 0)
    [again] = await take(broker, queue)
    assert bytes(again.job.body) == b"[[1],{}]"


async def test_cancelling_a_waiting_job_removes_it(broker: Broker, queue: str) -> None:
    due = broker.now() + 60_000
    await put(broker, queue, "a", at=due, max_retries=1)
    cancelled = await asking.cancel(broker, queue, "a")
    assert cancelled.status is JobStatus.WAITING
    assert cancelled.job == job("a", at=due, max_retries=1)
    ticked = await broker.tick(queue)
    assert ticked.next_due is None
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 0)


async def test_a_waiting_job_that_was_cancelled_never_runs(broker: Broker, queue: str) -> None:
    due = broker.now() + 300
    await put(broker, queue, "a", "b", at=due)
    assert (await asking.cancel(broker, queue, "a")).status is JobStatus.WAITING
    assert ids(await take_when_due(broker, queue)) == ["b"]


async def test_the_id_of_a_cancelled_waiting_job_is_free_at_once(broker: Broker, queue: str) -> None:
    due = broker.now() + 300
    await put(broker, queue, "a", at=due)
    await asking.cancel(broker, queue, "a")
    await put(broker, queue, "a", body=b"another", at=due + 30)
    (lease,) = await take_when_due(broker, queue)
    assert broker.now() >= due + 30
    assert bytes(lease.job.body) == b"another"
    await broker.tick(queue)
    assert await take(broker, queue) == []


async def test_cancelling_a_job_that_waits_for_its_retry_removes_it(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    assert await settle(broker, queue, lease, Action.RETRY, 60.0)
    cancelled = await asking.cancel(broker, queue, "a")
    assert cancelled.status is JobStatus.WAITING
    assert cancelled.job is not None
    assert cancelled.job.retries == 1
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 0)


async def test_cancelling_a_queued_job_removes_it(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"abc")
    cancelled = await asking.cancel(broker, queue, "b")
    assert cancelled.status is JobStatus.QUEUED
    assert cancelled.job == job("b")
    assert await asking.counts(broker, queue) == Counts(ready=2, running=0, waiting=0, dead=0)
    assert ids(await take(broker, queue)) == ["a", "c"]


async def test_the_next_renewal_reports_the_cancellation_of_a_running_job(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    for _ in range(2):
        cancelled = await asking.cancel(broker, queue, "a")
        assert cancelled.status is JobStatus.RUNNING
        assert cancelled.job == job("a")
    assert await asking.counts(broker, queue) == Counts(ready=0, running=1, waiting=0, dead=0)
    assert list((await broker.renew(queue, [lease.id])).cancelled) == [lease.id]
    assert await settle(broker, queue, lease, Action.CANCELLED)
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 0)


@pytest.mark.parametrize("others", [1, 1001])  # more than one page of leases
async def test_a_running_job_is_found_by_an_id_of_any_characters(
    broker: Broker, queue: str, others: int
) -> None:
    odd = "~!$&'()*[a-c]^`{|}\\?"
    await put(broker, queue, odd, *(f"{odd}{number}" for number in range(others)))
    leases = await take(broker, queue, 1 + others)
    assert (await asking.cancel(broker, queue, odd)).status is JobStatus.RUNNING
    renewed = await broker.renew(queue, [lease.id for lease in leases[:1]])
    assert list(renewed.cancelled) == [leases[0].id]


async def test_a_recovered_job_can_be_cancelled(broker: Broker, queue: str) -> None:
    await put_and_take(broker, queue, "a")
    (found,) = await take_when_expired(broker, queue)
    assert (await asking.cancel(broker, queue, "a")).status is JobStatus.RUNNING
    assert list((await broker.renew(queue, [found.id])).cancelled) == [found.id]


async def test_cancelling_a_job_that_is_not_live_does_nothing(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, "dead")
    lease = await put_and_take(broker, queue, "done")
    assert await settle(broker, queue, lease, Action.DONE)
    await put(broker, queue, "cancelled")
    await asking.cancel(broker, queue, "cancelled")
    for name in ("unknown", "dead", "done", "cancelled"):
        cancelled = await asking.cancel(broker, queue, name)
        assert (cancelled.status, cancelled.job) == (JobStatus.NOT_SET, None)
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 1)


async def test_a_job_is_cancelled_in_its_own_queue_only(broker: Broker, queue: str, other_queue: str) -> None:
    await put(broker, queue, "a")
    assert (await asking.cancel(broker, other_queue, "a")).status is JobStatus.NOT_SET
    assert ids(await take(broker, queue)) == ["a"]


async def test_dead_jobs_are_listed_latest_first_and_in_pages(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, *"cadbe")

    async def page(offset: int, limit: int) -> str:
        return "".join(dead.job.id for dead in await asking.dead(broker, queue, offset=offset, limit=limit))

    assert [dead.job.id for dead in await asking.dead(broker, queue)] == list("ebdac")
    assert [await page(offset, 2) for offset in (0, 2, 4, 6)] == ["eb", "da", "c", ""]
    assert await page(1, 3) == "bda"
    assert await page(0, 0) == ""
    deaths = [dead.died_at for dead in await asking.dead(broker, queue)]
    assert deaths == sorted(deaths, reverse=True)
    assert [bytes(dead.detail) for dead in await asking.dead(broker, queue, limit=2)] == [b"why e", b"why b"]


async def test_a_page_holds_a_hundred_dead_jobs_by_default(broker: Broker, queue: str) -> None:
    await put(broker, queue, *(str(number) for number in range(101)))
    failed = [Settlement(lease, Action.FAIL) for lease in await take(broker, queue, 101)]
    await broker.exchange(queue, failed, 0)
    assert len(await asking.dead(broker, queue)) == 100
    assert len(await asking.dead(broker, queue, offset=100)) == 1


async def test_a_job_that_dies_again_has_one_record_which_is_the_latest(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, "a", "b")
    lease = await put_and_take(broker, queue, "a", body=b"another")
    assert await settle(broker, queue, lease, Action.FAIL, detail=b"again")
    dead = await asking.dead(broker, queue)
    assert [(one.job.id, bytes(one.detail)) for one in dead] == [("a", b"again"), ("b", b"why b")]
    assert bytes(dead[0].job.body) == b"another"
    assert (await asking.counts(broker, queue)).dead == 2


async def test_the_oldest_dead_jobs_are_dropped_beyond_the_maximum(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, "oldest")
    for start in range(0, DEAD_AT_MOST, 1000):
        await put(broker, queue, *(str(number) for number in range(start, start + 1000)))
        failed = [Settlement(lease, Action.FAIL) for lease in await take(broker, queue, 1000)]
        assert list((await broker.exchange(queue, failed, 0)).fenced) == []
    assert (await asking.counts(broker, queue)).dead == DEAD_AT_MOST
    (last,) = await asking.dead(broker, queue, offset=DEAD_AT_MOST - 1)
    assert last.job.id != "oldest"
    assert not await asking.discard(broker, queue, "oldest")


async def test_a_requeued_job_has_no_retries_crashes_or_parking_time(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=2)
    assert await settle(broker, queue, lease, Action.RETRY)
    (lease,) = await take_when_due(broker, queue)
    assert await settle(broker, queue, lease, Action.PARK)
    await take_parked(broker, queue, "send")
    (lease,) = await take_when_expired(broker, queue)
    assert (lease.job.retries, lease.job.crashes, lease.job.parked_at > 0) == (1, 1, True)
    assert await settle(broker, queue, lease, Action.FAIL)
    (dead,) = await asking.dead(broker, queue)
    assert await asking.requeue(broker, queue, "a")
    assert await asking.dead(broker, queue) == []
    assert await asking.counts(broker, queue) == Counts(ready=1, running=0, waiting=0, dead=0)
    (lease,) = await take(broker, queue)
    assert (lease.job.retries, lease.job.crashes, lease.job.parked_at) == (0, 0, 0)
    assert (lease.job.max_retries, bytes(lease.job.body)) == (2, b"body of a")
    assert (dead.job.retries, dead.job.crashes) == (1, 1), "a record does not change after it was read"


async def test_a_requeued_job_is_added_to_the_end_of_the_queue(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, "a")
    await put(broker, queue, "b")
    assert await asking.requeue(broker, queue, "a")
    assert ids(await take(broker, queue)) == ["b", "a"]


async def test_a_requeued_job_may_die_again(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, "a")
    assert await asking.requeue(broker, queue, "a")
    (lease,) = await take(broker, queue)
    assert await settle(broker, queue, lease, Action.FAIL, detail=b"again")
    assert [bytes(dead.detail) for dead in await asking.dead(broker, queue)] == [b"again"]


async def test_only_a_dead_job_is_requeued(broker: Broker, queue: str) -> None:
    await put(broker, queue, "queued")
    assert not await asking.requeue(broker, queue, "queued")
    assert not await asking.requeue(broker, queue, "unknown")
    await make_dead_behind(broker, queue, "a")
    assert [await asking.requeue(broker, queue, "a") for _ in range(2)] == [True, False]
    assert await asking.counts(broker, queue) == Counts(ready=1, running=1, waiting=0, dead=0)


async def make_dead_behind(broker: Broker, queue: str, job_id: str) -> None:
    """Fail a job for good while the one before it keeps running."""
    await put(broker, queue, job_id)
    _, lease = await take(broker, queue)
    assert lease.job.id == job_id
    assert await settle(broker, queue, lease, Action.FAIL)


async def test_only_one_of_several_concurrent_requeues_succeeds(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, "a")
    answers = await asyncio.gather(*(asking.requeue(broker, queue, "a") for _ in range(5)))
    assert sorted(answers) == [False] * 4 + [True]
    assert ids(await take(broker, queue)) == ["a"]


async def test_a_dead_job_is_not_requeued_while_its_id_is_in_use(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, "a")
    lease = await put_and_take(broker, queue, "a", body=b"another")
    assert not await asking.requeue(broker, queue, "a")
    assert await asking.counts(broker, queue) == Counts(ready=0, running=1, waiting=0, dead=1)
    assert await settle(broker, queue, lease, Action.DONE)
    assert await asking.requeue(broker, queue, "a")
    (lease,) = await take(broker, queue)
    assert bytes(lease.job.body) == b"body of a"


async def test_a_discarded_job_is_forgotten(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, *"ab")
    assert [await asking.discard(broker, queue, "a") for _ in range(2)] == [True, False]
    assert [dead.job.id for dead in await asking.dead(broker, queue)] == ["b"]
    assert not await asking.requeue(broker, queue, "a")
    assert await take(broker, queue) == []


async def test_only_a_dead_job_is_discarded(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b")
    await take(broker, queue, 1)
    for name in ("a", "b", "unknown"):
        assert not await asking.discard(broker, queue, name)
    assert await asking.counts(broker, queue) == Counts(ready=1, running=1, waiting=0, dead=0)


async def test_counts_are_the_numbers_of_jobs_by_state(broker: Broker, queue: str, other_queue: str) -> None:
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 0)
    await make_dead(broker, queue, *"xyz")
    await put(broker, queue, *"abc")
    await take(broker, queue, 2)
    await put(broker, queue, *"defg", at=broker.now() + 60_000)
    assert await asking.counts(broker, queue) == Counts(ready=1, running=2, waiting=4, dead=3)
    assert await asking.counts(broker, other_queue) == Counts(0, 0, 0, 0)


async def test_a_waiting_job_that_is_due_counts_as_ready(broker: Broker, queue: str) -> None:
    due = broker.now() + 30
    await put(broker, queue, "a", at=due)
    while broker.now() <= due:
        await asyncio.sleep(0.005)
    assert await asking.counts(broker, queue) == Counts(ready=1, running=0, waiting=0, dead=0)


@pytest.mark.parametrize("again", ["named", "token", "limit", "periodic"])
async def test_flushing_a_queue_removes_everything(broker: Broker, queue: str, again: str) -> None:
    due = broker.now() - 5
    await make_dead(broker, queue, "dead")
    await broker.register(queue, {"send": 1}, {"hourly": due})
    await broker.enqueue(queue, [job("a", named=True), job("b")], token="call-1")
    await put(broker, queue, "later", at=broker.now() + 60_000)
    (lease,) = await take(broker, queue)
    await broker.flush(queue)
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 0)
    assert await asking.dead(broker, queue) == []
    ticked = await broker.tick(queue)
    assert (ticked.next_due, list(ticked.periodic), list(ticked.expired)) == (None, [], [])
    assert not await settle(broker, queue, lease, Action.RELEASE)
    assert await take(broker, queue) == []
    if again == "named":
        assert await broker.enqueue(queue, [job("a", named=True)]) == [True]
    elif again == "token":
        assert await broker.enqueue(queue, [job("b")], token="call-1") == [True]
        assert ids(await take(broker, queue)) == ["b"]
    elif again == "limit":
        await put(broker, queue, *"cd")
        assert ids(await take(broker, queue)) == ["c", "d"]
    else:
        assert not await fire(broker, queue, "hourly", due, due + 1, job("c"))


async def test_a_lease_from_before_a_flush_is_fenced(broker: Broker, queue: str) -> None:
    old = await put_and_take(broker, queue, "a")
    await broker.flush(queue)
    new = await put_and_take(broker, queue, "a")
    assert new.id != old.id
    assert not await settle(broker, queue, old, Action.DONE)
    assert list((await broker.renew(queue, [old.id, new.id])).lost) == [old.id]
    assert await settle(broker, queue, new, Action.DONE)


async def test_flushing_a_queue_does_not_affect_others(broker: Broker, queue: str, other_queue: str) -> None:
    await put(broker, queue, "a")
    await put(broker, other_queue, "a")
    await broker.flush(queue)
    assert ids(await take(broker, other_queue)) == ["a"]


async def test_a_live_job_is_looked_up_by_its_id(broker: Broker, queue: str, other_queue: str) -> None:
    due = broker.now() + 60_000
    await put(broker, queue, "later", at=due, max_retries=2)
    await put(broker, queue, "now")
    assert await broker.look(queue, LookJob("later")) == job("later", at=due, max_retries=2)
    [lease] = await take(broker, queue)
    running = await broker.look(queue, LookJob("now"))
    assert running is not None
    assert running.id == "now"
    await settle(broker, queue, lease, Action.DONE)
    assert await broker.look(queue, LookJob("now")) is None
    assert await broker.look(other_queue, LookJob("later")) is None
