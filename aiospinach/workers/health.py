"""The health of workers, as ``Engine.health`` returns it to readiness probes."""

from __future__ import annotations

import msgspec


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The health of an engine's workers at one moment.

    Ages are in seconds. An age is None before its first event. The exchange_age of healthy workers is at most
    10 seconds, unless all their slots are taken, and their renewal_age at most a quarter of a lease.
    """

    is_running: bool
    """Workers were started, and have not stopped."""
    is_connected: bool
    """The broker answered the last call of each service."""
    exchange_age: float | None = None
    """Seconds since the broker last answered for a queue; the greatest among the queues."""
    renewal_age: float | None = None
    """Seconds since the broker had last renewed all leases."""
    loop_lag: float = 0.0
    """Seconds by which the event loop was last late; a body that blocks the loop shows here."""
    skipped_ticks: int = 0
    """How many ticks these workers skipped, since the job of the tick before still waited or ran."""
    unknown_tasks: tuple[str, ...] = ()
    """Names of tasks that jobs of the queues wait for, and that are not attached to the engine."""


STOPPED = Health(is_running=False, is_connected=False)
