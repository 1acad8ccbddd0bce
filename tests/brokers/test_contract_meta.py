"""What a job keeps from the moment of its creation: that moment, and the meta in its body."""

from __future__ import annotations

import asyncio

from aiospinach import Broker, JobStatus
from aiospinach.arguments.meta import Meta, with_meta
from aiospinach.outcome import Action

from .. import asking
from .conftest import job, put_and_take, settle, take, take_when_due, take_when_expired

QUEUE = "mail"
META = Meta({"tenant": "acme", "trace": "\u00fc"}, "order-17")
BODY = with_meta(b'[["a"],{"b":1}]', META)


async def later(broker: Broker) -> int:
    """Wait until the clock of the broker has gone on, and return what it shows."""
    before = broker.now()
    while broker.now() <= before + 1:
        await asyncio.sleep(0.001)
    return broker.now()


async def test_a_retry_keeps_the_moment_of_creation(broker: Broker) -> None:
    created = broker.now()
    lease = await put_and_take(broker, QUEUE, "a", at=created, at_once=True, max_retries=3, created=created)
    for _ in range(2):
        await later(broker)
        assert await settle(broker, QUEUE, lease, Action.RETRY, delay=0.001)
        (lease,) = await take_when_due(broker, QUEUE)
        assert lease.job.created == created
        assert lease.job.at > created
        assert lease.job.as_job("shop", QUEUE, JobStatus.RUNNING).created_at.timestamp() * 1000 == created


async def test_a_job_for_later_keeps_the_moment_of_creation(broker: Broker) -> None:
    created = broker.now()
    await broker.enqueue(QUEUE, [job("a", at=created + 30, created=created)])
    (lease,) = await take_when_due(broker, QUEUE)
    assert (lease.job.created, lease.job.at) == (created, created + 30)
    assert await settle(broker, QUEUE, lease, Action.RETRY)
    (lease,) = await take(broker, QUEUE)
    assert lease.job.created == created


async def test_releases_crashes_and_a_requeue_keep_the_moment_of_creation(broker: Broker) -> None:
    created = broker.now() - 5000
    lease = await put_and_take(broker, QUEUE, "a", at=created, at_once=True, created=created)
    assert await settle(broker, QUEUE, lease, Action.RELEASE)
    (lease,) = await take(broker, QUEUE)
    shown = lease.job.as_job("shop", QUEUE, JobStatus.RUNNING)
    assert shown.created_at == shown.at
    assert await settle(broker, QUEUE, lease, Action.FAIL)
    assert await asking.requeue(broker, QUEUE, "a")
    (lease,) = await take(broker, QUEUE)
    assert lease.job.created == created
    assert lease.job.at > created


async def test_meta_comes_back_with_each_try_and_from_the_dead(broker: Broker) -> None:
    lease = await put_and_take(broker, QUEUE, "a", body=BODY, has_meta=True, max_retries=1)
    assert await settle(broker, QUEUE, lease, Action.RETRY)
    (lease,) = await take(broker, QUEUE)
    assert lease.job.has_meta
    assert lease.job.arguments == b'[["a"],{"b":1}]'
    assert await settle(broker, QUEUE, lease, Action.FAIL)
    [dead] = await asking.dead(broker, QUEUE)
    seen = dead.job.as_job("shop", QUEUE, JobStatus.FAILED)
    assert (seen.headers, seen.key) == (META.headers, META.key)


async def test_a_lost_job_keeps_its_meta(broker: Broker) -> None:
    await put_and_take(broker, QUEUE, "a", body=BODY, has_meta=True)
    (lease,) = await take_when_expired(broker, QUEUE)
    assert lease.job.as_job("shop", QUEUE, JobStatus.RUNNING).headers == META.headers


async def test_a_job_without_meta_has_no_headers(broker: Broker) -> None:
    lease = await put_and_take(broker, QUEUE, "a", body=b"[[],{}]")
    assert not lease.job.has_meta
    seen = lease.job.as_job("shop", QUEUE, JobStatus.RUNNING)
    assert (seen.headers, seen.key) == ({}, None)


async def test_damaged_meta_is_none_and_leaves_the_body_to_the_codec(broker: Broker) -> None:
    for body in (b"", b"[[],{}]", b"[[],{},[]]", b'[[],{},{"headers":7}]', b"\xff", b"[" * 100_000):
        lease = await put_and_take(broker, QUEUE, f"a{len(body)}", body=body, has_meta=True)
        seen = lease.job.as_job("shop", QUEUE, JobStatus.RUNNING)
        assert (seen.headers, seen.key) == ({}, None)
        assert lease.job.arguments in (body, b"[[],{}]")


async def test_fields_of_a_later_release_are_left_alone(broker: Broker) -> None:
    body = b'[[],{},{"headers":{"a":"b"},"weight":3,"after":["x"]}]'
    lease = await put_and_take(broker, QUEUE, "a", body=body, has_meta=True, max_retries=1)
    assert lease.job.as_job("shop", QUEUE, JobStatus.RUNNING).headers == {"a": "b"}
    assert await settle(broker, QUEUE, lease, Action.RETRY)
    (lease,) = await take(broker, QUEUE)
    assert lease.job.body == body
