"""Computes the health of a pool from the state of its services."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from .consumer import Consumer
from .health import Health
from .heartbeat import Heartbeat
from .maintenance import Maintenance
from .sweeper import Sweeper


def check_health(
    heartbeat: Heartbeat,
    sweepers: Sequence[Sweeper],
    consumers: Sequence[Consumer],
    maintenances: Sequence[Maintenance],
    *,
    unknown_tasks: tuple[str, ...],
    skipped_ticks: int,
) -> Health:
    """The health of the services now. It makes no call to the broker."""
    now = time.monotonic()
    is_failing = (
        heartbeat.is_failing
        or any(sweeper.is_failing or sweeper.answered_at is None for sweeper in sweepers)
        or any(consumer.is_failing for consumer in consumers)
        or any(maintenance.is_failing for maintenance in maintenances)
    )
    renewed_at = heartbeat.answered_at
    return Health(
        is_running=True,
        is_connected=not is_failing,
        exchange_age=max((now - at for at in _answers(sweepers)), default=None),
        renewal_age=None if renewed_at is None else now - renewed_at,
        loop_lag=max(sweeper.loop_lag for sweeper in sweepers),
        unknown_tasks=unknown_tasks,
        skipped_ticks=skipped_ticks,
    )


def _answers(sweepers: Sequence[Sweeper]) -> Iterator[float]:
    """When the broker last answered an exchange or a sweep of each queue, by ``time.monotonic()``."""
    for sweeper in sweepers:
        for consumer in sweeper.consumers:
            answers = [at for at in (sweeper.answered_at, consumer.answered_at) if at is not None]
            if answers:
                yield max(answers)
