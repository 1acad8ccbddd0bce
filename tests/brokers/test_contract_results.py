"""Results: stored by the settlement, kept for their time, and never taken for those of another job."""

from __future__ import annotations

import asyncio
import time

import pytest

from aiospinach import Broker, RedisBroker
from aiospinach.brokers.questions import Discard, Requeue
from aiospinach.brokers.records import DeadRecord, Envelope, Lease, Settlement
from aiospinach.brokers.results import (
    EndRecord,
    EndState,
    FoundJob,
    LookResults,
    channel_of,
    created_of,
    decode_record,
)
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from .. import asking
from .conftest import job, put, put_and_take, settle, take, take_when_due, take_when_expired

TTL = 60_000


async def look(broker: Broker, queue: str, job_id: str) -> FoundJob:
    [found] = await broker.look(queue, LookResults([job_id]))
    return found


async def end(broker: Broker, queue: str, job_id: str) -> Envelope | EndRecord | DeadRecord | None:
    """What counts for an id alone."""
    return (await look(broker, queue, job_id)).of(None)


async def finish(broker: Broker, queue: str, lease: Lease, result: bytes, **fields: object) -> bool:
    settlement = Settlement(lease, Action.DONE, result=result, **fields)  # type: ignore[arg-type]
    return not (await broker.exchange(queue, [settlement], 0)).fenced


async def put_and_finish(broker: Broker, queue: str, job_id: str, result: bytes, **fields: object) -> Lease:
    lease = await put_and_take(broker, queue, job_id, result_ttl=TTL, **fields)
    assert await finish(broker, queue, lease, result)
    return lease


async def pass_a_millisecond(broker: Broker) -> None:
    now = broker.now()
    while broker.now() <= now + 1:
        await asyncio.sleep(0.001)


async def test_a_settlement_stores_the_result(broker: Broker, queue: str) -> None:
    before = broker.now()
    lease = await put_and_take(broker, queue, "a", at=before, result_ttl=TTL)
    found = await look(broker, queue, "a")
    assert found.live is not None
    assert found.live.result_ttl == TTL
    assert found.record is None
    assert await finish(broker, queue, lease, b'{"a":"\\n"}')
    record = await end(broker, queue, "a")
    assert isinstance(record, EndRecord)
    assert record.ended_at >= before - 1000
    assert record == EndRecord(EndState.DONE, record.ended_at, before, "send", b'{"a":"\\n"}')


async def test_the_answers_are_in_the_order_of_the_ids(broker: Broker, queue: str) -> None:
    ids = [f"job{number}" for number in range(250)]
    await put(broker, queue, *ids[::2], result_ttl=TTL)
    leases = await take(broker, queue, 1000)
    settled = [
        Settlement(lease, Action.DONE, result=lease.job.id.encode())
        for lease in leases
        if lease.job.id[-1] == "0"
    ]
    await broker.exchange(queue, settled, 0)
    found = await asking.results(broker, queue, ids)
    for number, each in enumerate(found):
        assert (each.live is not None) is (number % 2 == 0 and number % 10 != 0)
        assert (each.record.body if each.record else None) == (
            b"job%d" % number if number % 10 == 0 else None
        )
    assert await broker.look(queue, LookResults([])) == []


async def test_an_answer_ends_early_if_the_results_are_large(broker: Broker, queue: str) -> None:
    names = [f"job-{number}" for number in range(10)]
    await put(broker, queue, *names, result_ttl=TTL)
    large = b'"' + 100_000 * b"x" + b'"'
    settled = [Settlement(lease, Action.DONE, result=large) for lease in await take(broker, queue)]
    await broker.exchange(queue, settled, 0)
    found = await broker.look(queue, LookResults(names))
    assert [each.record is not None and each.record.body == large for each in found] == [True] * len(found)
    assert len(found) == (3 if isinstance(broker, RedisBroker) else 10)


async def test_a_job_without_a_result_ttl_stores_nothing(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    await finish(broker, queue, lease, b"")
    assert await look(broker, queue, "a") == FoundJob()


async def test_a_result_is_kept_for_its_time(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", result_ttl=150)
    kept = await put_and_finish(broker, queue, "b", b"2")
    await finish(broker, queue, lease, b"1")
    assert await end(broker, queue, "a") is not None
    deadline = time.monotonic() + 10
    while await end(broker, queue, "a") is not None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
    assert await end(broker, queue, kept.job.id) is not None


async def test_results_that_follow_each_other_keep_their_jobs(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b", "c", "d", result_ttl=TTL)
    a, b, c, d = await take(broker, queue)
    settled = [
        Settlement(a, Action.DONE, result=b"1"),
        Settlement(b, Action.RETRY, 60.0),
        Settlement(c, Action.FAIL, detail=b"{}"),
        Settlement(d, Action.DONE, result=b"4"),
    ]
    await broker.exchange(queue, settled, 0)
    ends = [each.of(None) for each in await broker.look(queue, LookResults(["a", "b", "c", "d"]))]
    assert [type(each) for each in ends] == [EndRecord, Envelope, DeadRecord, EndRecord]
    assert [each.body for each in ends if isinstance(each, EndRecord)] == [b"1", b"4"]


async def test_a_fenced_worker_stores_nothing(broker: Broker, queue: str) -> None:
    zombie = await put_and_take(broker, queue, "a", result_ttl=TTL, max_retries=1)
    [recovered] = await take_when_expired(broker, queue)
    assert not await finish(broker, queue, zombie, b"1")
    assert isinstance(await end(broker, queue, "a"), Envelope)
    await settle(broker, queue, recovered, Action.RETRY)
    [second] = await take(broker, queue)
    assert not await finish(broker, queue, zombie, b"1")
    assert await finish(broker, queue, second, b"2")
    assert not await finish(broker, queue, zombie, b"1")
    record = await end(broker, queue, "a")
    assert isinstance(record, EndRecord)
    assert record.body == b"2"


async def test_a_retry_keeps_the_time_of_the_result_and_the_moment_of_creation(
    broker: Broker, queue: str
) -> None:
    created = broker.now() - 5000
    lease = await put_and_take(broker, queue, "a", at=created, result_ttl=TTL, max_retries=1)
    await settle(broker, queue, lease, Action.RETRY)
    [again] = await take(broker, queue)
    assert again.job.result_ttl == TTL
    await finish(broker, queue, again, b"1")
    assert isinstance((await look(broker, queue, "a")).of(created), EndRecord)


async def test_a_cancelled_waiting_job_is_reported_as_cancelled(broker: Broker, queue: str) -> None:
    due = broker.now() + 60_000
    await put(broker, queue, "a", at=due, created=17, result_ttl=TTL)
    await asking.cancel(broker, queue, "a")
    record = await end(broker, queue, "a")
    assert isinstance(record, EndRecord)
    assert (record.state, record.created, record.task) == (EndState.CANCELLED, 17, "send")


async def test_a_cancelled_queued_job_is_reported_as_cancelled(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", at=23, result_ttl=TTL, has_meta=True)
    await asking.cancel(broker, queue, "a")
    record = await end(broker, queue, "a")
    assert isinstance(record, EndRecord)
    assert (record.state, record.created, record.body) == (EndState.CANCELLED, 23, b"")


@pytest.mark.parametrize("action", [Action.RETRY, Action.RELEASE, Action.CANCELLED])
async def test_a_job_cancelled_while_it_ran_is_reported_as_cancelled(
    broker: Broker, queue: str, action: Action
) -> None:
    lease = await put_and_take(broker, queue, "a", result_ttl=TTL, max_retries=1)
    assert (await asking.cancel(broker, queue, "a")).status is JobStatus.RUNNING
    assert isinstance(await end(broker, queue, "a"), Envelope)
    await settle_quietly(broker, queue, lease, action)
    record = await end(broker, queue, "a")
    assert isinstance(record, EndRecord)
    assert record.state is EndState.CANCELLED


async def settle_quietly(broker: Broker, queue: str, lease: Lease, action: Action) -> None:
    assert not (await broker.exchange(queue, [Settlement(lease, action)], 0)).fenced


async def test_a_body_that_ended_before_its_cancellation_has_its_result(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", result_ttl=TTL)
    await asking.cancel(broker, queue, "a")
    await finish(broker, queue, lease, b"1")
    record = await end(broker, queue, "a")
    assert isinstance(record, EndRecord)
    assert record.state is EndState.DONE


async def test_a_dead_job_is_found_without_its_body(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", at=5, result_ttl=TTL)
    await settle(broker, queue, lease, Action.FAIL, detail=b'{"reason":"lost"}')
    dead = (await look(broker, queue, "a")).of(5)
    assert isinstance(dead, DeadRecord)
    assert dead.detail == b'{"reason":"lost"}'
    assert (dead.job.id, dead.job.task, created_of(dead.job)) == ("a", "send", 5)
    assert (await look(broker, queue, "a")).of(6) is None


async def test_the_result_of_an_earlier_job_is_not_that_of_a_later_one(broker: Broker, queue: str) -> None:
    """The same id is used again, and the second job ends in each way."""
    await put_and_finish(broker, queue, "a", b"1", at=1)
    assert isinstance((await look(broker, queue, "a")).of(1), EndRecord)
    await put(broker, queue, "a", at=2, result_ttl=TTL)
    found = await look(broker, queue, "a")
    assert isinstance(found.of(None), Envelope)
    assert isinstance(found.of(2), Envelope)
    assert isinstance(found.of(1), EndRecord)
    assert found.of(3) is None
    [second] = await take(broker, queue)
    await pass_a_millisecond(broker)
    await settle(broker, queue, second, Action.FAIL, detail=b"{}")
    found = await look(broker, queue, "a")
    assert isinstance(found.of(None), DeadRecord)
    assert found.of(1) is None
    await broker.steer(queue, Discard("a"))
    assert await look(broker, queue, "a") == FoundJob()


async def test_a_requeued_job_is_pending_and_then_has_its_own_result(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", at=7, result_ttl=TTL)
    await settle(broker, queue, lease, Action.FAIL, detail=b"{}")
    await broker.steer(queue, Requeue("a"))
    assert isinstance((await look(broker, queue, "a")).of(7), Envelope)
    [again] = await take(broker, queue)
    await finish(broker, queue, again, b"2")
    record = (await look(broker, queue, "a")).of(7)
    assert isinstance(record, EndRecord)
    assert record.body == b"2"


async def test_a_successor_has_a_result_of_its_own(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", at=7, result_ttl=TTL)
    await finish(broker, queue, lease, b"1", successor=job("a", at=8, result_ttl=TTL))
    found = await look(broker, queue, "a")
    assert isinstance(found.of(None), Envelope), "the successor lives"
    assert isinstance(found.of(8), Envelope)
    assert isinstance(first := found.of(7), EndRecord)
    assert first.body == b"1"
    [second] = await take(broker, queue)
    await finish(broker, queue, second, b"2")
    found = await look(broker, queue, "a")
    assert isinstance(found.record, EndRecord)
    assert found.record.body == b"2"
    assert found.of(7) is None


async def test_a_job_that_is_scheduled_after_its_retry_waits(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", result_ttl=TTL, max_retries=1)
    await settle(broker, queue, lease, Action.RETRY, delay=0.05)
    assert isinstance(await end(broker, queue, "a"), Envelope)
    [again] = await take_when_due(broker, queue)
    await finish(broker, queue, again, b"1")
    assert isinstance(await end(broker, queue, "a"), EndRecord)


async def test_a_large_result_is_stored_whole(broker: Broker, queue: str) -> None:
    large = b"[" + b"1," * 120_000 + b"1]"
    await put(broker, queue, "a", "b", "c", result_ttl=TTL)
    leases = await take(broker, queue)
    await broker.exchange(queue, [Settlement(lease, Action.DONE, result=large) for lease in leases], 0)
    for each in await broker.look(queue, LookResults(["a", "b", "c"])):
        assert each.record is not None
        assert each.record.body == large


@pytest.mark.parametrize(
    ("how", "state"),
    [(Action.DONE, EndState.DONE), (Action.CANCELLED, EndState.CANCELLED), (Action.FAIL, None)],
)
async def test_the_end_of_a_job_is_sent_to_its_channel(
    broker: Broker, queue: str, how: Action, state: EndState | None
) -> None:
    async with broker.subscribe(queue) as subscription:
        await subscription.add([channel_of("a"), channel_of("b")])
        silent = await put_and_take(broker, queue, "b")
        await settle(broker, queue, silent, Action.DONE)
        lease = await put_and_take(broker, queue, "a", result_ttl=TTL)
        await broker.exchange(queue, [Settlement(lease, how, detail=b"{}", result=b"1")], 0)
        message = await subscription.next(5)
        assert message is not None
        assert message.channel == channel_of("a")
        if state is None:
            assert message.data == b""
        else:
            record = decode_record(message.data)
            assert record == await end(broker, queue, "a")
            assert record is not None
            assert record.state is state


async def test_a_cancellation_is_sent_to_the_channel(broker: Broker, queue: str) -> None:
    async with broker.subscribe(queue) as subscription:
        await subscription.add([channel_of("a")])
        await put(broker, queue, "a", result_ttl=TTL)
        await asking.cancel(broker, queue, "a")
        message = await subscription.next(5)
        assert message is not None
        assert decode_record(message.data) == await end(broker, queue, "a")


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"done 1 2 send", b"done x 2 send\n1", b"gone 1 2 send\n", b"\xff\n"]
)
def test_a_malformed_record_is_none(data: bytes) -> None:
    assert decode_record(data) is None
