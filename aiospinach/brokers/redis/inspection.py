"""Answers questions about queues in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dead_groups import LookDeadGroups
from ..events import LookEvents, LookLatestEvents
from ..findings import LookFindings
from ..pauses import LookPauses
from ..periodic import LookPeriodic
from ..places import LookJobFacts, LookPlace, LookRows
from ..questions import (
    LookCounts,
    LookDead,
    LookJob,
    LookOldest,
    Question,
    WorkerSeen,
)
from ..records import DeadRecord
from ..reports import HOUR, MINUTE, ROWS_FOR, WorkerRow
from ..results import LookResults
from . import schema, scripts
from .calls import ScriptCalls
from .checkup import find_faults
from .dead_groups import read_dead_groups
from .event_reads import read_events, read_latest_events
from .facts import facts_of
from .listing import list_place
from .overview import counts_of
from .periodic import read_periodic
from .queue_session import QueueSession
from .reports import decode_rows, decode_worker
from .results import read_results

LISTED_AT_ONCE = 100
ROWS_AT_ONCE = 1000


class Inspection:
    """``look`` of one broker."""

    def __init__(self, calls: ScriptCalls) -> None:
        self._calls = calls

    async def look(self, queue: str, question: Question[Any]) -> Any:
        state = self._calls.queue(queue)
        if isinstance(question, LookCounts):
            now, found, *numbers = await self._look(state, "counts")
            return counts_of(numbers, schema.decode_pauses(found), now)
        if isinstance(question, LookOldest):
            _, at = await self._look(state, "oldest")
            return None if at is None else int(at)
        if isinstance(question, LookDead):
            return await self._dead(state, question.offset, question.limit)
        if isinstance(question, LookJob):
            _, envelope = await self._look(state, "job", question.job_id)
            return schema.decode(question.job_id.encode(), envelope) if envelope else None
        if isinstance(question, LookResults):
            return await read_results(self._calls, state, question.job_ids)
        if isinstance(question, LookPauses):
            found = await self._calls.ask("HGETALL", state.keys.pauses)
            return schema.decode_pauses(found)
        if isinstance(question, LookPlace):
            return await list_place(self._calls, state, question)
        if isinstance(question, LookJobFacts):
            return await facts_of(self._calls, state, question)
        if isinstance(question, LookFindings):
            return await find_faults(self._calls, state)
        if isinstance(question, LookEvents):
            return await read_events(self._calls, state, question)
        if isinstance(question, LookLatestEvents):
            return await read_latest_events(self._calls, state, question)
        if isinstance(question, LookRows):
            return await self._rows(state, question.since)
        if isinstance(question, LookDeadGroups):
            return await read_dead_groups(self._calls, state, question)
        if isinstance(question, LookPeriodic):
            return await read_periodic(self._calls, state)
        return await self._workers(state)

    async def _rows(self, state: QueueSession, since: int) -> Sequence[WorkerRow]:
        """Read the rows of minutes, hour by hour, a thousand a call."""
        rows: list[WorkerRow] = []
        first = max(since * MINUTE, self._calls.now() - ROWS_FOR) // HOUR
        for hour in range(first, self._calls.now() // HOUR + 1):
            cursor, of_hour = b"0", dict[str, WorkerRow]()
            while True:  # a scan may return a row twice
                key = state.keys.minutes(hour)
                cursor, flat = await self._calls.ask("HSCAN", key, cursor, "COUNT", ROWS_AT_ONCE)
                of_hour |= decode_rows(flat)
                if cursor == b"0":
                    break
            rows += (row for row in of_hour.values() if row.minute >= since)
        return rows

    async def _workers(self, state: QueueSession) -> Sequence[WorkerSeen]:
        lease = schema.milliseconds(self._calls.lease)
        _, *flat = await self._calls.produce(scripts.WORKERS, state, [lease])
        workers = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        return [WorkerSeen(decode_worker(session, report), int(at)) for session, at, report in workers]

    async def _dead(self, state: QueueSession, offset: int, limit: int) -> Sequence[DeadRecord]:
        records: list[DeadRecord] = []
        while (count := min(limit - len(records), LISTED_AT_ONCE)) > 0:
            first = offset
            _, offset, flat = await self._look(state, "dead", first, count)
            records += map(schema.decode_dead, flat[::3], flat[1::3], flat[2::3])
            if offset - first < count:  # the end; a full page may hold malformed records only
                break
        return records

    async def _look(self, state: QueueSession, *question: Any) -> Any:
        return await self._calls.produce(scripts.LOOK, state, question)
