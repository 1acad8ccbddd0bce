"""The contract of ``overview``: the state of whole queues in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiospinach.brokers.base import Broker
from aiospinach.brokers.overview import QueueSeen
from aiospinach.brokers.pauses import LookPauses
from aiospinach.brokers.questions import Counts, LookCounts, LookOldest, LookWorkers
from aiospinach.brokers.reports import QueueReport, TaskRow, WorkerReport, WorkerRow

from .. import asking
from .conftest import make_dead, put, take

NOTHING = QueueSeen(Counts(0, 0, 0, 0), None, [], [], [])


async def seen_by_single_looks(broker: Broker, queue: str) -> QueueSeen:
    """The same as an overview without rows, asked one by one."""
    return QueueSeen(
        await broker.look(queue, LookCounts()),
        await broker.look(queue, LookOldest()),
        await broker.look(queue, LookPauses()),
        await broker.look(queue, LookWorkers()),
        [],
    )


def by_name(rows: Sequence[WorkerRow]) -> list[tuple[int, dict[str, TaskRow]]]:
    return sorted((row.minute, dict(row.by_task)) for row in rows)


async def test_an_overview_has_what_single_looks_answer(broker: Broker, queue: str, other_queue: str) -> None:
    await make_dead(broker, queue, "dead")
    await put(broker, queue, "running")
    await take(broker, queue)
    await put(broker, queue, "ready-1", "ready-2", at=1000)
    await put(broker, queue, "due", at=broker.now() - 5000)
    await put(broker, queue, "waiting", at=broker.now() + 60_000)
    await put(broker, other_queue, "alone", at=2000)
    await asking.pause(broker, queue, reason="provider is down")
    await asking.pause(broker, queue, "send")
    await broker.sweep([queue, other_queue], WorkerReport("one", number=5, running=1))
    seen, other = await broker.overview([queue, other_queue])
    assert seen == await seen_by_single_looks(broker, queue)
    assert other == await seen_by_single_looks(broker, other_queue)
    assert seen.counts == Counts(3, 1, 1, 1, 0, True, ("send",))
    assert (seen.oldest, other.oldest) == (1000, 2000)
    assert [pause.reason for pause in seen.pauses] == ["provider is down", ""]
    assert [worker.report.number for worker in seen.workers] == [5]


async def test_queues_without_jobs_are_empty_and_in_the_order_of_the_call(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a")
    names = [f"queue-{number}" for number in range(120)]
    seen = await broker.overview([*names, queue])
    assert [each.counts.ready for each in seen] == [0] * 120 + [1]
    assert seen[:-1] == [NOTHING] * 120
    assert await broker.overview([]) == []


async def test_the_rows_of_live_workers_and_wanted_minutes_are_there(
    broker: Broker, queue: str, other_queue: str
) -> None:
    hour = broker.now() // 3_600_000 * 60
    rows = [WorkerRow(minute, {"send": TaskRow(done=minute - hour + 3)}) for minute in (hour - 1, hour)]
    await broker.sweep([queue], WorkerReport("web-1"), {queue: QueueReport(rows=rows)})
    gone = broker.sweep([queue], WorkerReport("gone"), {queue: QueueReport(rows=rows)}, is_last=True)
    await asyncio.to_thread(asyncio.run, gone)
    seen, other = await broker.overview([queue, other_queue], (hour - 1, hour))
    assert by_name(seen.rows) == [(hour - 1, {"send": TaskRow(2)}), (hour, {"send": TaskRow(3)})]
    assert other.rows == []
    [later] = await broker.overview([queue], (hour, hour + 1))
    assert by_name(later.rows) == [(hour, {"send": TaskRow(3)})]
    [none] = await broker.overview([queue])
    assert none.rows == []


async def test_due_jobs_are_counted_among_cancelled_and_moved_ones(broker: Broker, queue: str) -> None:
    for number in range(20):
        await put(broker, queue, f"due-{number}", at=broker.now() - 1000 + number)
        await put(broker, queue, f"late-{number}", at=broker.now() + 60_000 + number)
    for number in range(0, 20, 2):
        await asking.cancel(broker, queue, f"late-{number}")
    for number in range(1, 20, 2):
        await asking.reschedule(broker, queue, f"late-{number}", broker.now() + 120_000)
    [seen] = await broker.overview([queue])
    assert seen.counts == await asking.counts(broker, queue)
    assert (seen.counts.ready, seen.counts.waiting) == (20, 10)
