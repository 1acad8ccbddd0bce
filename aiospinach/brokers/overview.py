"""The answer of ``Broker.overview``: a whole queue at a glance."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .pauses import StoredPause
from .questions import Counts, WorkerSeen
from .reports import WorkerRow


class QueueSeen(msgspec.Struct, frozen=True):
    """A queue at one moment. Each part has a bounded cost, however many jobs there are."""

    counts: Counts
    oldest: int | None
    """Since when the first job in line has been due, as ``LookOldest`` answers."""
    pauses: Sequence[StoredPause]
    """Sorted by name, so that the whole queue comes first."""
    workers: Sequence[WorkerSeen]
    """As ``LookWorkers`` answers."""
    rows: Sequence[WorkerRow]
    """What these workers did in the minutes that were asked for."""
