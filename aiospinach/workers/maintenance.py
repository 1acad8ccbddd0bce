"""Maintenance of one queue: queues due jobs, fires periodic tasks, and finds jobs of lost workers."""

from __future__ import annotations

import math
import time

from .. import signals
from ..brokers.records import NO_ARGUMENTS, Envelope, Fired, Firing, TickResult
from ..cron import is_tick_of
from ..exceptions import BrokerError
from ..job import JobStatus
from ..logs import Log
from ..timing import from_milliseconds
from .bell import Bell
from .heartbeat import Heartbeat
from .outbox import Outbox
from .runs import Runs
from .skipped_ticks import SkippedTicks
from .state import PoolState

logger: Log = Log("aiospinach")

TICKING = "ticking"
MISSED_AFTER = 60.0
"""A tick that no worker fired for so many seconds is skipped, unless the task has a ``catch_up``."""
SHORTEST_SLEEP = 0.005
NAMED_AT_MOST = 5
REGISTER_EVERY = 12 * 3600.0
"""Seconds between two registrations of limits and periodic tasks: the store forgets old ones."""
LONGEST_PAUSE = 1.0
"""The longest time between two tries to tick while the broker is away, in seconds."""


class Maintenance:
    """Ticks for one queue when something is due.

    A tick queues due jobs, fires periodic tasks and finds lost jobs. Leases are renewed before the tick.
    Otherwise a worker that was held up would find its own jobs lost.
    """

    def __init__(
        self,
        state: PoolState,
        runs: Runs,
        outbox: Outbox,
        heartbeat: Heartbeat,
        skipped_ticks: SkippedTicks,
    ) -> None:
        self._state = state
        self._runs = runs
        self._outbox = outbox
        self._queue = outbox.queue
        self._heartbeat = heartbeat
        self._skipped_ticks = skipped_ticks
        self._broker = state.broker
        self._bell = Bell()
        self._due_at = math.inf
        """When the next tick is due, by ``time.monotonic()``."""
        self._must_register = False
        self._register_at = math.inf
        """When the next registration is due, by ``time.monotonic()``."""
        self._is_calling = False

    @property
    def is_failing(self) -> bool:
        """The broker has not answered the last tick."""
        return self._outbox.outage.is_of(TICKING)

    @property
    def is_busy(self) -> bool:
        """A call is under way whose answer may bring jobs to run."""
        return self._is_calling and not self.is_failing

    def ring(self) -> None:
        """Tick now: something is due earlier than was known."""
        self.tick_within(0.0)

    def tick_within(self, seconds: float) -> None:
        """Tick in so many seconds at the latest: something is due then."""
        moment = time.monotonic() + seconds
        if moment < self._due_at:
            self._due_at = moment
            self._bell.ring()

    def register_again(self) -> None:
        """Register before the next tick: tasks were attached, or the store was emptied."""
        self._must_register = True
        self.ring()

    async def register(self) -> None:
        """Register the limits and the next ticks of all tasks of the queue with the broker."""
        self._must_register = True  # until the broker has answered
        known = len(self._state.tasks)
        now = self._broker.now()
        tasks = self._state.tasks_of(self._queue)
        limits = {task.name: task.max_concurrency or 0 for task in tasks}
        periodic = {task.name: task._calendar.next_after(now) for task in tasks if task._calendar is not None}
        replaced = await self._broker.register(self._queue, limits, periodic, self._state.name)
        for task, limit in replaced.items():
            logger.info(
                "task %s: max_concurrency is %s now, and was %s",
                task,
                limits.get(task) or "None",
                limit or "None",
                fields={**self._state.fields, "task_name": task, "queue": self._queue},
            )
        self._must_register = len(self._state.tasks) > known
        self._register_at = time.monotonic() + REGISTER_EVERY

    async def work(self) -> None:
        """Tick until cancelled, or until the pool stops.

        A pool that stops leaves due jobs to other workers: the pool may end before the answer to a tick
        arrives.
        """
        while self._state.is_working:
            left = min(self._due_at, self._register_at) - time.monotonic()
            if left <= 0:
                await self._tick()
                continue
            self._bell.clear()
            await self._bell.wait(None if left == math.inf else max(left, SHORTEST_SLEEP))

    async def _tick(self) -> None:
        self._due_at = math.inf
        self._is_calling = True
        try:
            next_due = await self._tick_once()
            self._outbox.outage.end(TICKING)
            if next_due is not None:
                self.tick_within(max(next_due, SHORTEST_SLEEP))
        except BrokerError as error:
            self._outbox.outage.begin(TICKING, error)
            self._due_at = time.monotonic() + min(LONGEST_PAUSE, self._broker.tick_period)
        finally:
            self._is_calling = False
            self._state.on_change()

    async def _tick_once(self) -> float | None:
        """Register if necessary, and tick. Returns the seconds to the next tick, or None if none is known."""
        if self._must_register or time.monotonic() >= self._register_at:
            await self.register()
        await self._heartbeat.catch_up(self._outbox)
        ticked = await self._broker.tick(self._queue)
        await self._handle(ticked)
        if ticked.is_forgetful:
            self.register_again()
        return ticked.next_due

    async def _handle(self, ticked: TickResult) -> None:
        if ticked.expired:
            logger.info(
                "queue %s: %d jobs of lost workers are taken over: %s",
                self._queue,
                len(ticked.expired),
                ", ".join(lease.job.id for lease in ticked.expired[:NAMED_AT_MOST]),
                fields={**self._state.fields, "queue": self._queue},
            )
        for lease in ticked.expired:
            self._runs.start(self._outbox, lease, is_recovery=True)
        firings = [
            firing
            for name, due in ticked.periodic
            if (firing := self._firing(name, due, ticked.now)) is not None
        ]
        if not firings:
            return
        began = time.monotonic()
        fired = await self._broker.fire(self._queue, firings)
        # The answer to the tick does not include the new dues.
        next_due = min(firing.next_due for firing in firings)
        self.tick_within((next_due - ticked.now) / 1000 - (time.monotonic() - began))
        for firing, how in zip(firings, fired, strict=True):
            if how is Fired.REFUSED:
                logger.warning(
                    "task %s: the store is full, and its tick of %s is skipped",
                    firing.task,
                    from_milliseconds(firing.due),
                    fields={**self._state.fields, "task_name": firing.task, "queue": self._queue},
                )
            elif how is Fired.OVERLAPPING:
                self._skipped_ticks.add(firing.task)
            elif how is Fired.PAUSED:
                logger.debug(
                    "task %s: its tick of %s is skipped, since the task or its queue is paused",
                    firing.task,
                    from_milliseconds(firing.due),
                    fields={**self._state.fields, "task_name": firing.task, "queue": self._queue},
                )
            elif how is Fired.MOVED and firing.job is not None:
                queued = firing.job.as_job(self._state.namespace, self._queue, JobStatus.QUEUED)
                self._state.announce(signals.job_scheduled, {"job": queued})

    def _firing(self, name: str, due: int, now: int) -> Firing | None:
        """The firing of a tick; without a job if the tick is too late, or is not of the task's calendar."""
        task = self._state.tasks.get(name)
        if task is None or task._calendar is None:
            return None
        next_due = task._calendar.next_after(max(now, due))
        if not is_tick_of(task._calendar, due):  # guard: tick of another calendar
            return Firing(name, due, next_due)  # an earlier release of the program registered it
        limit = MISSED_AFTER if task.catch_up is None else task.catch_up
        if now - due > limit * 1000:
            logger.warning(
                "task %s: its tick of %s was missed and is skipped",
                name,
                from_milliseconds(due),
                fields={**self._state.fields, "task_name": name, "queue": self._queue},
            )
            return Firing(name, due, next_due)
        job = Envelope(f"{name}@{due}", name, NO_ARGUMENTS, due, task.max_retries)
        job.result_ttl = task._result_ms
        return Firing(name, due, next_due, job, task.overlap)
