"""What a supervisor answers to probes: it asks its processes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from .probe_server import Answer
from .process import WorkerProcess
from .supervisor import Supervisor

ANSWER_WITHIN = 4.0
"""Seconds; a process that takes longer hangs."""


class ProcessHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A place of the supervisor."""

    process: int
    """1 for the first place."""
    pid: int | None
    """None between two processes."""
    is_up: bool
    """The workers of the process have begun to fetch jobs."""
    health: msgspec.Raw | None
    """What the process has answered; None if it has not answered in time."""


class AllProbes:
    """Answers the probes about all processes of a supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def answer(self, path: str) -> Answer:
        """Return the answer.

        All are live unless a process that was up hangs: the supervisor itself looks after those that end. All
        are ready if each of them is.
        """
        processes = list(self._supervisor.processes)
        answers = await asyncio.gather(*(_ask(process, path) for process in processes))
        if path == "/metrics":
            return _joined(answers)
        rows = [
            ProcessHealth(
                process=place,
                pid=None if process is None else process.pid,
                is_up=process is not None and process.is_up,
                health=None if answer is None else msgspec.Raw(answer.body),
            )
            for place, (process, answer) in enumerate(zip(processes, answers, strict=True), 1)
        ]
        wells = [answer is not None and answer.status == 200 for answer in answers]
        if path == "/live":
            wells = [is_well or not row.is_up for is_well, row in zip(wells, rows, strict=True)]
        return Answer(200 if all(wells) else 503, msgspec.json.encode(rows))


async def _ask(process: WorkerProcess | None, path: str) -> Answer | None:
    return None if process is None else await process.line.ask(path, ANSWER_WITHIN)


def _joined(answers: Sequence[Answer | None]) -> Answer:
    """Return the metrics of all processes, with a label ``process`` for the place of each."""
    answered = {str(place): answer for place, answer in enumerate(answers, 1) if answer is not None}
    if refused := [answer for answer in answered.values() if answer.status != 200]:
        return refused[0]
    if not answered:
        return Answer(503, b'{"error":"no process has answered yet"}')
    from aiospinach.contrib.prometheus_text import joined

    return Answer(200, *joined({place: answer.body for place, answer in answered.items()}))
