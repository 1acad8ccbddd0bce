"""Answers questions about queues in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..pauses import WHOLE_QUEUE, LookPauses
from ..questions import (
    Counts,
    LookCounts,
    LookDead,
    LookJob,
    LookOldest,
    Question,
    WorkerSeen,
)
from ..records import DeadRecord
from ..results import LookResults
from . import schema, scripts
from .calls import ScriptCalls
from .queue_session import QueueSession
from .results import read_results

LISTED_AT_ONCE = 100


class Inspection:
    """``look`` of one broker."""

    def __init__(self, calls: ScriptCalls) -> None:
        self._calls = calls

    async def look(self, queue: str, question: Question[Any]) -> Any:
        state = self._calls.queue(queue)
        if isinstance(question, LookCounts):
            _, *numbers, pauses = await self._look(state, "counts")
            ready, running, waiting, parked, dead = numbers
            names = sorted(name.decode(errors="replace") for name in pauses)
            tasks = tuple(name for name in names if name != WHOLE_QUEUE)
            return Counts(ready, running, waiting, dead, parked, len(tasks) < len(names), tasks)
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
            return [schema.decode_pause(*pair) for pair in sorted(schema.pairs(found))]
        _, workers = await self._look(state, "workers", schema.milliseconds(self._calls.lease))
        return [WorkerSeen(*schema.decode_worker(worker), int(at)) for worker, at in schema.pairs(workers)]

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
