"""Orphans: live jobs whose place was lost, because somebody deleted a key or a part of one."""

from __future__ import annotations

from . import scripts
from .calls import ScriptCalls
from .queue_session import QueueSession
from .schema import milliseconds


async def find_orphans(calls: ScriptCalls, state: QueueSession, lease: float) -> None:
    """Put the orphans of a queue back, page by page."""
    cursor = b"0"
    while True:
        state.ticks += 1
        arguments = [state.session, state.ticks, milliseconds(lease), cursor]
        _, cursor = await calls.work(scripts.ORPHANS, state, arguments)
        if cursor == b"0":
            break
    state.has_orphans = False
