"""The brokers that the contract is tested with, and helpers for its tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from aiospinach.brokers.base import Broker
from aiospinach.brokers.records import Envelope, Fired, Firing, Lease, Parking, Settlement
from aiospinach.outcome import Action

from ..brokers_under_test import BROKERS, MakeBroker

LEASE = 0.4
"""In seconds: long compared to a call of a broker, short enough to wait for its end."""


@pytest.fixture(params=BROKERS)
async def broker(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Broker]:
    """An open broker with short leases, in a namespace of its own."""
    make: MakeBroker = request.param
    broker = make(lease=LEASE)
    await broker.open(namespace)
    yield broker
    await broker.aclose()


@pytest.fixture
async def queue(broker: Broker) -> AsyncIterator[str]:
    """The name of a queue, which is flushed after the test."""
    yield "mail"
    await broker.flush("mail")


@pytest.fixture
async def other_queue(broker: Broker) -> AsyncIterator[str]:
    """The name of another queue of the same broker."""
    yield "mail.slow"
    await broker.flush("mail.slow")


def job(job_id: str, **fields: Any) -> Envelope:
    """A job of the task ``send``, with a body that contains its id."""
    return Envelope(**{"id": job_id, "task": "send", "body": b"body of " + job_id.encode()} | fields)


async def put(broker: Broker, queue: str, *job_ids: str, **fields: Any) -> None:
    """Store new jobs."""
    stored = await broker.enqueue(queue, [job(job_id, **fields) for job_id in job_ids])
    assert stored == [True] * len(job_ids)


async def take(broker: Broker, queue: str, want: int = 100) -> list[Lease]:
    """Lease up to ``want`` jobs."""
    return list((await broker.exchange(queue, [], want)).leases)


async def put_and_take(broker: Broker, queue: str, job_id: str, **fields: Any) -> Lease:
    """Store one job in an empty queue, and lease it."""
    await put(broker, queue, job_id, **fields)
    (lease,) = await take(broker, queue)
    assert lease.job.id == job_id
    return lease


async def take_parked(broker: Broker, queue: str, *tasks: str, want: int = 10) -> list[Lease]:
    """Lease parked jobs of these tasks."""
    return list((await broker.exchange(queue, [], want, Parking(wanted=tasks))).leases)


async def settle(
    broker: Broker, queue: str, lease: Lease, action: Action, delay: float = 0.0, detail: bytes = b""
) -> bool:
    """Settle one job; False if its lease was fenced."""
    exchanged = await broker.exchange(queue, [Settlement(lease, action, delay, detail)], 0)
    assert list(exchanged.leases) == []
    assert list(exchanged.fenced) in ([], [lease.id])
    return not exchanged.fenced


async def make_dead(broker: Broker, queue: str, *job_ids: str) -> None:
    """Store jobs, and fail them for good one by one, each in a different millisecond."""
    for job_id in job_ids:
        lease = await put_and_take(broker, queue, job_id)
        assert await settle(broker, queue, lease, Action.FAIL, detail=b"why " + job_id.encode())
        died = broker.now()
        while broker.now() == died:
            await asyncio.sleep(0.001)


async def fire(
    broker: Broker, queue: str, task: str, due: int, next_due: int, job: Envelope | None = None
) -> bool:
    """Fire one tick; False if it was fired before."""
    [fired] = await broker.fire(queue, [Firing(task, due, next_due, job)])
    assert fired in (Fired.MOVED, Fired.TAKEN)
    return fired is Fired.MOVED


async def take_when_due(broker: Broker, queue: str) -> list[Lease]:
    """Tick until something can be leased, and lease it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert list((await broker.tick(queue)).expired) == []
        if leases := await take(broker, queue):
            return leases
        await asyncio.sleep(0.005)
    raise AssertionError("nothing became due in 10 s")


async def take_when_expired(broker: Broker, queue: str) -> list[Lease]:
    """Tick until leases have expired, and return the leases for their recovery."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if expired := (await broker.tick(queue)).expired:
            return list(expired)
        await asyncio.sleep(0.005)
    raise AssertionError("no lease expired in 10 s")


async def drain_wake_ups(broker: Broker, *queues: str) -> None:
    """Consume pending wake-ups."""
    while await broker.wait(queues, 0.02) is not None:
        pass


def ids(leases: Iterable[Lease]) -> list[str]:
    return [lease.job.id for lease in leases]
