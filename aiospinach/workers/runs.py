"""The runs of a pool: starts them, counts the slots that they hold, and reports their ends to the pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from ..brokers.records import Lease
from ..job import Job
from .execution import Execution
from .outbox import Outbox
from .run import Run
from .slots import Slots
from .state import PoolState


class Runs:
    """All runs from lease to last signal, in the order in which they began.

    The pool sets the callbacks before the first run begins.
    """

    def __init__(self, state: PoolState, slots: Slots) -> None:
        self._state = state
        self._slots = slots
        self._runs: dict[Execution, Run] = {}
        self.count: int = 0
        """How many jobs the pool has begun to run."""
        self.watched_until: float = math.inf
        """The watchdog sleeps until this moment of ``time.monotonic()``."""
        self.renewed_at: float = 0.0
        """The next renewal is answered at this moment of ``time.monotonic()``, or earlier."""
        self.on_early_end: Callable[[Run], None]
        """Called for a new run whose lease ends before one of these two moments."""
        self.on_start: Callable[[Run], None] | None = None
        """Called for each new run."""
        self.on_first_start: Callable[[], None] | None = None
        """Called for a new run if there was none."""
        self.on_retry: Callable[[Execution, float], None]
        """Called when a job was put back, to be tried again in so many seconds."""
        self.on_parked: Callable[[], None]
        """Called when a job was put back, to wait for a worker that knows its task."""
        self.on_last_end: Callable[[], None] | None = None
        """Called when no run is left."""

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs.values())

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, job: Job) -> Run | None:
        """The run of a job whose body has not ended."""
        for run in list(self._runs.values()):  # a thread of a job may ask
            if run.lease.job.id == job.id and run.outbox.queue == job.queue and run.holds_slot:
                return run
        return None

    def start(self, outbox: Outbox, lease: Lease, *, is_recovery: bool = False) -> None:
        """Begin to run a job, or to judge one whose worker was lost."""
        run = Run(self, self._state, outbox, lease, is_recovery=is_recovery)
        if self.on_start is not None:
            self.on_start(run)
        self._runs[run] = run
        if len(self._runs) == 1 and self.on_first_start is not None:
            self.on_first_start()
        if run.holds_slot:
            self.count += 1
            self._slots.start()
        until = lease.trusted_until
        if until < self.watched_until or until < self.renewed_at:  # guard: early end of a lease
            self.on_early_end(run)

    # What a run reports.

    def body_ended(self, run: Execution) -> None:
        """The run needs its slot no longer."""
        if run.holds_slot:
            run.holds_slot = False
            self._slots.end_body()
            self._slots.on_free()

    def ended(self, run: Execution) -> None:
        """The run has sent its last signal."""
        if run not in self._runs:
            return
        if run.holds_slot:
            self.body_ended(run)
        del self._runs[run]
        if not run.is_recovery and self._slots.finish():
            self._slots.on_free()
        if not self._runs:
            if self.on_last_end is not None:
                self.on_last_end()
            self._state.on_change()

    def put_off(self, run: Execution, delay: float) -> None:
        """The job of a run was put back, to be tried again in ``delay`` seconds."""
        self.on_retry(run, delay)

    def parked(self, run: Execution) -> None:
        """The job of a run was put back, to wait for a worker that knows its task."""
        self.on_parked()
