"""Counts the dead jobs of a queue in memory by their task and error."""

from __future__ import annotations

from collections import Counter

import msgspec

from ..base import DEAD_AT_MOST
from ..dead_groups import DeadGroupPage, DeadGroupRow
from ..records import DeadRecord
from .dead_set import DeadSet


class _Error(msgspec.Struct):
    error: str = ""


_read = msgspec.json.Decoder(_Error).decode


def dead_groups(dead: DeadSet, now: int, offset: int) -> DeadGroupPage:
    """Return the answer to LookDeadGroups."""
    counts: Counter[tuple[str, str]] = Counter()
    latest: dict[tuple[str, str], DeadRecord] = {}
    for record in dead.page(now, offset, DEAD_AT_MOST):
        group = record.job.task, _error_of(record)
        latest.setdefault(group, record)
        counts[group] += 1
    rows = [
        DeadGroupRow(*group, counts[group], record.died_at, record.job.id) for group, record in latest.items()
    ]
    return DeadGroupPage(rows, None)


def _error_of(record: DeadRecord) -> str:
    try:
        return _read(record.detail).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
