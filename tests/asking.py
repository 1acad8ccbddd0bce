"""Short forms of the calls that tests make most often on a broker."""

from __future__ import annotations

from collections.abc import Sequence

from aiospinach import JobStatus
from aiospinach.brokers.base import Broker
from aiospinach.brokers.questions import Cancel, Counts, Discard, LookCounts, LookDead, Requeue, SteerResult
from aiospinach.brokers.records import DeadRecord


async def counts(broker: Broker, queue: str) -> Counts:
    return await broker.look(queue, LookCounts())


async def dead(broker: Broker, queue: str, *, offset: int = 0, limit: int = 100) -> Sequence[DeadRecord]:
    return await broker.look(queue, LookDead(offset, limit))


async def cancel(broker: Broker, queue: str, job_id: str) -> SteerResult:
    return await broker.steer(queue, Cancel(job_id))


async def requeue(broker: Broker, queue: str, job_id: str) -> bool:
    return (await broker.steer(queue, Requeue(job_id))).status is not JobStatus.NOT_SET


async def discard(broker: Broker, queue: str, job_id: str) -> bool:
    return (await broker.steer(queue, Discard(job_id))).status is not JobStatus.NOT_SET
