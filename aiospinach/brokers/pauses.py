"""Pauses of queues and tasks: orders to begin and to end them, and the question which there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from .questions import Act, Question

WHOLE_QUEUE = "*"
"""Stands for the queue where a task is named. No task has this name."""


class StoredPause(msgspec.Struct, frozen=True):
    """A pause of a task, or of the whole queue."""

    task: str
    """The name of the task, or WHOLE_QUEUE."""
    since: int
    until: int
    """When a tick ends the pause, in milliseconds since 1970; 0: it has no end."""
    by: str
    """The host and process that paused it, or the worker whose job did."""
    reason: str

    def is_over(self, now: int) -> bool:
        """Whether the next tick ends it."""
        return 0 < self.until <= now


def paused_of(pauses: Iterable[StoredPause], now: int) -> tuple[bool, Sequence[str]]:
    """Return whether the queue is paused, and the names of paused tasks. A pause that is over is left out,
    also while no worker is there to end it."""
    names = {pause.task for pause in pauses if not pause.is_over(now)}
    return WHOLE_QUEUE in names, tuple(sorted(names - {WHOLE_QUEUE}))


class LookPauses(Question[Sequence[StoredPause]], frozen=True):
    """What is paused in the queue? Sorted by name, so that the whole queue comes first."""


class Pause(Act[None], frozen=True):
    """Start no jobs of a task, or of the whole queue. Running jobs go on.

    The jobs keep their order. Ticks of a paused periodic task are skipped. A pause that exists is replaced,
    and keeps its beginning.
    """

    task: str
    until: int = 0
    by: str = "-"
    """A name without spaces."""
    reason: str = ""


class Resume(Act[bool], frozen=True):
    """End a pause. Returns whether there was one."""

    task: str
