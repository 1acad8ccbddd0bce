"""Counts the dead jobs of a queue in Redis by their task and error."""

from __future__ import annotations

import contextlib

import msgspec

from ..dead_groups import DeadGroupPage, DeadGroupRow, LookDeadGroups
from . import scripts
from .calls import ScriptCalls
from .queue_session import QueueSession

VALUES = 5
"""How many values of the script's answer make a row."""


async def read_dead_groups(
    calls: ScriptCalls, state: QueueSession, question: LookDeadGroups
) -> DeadGroupPage:
    """Return the answer to the question."""
    arguments = [question.position, question.limit]
    _, position, *flat = await calls.produce(scripts.DEAD_GROUPS, state, arguments)
    rows = [
        DeadGroupRow(
            task.decode(), _text_of(error), count, int(latest), job_id.decode(errors="backslashreplace")
        )
        for task, error, count, latest, job_id in zip(*(flat[n::VALUES] for n in range(VALUES)), strict=True)
    ]
    return DeadGroupPage(rows, position.decode() or None)


def _text_of(json: bytes) -> str:
    """The error, as it stands in the detail of a dead job."""
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(json, type=str)
    return ""
