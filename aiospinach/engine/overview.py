"""All queues at a glance, with one call of the broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from ..brokers.base import Broker
from ..brokers.reports import MINUTE
from ..timing import from_milliseconds
from .counts import QueueCounts, counts_of
from .live_workers import WorkerInfo, workers_of
from .pauses import Pause, pauses_of
from .throughput import MinuteRow, minutes_of


class QueueOverview(msgspec.Struct, frozen=True, kw_only=True):
    """A queue at one moment."""

    counts: QueueCounts
    pauses: Sequence[Pause]
    """The pause of the whole queue first, and then those of its tasks, by name."""
    slots: int
    """How many jobs its workers run at once, at most. They may have other queues as well."""
    minutes: Sequence[MinuteRow]
    """What its live workers did in this minute and the one before, as in ``Engine.throughput``."""


class EngineOverview(msgspec.Struct, frozen=True, kw_only=True):
    """The queues and workers of an engine at one moment."""

    at: datetime
    """The moment by the clock of the store, in UTC."""
    queues: Mapping[str, QueueOverview]
    """By their names, sorted."""
    workers: Sequence[WorkerInfo]
    """Each worker once, by their names, as in ``Engine.workers``."""


async def read_overview(broker: Broker, namespace: str, queues: Sequence[str]) -> EngineOverview:
    """The overview of these queues."""
    await broker.open_in_time(namespace)
    minute = broker.now() // MINUTE
    seen = dict(zip(queues, await broker.overview(queues, (minute - 1, minute)), strict=True))
    now = broker.now()
    return EngineOverview(
        at=from_milliseconds(now),
        queues={
            queue: QueueOverview(
                counts=counts_of(each, now),
                pauses=pauses_of(queue, each.pauses, now),
                slots=sum(worker.report.number for worker in each.workers),
                minutes=sorted(minutes_of(queue, each.rows), key=lambda row: row.minute),
            )
            for queue, each in seen.items()
        },
        workers=workers_of({queue: each.workers for queue, each in seen.items()}),
    )
