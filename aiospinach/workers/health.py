"""How the workers are, for a readiness probe."""

from __future__ import annotations

import msgspec


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What the workers of an engine knew of themselves at one moment.

    Ages are in seconds, and None before the first time. Workers that are well have exchanged within the
    last 10 seconds, unless all their slots are taken, and renewed within a fourth of their lease.
    """

    is_running: bool
    """Workers were started, and have not stopped."""
    is_connected: bool
    """The broker answered the last call of each service."""
    exchange_age: float | None = None
    """Since the broker last gave or took jobs, of the queue that waits longest for it."""
    renewal_age: float | None = None
    """Since the broker last renewed leases and ticked."""
    loop_lag: float = 0.0
    """By how many seconds the event loop was late lately; a body that blocks shows here."""
    skipped_ticks: int = 0
    """Ticks of periodic tasks that these workers skipped, since the job of the one before waited or ran."""
    unknown_tasks: tuple[str, ...] = ()
    """Names of tasks that jobs of the queues wait for, and that are not attached to the engine."""


STOPPED = Health(is_running=False, is_connected=False)
