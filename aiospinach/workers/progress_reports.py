"""Reports of progress: how far the running jobs of a pool have come, four times a second at most."""

from __future__ import annotations

import asyncio
import contextlib
import math
import operator
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import SupportsIndex

import msgspec

from .. import signals
from ..brokers.progress import Step
from ..exceptions import BrokerError, BrokerUnavailable, InvalidValue
from ..job import Job
from ..logs import Log
from .bell import Bell
from .outbox import Outbox
from .run import Run
from .state import PoolState

logger: Log = Log("aiospinach")

PERIOD = 0.25
"""Seconds between two reports of one queue."""
NOTE_AT_MOST = 200
"""Characters."""
LARGEST_NUMBER = 2**63 - 1


class RunProgress:
    """The last step of one run. Any thread may take a step."""

    __slots__ = ("_add", "_loop", "_step", "has_warned", "is_pending", "is_sending", "job", "run")

    def __init__(
        self, run: Run, job: Job, loop: asyncio.AbstractEventLoop, add: Callable[[RunProgress], None]
    ) -> None:
        self.run: Run = run
        self.job: Job = job
        self.is_pending: bool = False
        """The step waits for the next report."""
        self.is_sending: bool = False
        """Receivers of ``job_progress`` are running."""
        self.has_warned: bool = False
        self._add = add
        self._loop = loop
        self._step = Step(0)

    def take_step(self, current: object, total: object, note: object) -> None:
        """Replace the last step. Never raises: a wrong argument is logged, once for each run."""
        try:
            self._step = Step(
                _number(current, "current"),
                None if total is None else _number(total, "total"),
                _note(note) if note else "",
            )
        except InvalidValue as error:
            self._warn(error)
            return
        if not self.is_pending:  # guard: one report for many steps
            self.is_pending = True
            if asyncio._get_running_loop() is self._loop:
                self._add(self)
            else:
                with contextlib.suppress(RuntimeError):  # the pool's loop has ended
                    self._loop.call_soon_threadsafe(self._add, self)

    def step(self) -> Step:
        """Return the last step, for a report. A later step waits for the next report."""
        self.is_pending = False  # first: a thread may take another step meanwhile
        return self._step

    def _warn(self, error: InvalidValue) -> None:
        if not self.has_warned:
            self.has_warned = True
            logger.warning("%r: progress is left out: %s", self.job, error, fields=self.run.fields)


class ProgressReports:
    """Stores the last step of each job, and sends ``job_progress``. Each queue has a service.

    A step of a job whose body has ended is dropped: its settlement ends the progress.
    """

    def __init__(self, state: PoolState, outboxes: Sequence[Outbox]) -> None:
        self._state = state
        self._outboxes = outboxes
        self._bells = {outbox.queue: Bell() for outbox in outboxes}
        self._pending: dict[str, dict[RunProgress, None]] = {outbox.queue: {} for outbox in outboxes}
        self._is_refused = False
        """The log has a warning that the store refuses reports."""

    def services(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """The services, one for each queue."""
        return (partial(self.work, outbox.queue) for outbox in self._outboxes)

    def of(self, run: Run, job: Job) -> RunProgress:
        """Return the progress of a run."""
        return RunProgress(run, job, self._state.loop, self._add)

    async def work(self, queue: str) -> None:
        """Report the steps of a queue's jobs until cancelled."""
        while True:
            await self._bells[queue].wait()
            pending, self._pending[queue] = self._pending[queue], {}
            steps = {each: each.step() for each in pending if each.run.holds_slot}
            if steps:
                await self._report(queue, steps)
            await asyncio.sleep(PERIOD)  # guard: four reports a second

    def _add(self, progress: RunProgress) -> None:
        queue = progress.run.outbox.queue
        self._pending[queue][progress] = None
        self._bells[queue].ring()

    async def _report(self, queue: str, steps: dict[RunProgress, Step]) -> None:
        for progress, step in steps.items():
            self._send(progress, step)
        leases = {each.run.lease.id: (each.run.lease.job.task, step) for each, step in steps.items()}
        try:
            await self._state.broker.note_progress(queue, leases)
        except BrokerUnavailable:
            for progress in steps:  # the next report has their last steps
                self._add(progress)
        except BrokerError as error:
            if not self._is_refused:
                self._is_refused = True
                logger.warning(
                    "worker %s cannot store the progress of jobs: %s",
                    self._state.name,
                    error,
                    fields=self._state.fields,
                )

    def _send(self, progress: RunProgress, step: Step) -> None:
        """Send the signal, unless its receivers still have the last step of the job."""
        if progress.is_sending or not signals.job_progress.receivers:
            return

        def end(_: asyncio.Task[None]) -> None:
            progress.is_sending = False

        progress.is_sending = True
        job = msgspec.structs.replace(progress.job, progress=step.as_progress(self._state.broker.now()))
        sending = self._state.send_beside(signals.job_progress, {"job": job}, progress.run.context)
        sending.add_done_callback(end)


def _number(value: object, name: str) -> int | float:
    if type(value) is float or type(value) is int:
        number = value
    elif isinstance(value, float):
        number = float(value)
    elif isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise InvalidValue(f"progress({name}=) takes a number, not {type(value).__name__}")
    else:
        number = operator.index(value)
    if not (-LARGEST_NUMBER <= number <= LARGEST_NUMBER and math.isfinite(number)):
        raise InvalidValue(f"progress({name}=) takes a finite number of 63 bits at most")
    return number


def _note(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"progress(note=) takes text, not {type(value).__name__}")
    note = value if len(value) <= NOTE_AT_MOST else value[: NOTE_AT_MOST - 1] + "…"
    return note.encode("utf-8", "replace").decode()  # without lone surrogates
