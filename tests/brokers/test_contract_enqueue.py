"""Enqueueing jobs: atomic, once per id and token, in order, when they are due, with unchanged bodies."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from aiospinach.brokers.base import Broker
from aiospinach.brokers.questions import Counts
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from .. import asking
from .conftest import drain_wake_ups, ids, job, put, put_and_take, settle, take, take_when_due

BODIES = [
    b"",
    b"\n",
    b"\r\n\x00",
    b" leading and trailing ",
    bytes(range(256)),
    b"\xff\xfe\xfd not UTF-8",
    b"[[],{}]",
    b"[1180591620717411303424,0.30000000000000004]",
    b"body\nwith\nlines",
    b"x" * 250_000,
]


async def test_jobs_are_leased_in_the_order_in_which_they_were_stored(broker: Broker, queue: str) -> None:
    await put(broker, queue, "c", "a")
    await put(broker, queue, "b")
    await put(broker, queue, *(f"job-{number}" for number in range(50)))
    assert ids(await take(broker, queue, 2)) == ["c", "a"]
    assert ids(await take(broker, queue, 3)) == ["b", "job-0", "job-1"]
    assert ids(await take(broker, queue)) == [f"job-{number}" for number in range(2, 50)]


async def test_a_job_to_run_at_once_does_not_wait_if_its_clock_is_ahead(broker: Broker, queue: str) -> None:
    ahead = broker.now() + 60_000
    jobs = [job("a", at=ahead, at_once=True), job("b", at=ahead), job("c", at=ahead, at_once=True)]
    assert await broker.enqueue(queue, jobs) == [True] * 3
    leases = await take(broker, queue)
    assert ids(leases) == ["a", "c"]
    assert [lease.job.at for lease in leases] == [ahead, ahead], "their at is not changed"
    assert (await asking.counts(broker, queue)).waiting == 1


async def test_a_leased_job_equals_the_stored_one(broker: Broker, queue: str) -> None:
    sent = job("order:17@x", task="a.b:c@d", max_retries=7, at=broker.now() - 5, named=True)
    assert await broker.enqueue(queue, [sent]) == [True]
    (lease,) = await take(broker, queue)
    restored = msgspec.structs.replace(lease.job, named=True)
    assert restored == job("order:17@x", task="a.b:c@d", max_retries=7, at=sent.at, named=True)
    assert (lease.job.retries, lease.job.crashes, lease.job.parked_at) == (0, 0, 0)


async def test_bodies_are_returned_byte_for_byte(broker: Broker, queue: str) -> None:
    await broker.enqueue(queue, [job(str(number), body=body) for number, body in enumerate(BODIES)])
    leases = await take(broker, queue)
    assert [bytes(lease.job.body) for lease in leases] == BODIES


async def test_a_body_is_unchanged_by_waiting_retries_and_death(broker: Broker, queue: str) -> None:
    for number, body in enumerate(BODIES):
        await put(broker, queue, str(number), body=body, at=broker.now() + 20)
        (lease,) = await take_when_due(broker, queue)
        await settle(broker, queue, lease, Action.RETRY, 0.01)
        (lease,) = await take_when_due(broker, queue)
        assert lease.job.body == body
        await settle(broker, queue, lease, Action.FAIL)
        (dead,) = await asking.dead(broker, queue, limit=1)
        assert dead.job.body == body
        assert await asking.requeue(broker, queue, str(number))
        (lease,) = await take(broker, queue)
        assert lease.job.body == body
        await settle(broker, queue, lease, Action.DONE)


async def test_ids_of_any_allowed_length_and_characters_work(broker: Broker, queue: str) -> None:
    names = ["x" * 200, "A-z_0.9:@", "@:", "1:2:3", ":"]
    await put(broker, queue, *names)
    for name, lease in zip(names, await take(broker, queue), strict=True):
        assert lease.job.id == name
        assert list((await broker.renew(queue, [lease.id])).lost) == []
        assert await settle(broker, queue, lease, Action.DONE)


async def test_storing_no_jobs_returns_nothing(broker: Broker, queue: str) -> None:
    assert await broker.enqueue(queue, []) == []
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 0)


async def test_an_id_is_unique_within_its_queue_only(broker: Broker, queue: str, other_queue: str) -> None:
    await put(broker, queue, "a", body=b"1")
    await put(broker, other_queue, "a", body=b"2")
    (lease,) = await take(broker, queue)
    assert lease.job.body == b"1"
    assert await settle(broker, queue, lease, Action.DONE)
    (lease,) = await take(broker, other_queue)
    assert lease.job.body == b"2"


async def test_a_job_for_later_is_not_leased_before_it_is_due(broker: Broker, queue: str) -> None:
    due = broker.now() + 120
    await put(broker, queue, "later", at=due)
    assert ids(await take_when_due(broker, queue)) == ["later"]
    assert broker.now() >= due


async def test_a_job_that_is_due_later_waits(broker: Broker, queue: str) -> None:
    await put(broker, queue, "later", at=broker.now() + 60_000)
    assert (await broker.tick(queue)).next_due == pytest.approx(60, abs=5)
    assert await take(broker, queue) == []
    assert await asking.counts(broker, queue) == Counts(ready=0, running=0, waiting=1, dead=0)


async def test_a_job_with_a_past_moment_is_queued_at_once(broker: Broker, queue: str) -> None:
    await put(broker, queue, "past", at=broker.now() - 60_000)
    await put(broker, queue, "no-time-at-all")
    assert ids(await take(broker, queue)) == ["past", "no-time-at-all"]


async def test_waiting_jobs_are_queued_in_the_order_of_their_moments(broker: Broker, queue: str) -> None:
    now = broker.now()
    for delay in (90, 30, 60):
        await put(broker, queue, str(delay), at=now + delay)
    while broker.now() <= now + 90:
        await asyncio.sleep(0.005)
    await broker.tick(queue)
    assert ids(await take(broker, queue)) == ["30", "60", "90"]


async def test_a_job_that_became_due_is_queued_behind_the_others(broker: Broker, queue: str) -> None:
    due = broker.now() + 300
    await put(broker, queue, "future", at=due)
    await put(broker, queue, "present")
    while broker.now() <= due:
        await asyncio.sleep(0.005)
    await broker.tick(queue)
    assert ids(await take(broker, queue)) == ["present", "future"]


@pytest.mark.parametrize("where", ["waiting", "queued", "running"])
@pytest.mark.parametrize("named", [True, False])
async def test_the_id_of_a_live_job_is_a_duplicate(
    broker: Broker, queue: str, named: bool, where: str
) -> None:
    at = broker.now() + 60_000 if where == "waiting" else 0
    await put(broker, queue, "a", at=at, named=named)
    if where == "running":
        assert ids(await take(broker, queue)) == ["a"]
    before = await asking.counts(broker, queue)
    assert await broker.enqueue(queue, [job("a", body=b"another", named=named)]) == [False]
    assert await asking.counts(broker, queue) == before


async def test_an_id_is_stored_once_within_one_batch(broker: Broker, queue: str) -> None:
    batch = [job("a", body=b"1"), job("b"), job("a", body=b"2")]
    assert await broker.enqueue(queue, batch) == [True, True, False]
    leases = await take(broker, queue)
    assert ids(leases) == ["a", "b"]
    assert leases[0].job.body == b"1"


async def test_the_results_of_a_batch_are_in_the_order_of_its_jobs(broker: Broker, queue: str) -> None:
    await put(broker, queue, "b", "d")
    batch = [job(name) for name in "abcde"]
    assert await broker.enqueue(queue, batch) == [True, False, True, False, True]
    assert ids(await take(broker, queue)) == ["b", "d", "a", "c", "e"]


@pytest.mark.parametrize("action", [Action.DONE, Action.FAIL, Action.CANCELLED])
async def test_an_id_given_by_a_user_is_remembered_after_the_job_has_ended(
    broker: Broker, queue: str, action: Action
) -> None:
    lease = await put_and_take(broker, queue, "order-17", named=True)
    assert await settle(broker, queue, lease, action)
    before = await asking.counts(broker, queue)
    assert await broker.enqueue(queue, [job("order-17", named=True), job("b")]) == [False, True]
    assert ids(await take(broker, queue)) == ["b"]
    assert (await asking.counts(broker, queue)).dead == before.dead


@pytest.mark.parametrize("action", [Action.DONE, Action.FAIL, Action.CANCELLED])
async def test_a_generated_id_is_free_once_the_job_has_ended(
    broker: Broker, queue: str, action: Action
) -> None:
    lease = await put_and_take(broker, queue, "a")
    assert await settle(broker, queue, lease, action)
    await put_and_take(broker, queue, "a")


async def test_a_repeat_with_the_same_token_returns_the_same_and_stores_nothing(
    broker: Broker, queue: str
) -> None:
    await put(broker, queue, "b")
    batch = [job("a"), job("b"), job("c", at=broker.now() + 60_000)]
    assert await broker.enqueue(queue, batch, token="call-1") == [True, False, True]
    for _ in range(3):
        assert await broker.enqueue(queue, batch, token="call-1") == [True, False, True]
    assert await asking.counts(broker, queue) == Counts(ready=2, running=0, waiting=1, dead=0)


async def test_a_token_is_remembered_when_its_jobs_have_ended(broker: Broker, queue: str) -> None:
    assert await broker.enqueue(queue, [job("a"), job("b")], token="call-1") == [True, True]
    for lease in await take(broker, queue):
        assert await settle(broker, queue, lease, Action.DONE)
    assert await broker.enqueue(queue, [job("a"), job("b")], token="call-1") == [True, True]
    assert await take(broker, queue) == []


async def test_a_token_is_remembered_when_its_job_was_cancelled(broker: Broker, queue: str) -> None:
    assert await broker.enqueue(queue, [job("a")], token="call-1") == [True]
    assert (await asking.cancel(broker, queue, "a")).status is JobStatus.QUEUED
    assert await broker.enqueue(queue, [job("a")], token="call-1") == [True]
    assert await take(broker, queue) == []


async def test_another_token_is_another_call(broker: Broker, queue: str) -> None:
    assert await broker.enqueue(queue, [job("a")], token="call-1") == [True]
    assert await broker.enqueue(queue, [job("a"), job("b")], token="call-2") == [False, True]
    assert await broker.enqueue(queue, [job("a"), job("b")], token="call-2") == [False, True]


async def test_a_token_counts_for_its_queue_only(broker: Broker, queue: str, other_queue: str) -> None:
    assert await broker.enqueue(queue, [job("a")], token="call-1") == [True]
    assert await broker.enqueue(other_queue, [job("a")], token="call-1") == [True]
    assert ids(await take(broker, other_queue)) == ["a"]


async def test_only_one_of_several_concurrent_calls_stores_an_id(broker: Broker, queue: str) -> None:
    answers = await asyncio.gather(
        *(broker.enqueue(queue, [job("a"), job(f"b-{number}")]) for number in range(10))
    )
    assert sorted(first for first, _ in answers) == [False] * 9 + [True]
    assert [second for _, second in answers] == [True] * 10
    assert (await asking.counts(broker, queue)).ready == 11


@pytest.mark.parametrize("named", [True, False])
async def test_the_id_of_a_job_cancelled_in_the_queue_is_free(
    broker: Broker, queue: str, named: bool
) -> None:
    await put(broker, queue, "a", "b", named=named)
    assert (await asking.cancel(broker, queue, "b")).status is JobStatus.QUEUED
    assert await asking.counts(broker, queue) == Counts(ready=1, running=0, waiting=0, dead=0)
    again = job("b", body=b"another", named=named)
    assert await broker.enqueue(queue, [job("c"), again]) == [True, True]
    assert await broker.enqueue(queue, [again]) == [False]
    assert await asking.counts(broker, queue) == Counts(ready=3, running=0, waiting=0, dead=0)
    leases = await take(broker, queue)
    assert [(lease.job.id, lease.job.body) for lease in leases if lease.job.id == "b"] == [("b", b"another")]
    assert sorted(ids(leases)) == ["a", "b", "c"]


async def test_the_id_of_a_job_cancelled_in_the_queue_can_be_scheduled_for_later(
    broker: Broker, queue: str
) -> None:
    await put(broker, queue, "a", "b")
    await asking.cancel(broker, queue, "a")
    await drain_wake_ups(broker, queue)
    due = broker.now() + 200
    await put(broker, queue, "a", at=due)
    assert await broker.wait([queue], 5) == queue, (
        "a worker must move it to the waiting jobs, or it would be late"
    )
    assert ids(await take(broker, queue)) == ["b"]
    assert (await asking.counts(broker, queue)).waiting == 1
    while not (leases := await take(broker, queue)):
        await broker.tick(queue)
        await asyncio.sleep(0.01)
    assert ids(leases) == ["a"]
    assert broker.now() >= due


async def test_the_id_of_a_job_cancelled_while_running_is_free_when_it_has_ended(
    broker: Broker, queue: str
) -> None:
    await put(broker, queue, "a", named=True)
    (lease,) = await take(broker, queue)
    assert (await asking.cancel(broker, queue, "a")).status is JobStatus.RUNNING
    assert await broker.enqueue(queue, [job("a", named=True)]) == [False]
    assert await settle(broker, queue, lease, Action.CANCELLED)
    assert await broker.enqueue(queue, [job("a")]) == [True]
    (lease,) = await take(broker, queue)
    assert not (await broker.renew(queue, [lease.id])).cancelled
    assert await settle(broker, queue, lease, Action.RELEASE)
    assert ids(await take(broker, queue)) == ["a"], "the cancellation was for the previous job"


@pytest.mark.parametrize("at", [0, 60_000])
async def test_an_id_given_by_a_user_to_a_cancelled_job_is_free(broker: Broker, queue: str, at: int) -> None:
    await put(broker, queue, "a", named=True, at=broker.now() + at if at else 0)
    await asking.cancel(broker, queue, "a")
    assert await broker.enqueue(queue, [job("a", named=True)]) == [True]
    assert ids(await take(broker, queue)) == ["a"]


async def test_the_id_of_a_job_cancelled_in_the_queue_is_free_after_the_queue_was_drained(
    broker: Broker, queue: str
) -> None:
    await put(broker, queue, "a", "b")
    await asking.cancel(broker, queue, "b")
    assert ids(await take(broker, queue)) == ["a"]
    await put(broker, queue, "b", body=b"another")
    (lease,) = await take(broker, queue)
    assert (lease.job.id, lease.job.body) == ("b", b"another")
