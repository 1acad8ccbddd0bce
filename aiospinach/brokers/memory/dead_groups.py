"""Counts the dead jobs of a queue in memory by their task and error."""

from __future__ import annotations

from collections import Counter

import msgspec

from ..dead_groups import DeadGroupPage, DeadGroupRow, LookDeadGroups
from ..records import DeadRecord
from .dead_set import DeadSet


class _Error(msgspec.Struct):
    error: str = ""


_read = msgspec.json.Decoder(_Error).decode


def dead_groups(dead: DeadSet, now: int, question: LookDeadGroups) -> DeadGroupPage:
    """Return the answer to the question."""
    records = dead.behind(now, int(question.position or 0), question.limit)
    counts: Counter[tuple[str, str]] = Counter()
    latest: dict[tuple[str, str], DeadRecord] = {}
    for record in records:
        group = record.job.task, _error_of(record)
        latest.setdefault(group, record)
        counts[group] += 1
    rows = [
        DeadGroupRow(*group, counts[group], record.died_at, record.job.id) for group, record in latest.items()
    ]
    is_full = len(records) == question.limit
    return DeadGroupPage(rows, str(dead.numbers[records[-1].job.id]) if is_full else None)


def _error_of(record: DeadRecord) -> str:
    try:
        return _read(record.detail).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
