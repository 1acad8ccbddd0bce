"""The workers that live, as they have reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from ..brokers.base import Broker
from ..brokers.questions import LookWorkers, WorkerSeen
from ..timing import LAST_MOMENT, from_milliseconds


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A worker, as it has reported within three leases. It reports every few seconds."""

    name: str
    host: str
    pid: int
    queues: tuple[str, ...]
    """Its queues, sorted; of many, those that were asked about and some others."""
    number: int
    """How many jobs it runs at once, at most."""
    running: int
    """How many jobs it ran."""
    seen_at: datetime
    """When it reported last, in UTC."""
    started_at: datetime | None
    """When it was started, in UTC; None if the worker has not told."""
    version: str
    """Its release of aiospinach."""
    loop_lag: float
    """Seconds by which its event loop was late."""
    level: int
    """Grows with each release whose workers can do more; 0 if its report cannot be read."""


async def read_workers(broker: Broker, namespace: str, queues: Sequence[str]) -> list[WorkerInfo]:
    """The workers of these queues, by their names."""
    await broker.open_in_time(namespace)
    return workers_of({queue: await broker.look(queue, LookWorkers()) for queue in queues})


def workers_of(by_queue: Mapping[str, Sequence[WorkerSeen]]) -> list[WorkerInfo]:
    """Each worker of these queues once, as it has reported last, by their names."""
    found: dict[str, tuple[WorkerSeen, set[str]]] = {}
    for queue, workers in by_queue.items():
        for seen in workers:
            latest, names = found.get(seen.name, (seen, set(seen.report.queues)))
            names.add(queue)
            found[seen.name] = (seen if seen.at > latest.at else latest), names
    return [_info_of(seen, names) for _, (seen, names) in sorted(found.items())]


def _info_of(seen: WorkerSeen, queues: set[str]) -> WorkerInfo:
    report = seen.report
    return WorkerInfo(
        name=report.name,
        host=report.host,
        pid=report.pid,
        queues=tuple(sorted(queues)),
        number=report.number,
        running=report.running,
        seen_at=from_milliseconds(seen.at),
        started_at=from_milliseconds(report.started) if 0 < report.started < LAST_MOMENT else None,
        version=report.version,
        loop_lag=report.lag,
        level=report.level,
    )
