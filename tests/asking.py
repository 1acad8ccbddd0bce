"""Short forms of the calls that tests make most often on a broker."""

from __future__ import annotations

from collections.abc import Sequence

from aiospinach import JobStatus
from aiospinach.brokers.base import Broker
from aiospinach.brokers.bulk import BulkResult, CancelSome, SteerDead
from aiospinach.brokers.pauses import WHOLE_QUEUE, Pause, Resume
from aiospinach.brokers.questions import (
    Cancel,
    Counts,
    Discard,
    LookCounts,
    LookDead,
    Requeue,
    Reschedule,
    SteerResult,
)
from aiospinach.brokers.records import DeadRecord
from aiospinach.brokers.results import FoundJob, LookResults


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


async def pause(
    broker: Broker,
    queue: str,
    task: str = WHOLE_QUEUE,
    *,
    until: int = 0,
    by: str = "web-1",
    reason: str = "",
) -> None:
    await broker.steer(queue, Pause(task, until, by, reason))


async def resume(broker: Broker, queue: str, task: str = WHOLE_QUEUE) -> bool:
    return await broker.steer(queue, Resume(task))


async def reschedule(broker: Broker, queue: str, job_id: str, at: int = 0) -> JobStatus:
    return (await broker.steer(queue, Reschedule(job_id, at))).status


async def cancel_all(broker: Broker, queue: str, task: str = "") -> list[int]:
    """How many jobs each call cancelled."""
    result = await broker.steer(queue, CancelSome(task))
    counts = [result.count]
    while result.cursor is not None:
        result = await broker.steer(queue, CancelSome(task, cursor=result.cursor))
        counts.append(result.count)
    return counts


async def steer_dead(
    broker: Broker, queue: str, *, is_to_run: bool, task: str = "", reason: str = ""
) -> list[BulkResult]:
    """The results of all calls."""
    results = [await broker.steer(queue, SteerDead(is_to_run, task, reason))]
    while (cursor := results[-1].cursor) is not None:
        results.append(await broker.steer(queue, SteerDead(is_to_run, task, reason, cursor)))
    return results


async def results(broker: Broker, queue: str, job_ids: Sequence[str]) -> list[FoundJob]:
    """What is known of all these jobs; an answer may end early."""
    found: list[FoundJob] = []
    while len(found) < len(job_ids):
        part = await broker.look(queue, LookResults(job_ids[len(found) :]))
        found += part
    return found
