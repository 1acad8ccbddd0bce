"""Reads the ticks of the periodic tasks of a queue in Redis."""

from __future__ import annotations

from collections.abc import Sequence

from ..periodic import TickSeen
from . import schema
from .calls import ScriptCalls
from .queue_session import QueueSession


async def read_periodic(calls: ScriptCalls, state: QueueSession) -> Sequence[TickSeen]:
    """Return the answer to LookPeriodic."""
    dues = dict(sorted(schema.pairs(await calls.ask("ZRANGE", state.keys.periodic, 0, -1, "WITHSCORES"))))
    if not dues:
        return []
    last = await calls.ask("HMGET", state.keys.control, *(b" @" + task for task in dues))
    return [
        TickSeen(task.decode(errors="replace"), int(float(due)), (job_id or b"").decode(errors="replace"))
        for (task, due), job_id in zip(dues.items(), last, strict=True)
    ]
