"""The ticks of periodic tasks, as the store knows them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .questions import Question


class TickSeen(msgspec.Struct, frozen=True):
    """The next and the last tick of a periodic task."""

    task: str
    next_due: int
    """In milliseconds since 1970."""
    last_id: str
    """The id of the job of the last tick that had a job; empty if there was none yet."""


class LookPeriodic(Question[Sequence[TickSeen]], frozen=True):
    """Which periodic tasks does the queue have, and when are they due? Sorted by their names."""
