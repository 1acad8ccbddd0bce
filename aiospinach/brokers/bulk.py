"""Orders about many jobs at once: each carries out a part, and returns where the next one goes on."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .questions import Act
from .records import Envelope

Cursor = tuple[str | bytes | int, ...]
"""Where the next order goes on; empty: at the beginning. Only the broker reads it."""


class BulkResult(msgspec.Struct, frozen=True):
    """What a part of many orders has done."""

    count: int
    """How many jobs were cancelled, requeued or discarded."""
    cursor: Cursor | None
    """Where the next order goes on; None if nothing is left."""
    bare: int = 0
    """How many dead jobs stay dead, since they were kept without their arguments."""
    jobs: Sequence[Envelope] = ()
    """The cancelled jobs, if the order asked for them."""


class CancelSome(Act[BulkResult], frozen=True):
    """Cancel waiting and queued jobs of the queue, and no running ones."""

    task: str = ""
    """The task of the jobs; empty: any."""
    with_jobs: bool = False
    cursor: Cursor = ()


class SteerDead(Act[BulkResult], frozen=True):
    """Requeue or discard dead jobs, the oldest first."""

    is_to_run: bool
    """True requeues them, as if they had never run; False discards them."""
    task: str = ""
    reason: str = ""
    """Why the jobs died, in one word; empty: for any reason."""
    cursor: Cursor = ()
    error: str | None = None
    """The class of their last error, with its module; empty: it is not known. None: any."""
