"""Overviews of queues in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..overview import QueueSeen
from ..pauses import StoredPause, paused_of
from ..questions import Counts, WorkerSeen
from ..reports import HOUR, MINUTE
from . import schema, scripts
from .calls import ScriptCalls
from .reports import decode_rows, decode_worker

QUEUES_AT_ONCE = 50
_PARTS = 5
_MINUTES_PER_HOUR = HOUR // MINUTE


async def read_overview(
    calls: ScriptCalls, spans: Sequence[Sequence[str]], minutes: Sequence[int]
) -> list[QueueSeen]:
    """Return the state of the queues of these spans, with one call for fifty queues of a span."""
    hours = [minute // _MINUTES_PER_HOUR for minute in minutes]
    seen: list[QueueSeen] = []
    for span in spans:
        for first in range(0, len(span), QUEUES_AT_ONCE):
            keys = [
                key
                for queue in span[first : first + QUEUES_AT_ONCE]
                for key in calls.queue(queue).keys.of_overview(hours)
            ]
            arguments = [schema.milliseconds(calls.lease), *minutes]
            now, *answer = await calls.run(scripts.OVERVIEW, calls.ask, keys, arguments)
            seen += map(partial(_queue_of, now), *(answer[part::_PARTS] for part in range(_PARTS)))
    return seen


def _queue_of(
    now: int,
    numbers: Sequence[int],
    oldest: bytes | None,
    paused: Sequence[bytes],
    reports: Sequence[bytes],
    rows: Sequence[bytes],
) -> QueueSeen:
    pauses = schema.decode_pauses(paused)
    workers = zip(reports[::3], reports[1::3], reports[2::3], strict=True)
    return QueueSeen(
        counts=counts_of(numbers, pauses, now),
        oldest=None if oldest is None else int(oldest),
        pauses=pauses,
        workers=[WorkerSeen(decode_worker(session, report), int(at)) for session, at, report in workers],
        rows=list(decode_rows(rows).values()),
    )


def counts_of(numbers: Sequence[Any], pauses: Sequence[StoredPause], now: int) -> Counts:
    """Return the counts that a script has made."""
    ready, running, waiting, parked, dead = numbers
    return Counts(ready, running, waiting, dead, parked, *paused_of(pauses, now))
