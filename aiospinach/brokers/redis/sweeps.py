"""Sweeps in Redis: looks at queues, and stores the reports of a worker."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..records import SweepResult
from ..reports import NO_QUEUE_REPORT, QueueReport, WorkerReport
from . import scripts
from .calls import ScriptCalls
from .reports import encode_report, encode_rows, hours_of
from .schema import milliseconds


class Sweeps:
    """``sweep`` of one broker."""

    def __init__(self, calls: ScriptCalls, grace: float) -> None:
        self._calls = calls
        self._lease = calls.lease
        self._grace = grace

    async def sweep(
        self,
        queues: Sequence[str],
        worker: WorkerReport,
        reports: Mapping[str, QueueReport],
        *,
        is_last: bool,
    ) -> list[SweepResult]:
        here, now = self._calls.here(), self._calls.now()
        states = [self._calls.queue(queue) for queue in queues]
        keys: list[str] = []
        spans = milliseconds(self._lease), milliseconds(self._grace)
        arguments: list[Any] = [*spans, here.session, int(is_last)]
        encoded = msgspec.json.encode(worker)
        for queue, state in zip(queues, states, strict=True):
            report = reports.get(queue, NO_QUEUE_REPORT)
            hours = hours_of(report, now)
            keys += state.keys.of_sweep(hours)
            is_thorough = time.monotonic() >= state.next_orphan_check
            if is_thorough:
                state.next_orphan_check = time.monotonic() + self._lease / 2
            arguments += (state.last_parked_task, int(is_thorough), encode_report(encoded, report))
            arguments += encode_rows(worker.name, report, hours)
            arguments += (len(state.periodic), *state.periodic)
        send = here.transport.worker_call
        _, *answer = await self._calls.run(scripts.SWEEP, send, keys, arguments)
        looks = zip(states, *(answer[part::5] for part in range(5)), strict=True)
        return [state.sweep_result(bool(ready), *others) for state, ready, *others in looks]
