"""A pool of workers: slots for jobs, and the services around them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextvars import Context
from typing import Any

from ..brokers.base import Broker
from ..cancellation import shielded_if
from ..exceptions import JobCancelled
from ..job import Job
from ..logs import Log
from ..redaction import Redaction
from ..signals import SafeNamedSignal
from ..task import Task
from .consumer import Consumer
from .health import STOPPED, Health
from .heartbeat import Heartbeat
from .lease_watchdog import LeaseWatchdog
from .listener import Listener
from .run import Run
from .skipped_ticks import SkippedTicks
from .slots import Slots
from .stop_when_empty import StopWhenEmpty
from .supervisor import Supervisor
from .sweeper import Sweeper
from .threads import Threads
from .turns import Turns
from .unknown_tasks import UnknownTasks
from .verdict import KnownErrors

logger: Log = Log("aiospinach")


class Pool:
    """``number`` slots for jobs of some queues, in one event loop, from start to stop; not started again."""

    def __init__(
        self,
        *,
        broker: Broker,
        namespace: str,
        tasks: Mapping[str, Task[..., Any]],
        queues: Sequence[str],
        number: int,
        stop_when_queue_empty: bool,
        shutdown_timeout: float,
        signal_timeout: float,
        redaction: Redaction,
        context: Context,
    ) -> None:
        self.name: str = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.broker = broker
        self.namespace = namespace
        self.tasks = tasks
        self.signal_timeout = signal_timeout
        self.redaction = redaction
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.context: Context = context
        """The context of the supervisor, which jobs get copies of."""
        self.slots: Slots = Slots(number)
        self.threads: Threads = Threads(number, f"aiospinach {self.name}")
        self.turns: Turns = Turns()
        self.consumers: list[Consumer] = [Consumer(self, queue, place) for place, queue in enumerate(queues)]
        self.heartbeat: Heartbeat = Heartbeat(self)
        self.watchdog: LeaseWatchdog = LeaseWatchdog(self)
        self.runs: dict[Run, None] = {}  # a set that keeps its order
        self.error: BaseException | None = None
        """The defect that ended the pool, if one did."""
        self.is_stopping: bool = False
        self.is_interrupted: bool = False
        self.is_closing: bool = False
        self.sweepers: list[Sweeper] = []
        self.listeners: list[Listener] = []
        self.attentive: set[Listener] = set()
        """Listeners that do not wait for all of their queues, and may have to."""
        by_queue = {consumer.queue: consumer for consumer in self.consumers}
        for span in broker.spans(queues):
            consumers = [by_queue[queue] for queue in span]
            self.sweepers.append(Sweeper(self, consumers))
            self.listeners.append(Listener(self, consumers, self.sweepers[-1]))
        self._tasks_of: defaultdict[str, list[Task[..., Any]]] = defaultdict(list)
        self._grouped = 0
        self.stop_when_empty: StopWhenEmpty | None = StopWhenEmpty(self) if stop_when_queue_empty else None
        self.skipped_ticks: SkippedTicks = SkippedTicks()
        self.known_errors: KnownErrors = KnownErrors()
        self.unknown_tasks: UnknownTasks = UnknownTasks(self)
        self.announcements: set[asyncio.Task[None]] = set()
        """Signals under way that belong to no run."""
        self.supervisor: Supervisor = Supervisor(self, shutdown_timeout)

    @property
    def is_ending_now(self) -> bool:
        """Bodies are being cancelled, by the pool or by the end of the event loop."""
        return self.is_interrupted or self.supervisor.task.cancelling() > 0

    # What the engine asks for.

    def health(self) -> Health:
        """How the workers are."""
        if self.supervisor.task.done() or self.loop.is_closed():
            return STOPPED
        now = time.monotonic()
        sweeps = [sweeper.answered_at for sweeper in self.sweepers]
        return Health(
            is_running=True,
            is_connected=None not in sweeps and not self._is_failing(),
            exchange_age=max((now - at for at in self._answers()), default=None),
            renewal_age=None if self.heartbeat.answered_at is None else now - self.heartbeat.answered_at,
            loop_lag=max(sweeper.loop_lag for sweeper in self.sweepers),
            unknown_tasks=self.unknown_tasks.names,
            skipped_ticks=self.skipped_ticks.counts.total(),
        )

    def tasks_of(self, queue: str) -> Sequence[Task[..., Any]]:
        """The tasks of a queue that are attached by now."""
        for task in list(self.tasks.values())[self._grouped :]:
            self._tasks_of[task.queue].append(task)
            self._grouped += 1
        return self._tasks_of[queue]

    def register_again(self) -> None:
        """Tell the broker of tasks that were attached meanwhile, and ask for jobs that wait for them."""
        for consumer in self.consumers:
            consumer.maintenance.register_again()
        self.look_again()

    def look_again(self) -> None:
        """Look at the queues now, and not with the next period."""
        for sweeper in self.sweepers:
            sweeper.ring()

    async def join(self, *, until_started: bool = False) -> None:
        """Wait until the pool has stopped, or begun to fetch; raises what went wrong.

        Being cancelled interrupts the pool, and waits for its end.
        """
        supervisor = self.supervisor
        awaited: asyncio.Future[None] = supervisor.started if until_started else supervisor.task
        cancellation = None
        while not awaited.done():
            try:
                with shielded_if(cancellation is not None):
                    await asyncio.wait([awaited])
            except asyncio.CancelledError as error:
                cancellation, awaited = error, supervisor.task
                self.interrupt()
        if cancellation is not None:
            raise cancellation
        if until_started:
            supervisor.started.result()
        elif self.error is not None:
            raise self.error

    async def wait_closed(self) -> None:
        """Wait until the pool has stopped; raises what crashed it."""
        await asyncio.wait([self.supervisor.task])
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Fetch no more, and end when the running jobs have, or the time for that is over."""
        if not self.is_stopping:
            self.is_stopping = True
            self.supervisor.look()
            for listener in self.listeners:
                listener.ring()
            for sweeper in self.sweepers:
                sweeper.ring()
            for consumer in self.consumers:
                consumer.maintenance.ring()
                if not consumer.is_empty:
                    consumer.pass_on()

    def interrupt(self) -> None:
        """Stop, and cancel the running bodies now."""
        self.stop()
        if not self.is_interrupted:
            self.is_interrupted = True
            self.supervisor.look()
        for run in list(self.runs):
            if run.task.done() and not run.is_settled:
                # The end of the event loop cancelled it before its first step.
                run.release()
                self.ended(run)
            else:
                run.interrupt()

    def cancel(self, queue: str, job_id: str) -> None:
        """Cancel the body of a job if it runs here, without waiting for the next renewal; if it waits
        for another try, that is not waited for any longer. May be called in any event loop."""
        if self.loop is asyncio.get_running_loop():
            self._cancel(queue, job_id)
        else:
            with contextlib.suppress(RuntimeError):  # the pool's loop has ended
                self.loop.call_soon_threadsafe(self._cancel, queue, job_id)

    def _cancel(self, queue: str, job_id: str) -> None:
        if self.stop_when_empty is not None:
            self.stop_when_empty.forget_retry(queue, job_id)
        for run in self.runs:
            if run.lease.job.id == job_id and run.consumer.queue == queue:
                run.cancel(JobCancelled("the job was cancelled"))

    def run_of(self, job: Job) -> Run | None:
        """The run of a job whose body has not ended."""
        for run in self.runs:
            if run.lease.job.id == job.id and run.consumer.queue == job.queue and run.holds_slot:
                return run
        return None

    # What the services and the runs tell it.

    def claim(self, consumer: Consumer, given_back: int) -> int:
        """How many jobs this consumer may ask for now, if no earlier queue may have jobs: all free slots; or, if
        its queue is empty as far as is known, as many as it gives back."""
        first = self.turns.first
        if self.is_stopping or (first is not None and first < consumer.place):
            return 0
        return self.slots.claim(given_back) if consumer.is_empty else self.slots.claim()

    def start(self, run: Run) -> None:
        """A run begins."""
        if self.stop_when_empty is not None:
            self.stop_when_empty.forget_retry(run.consumer.queue, run.lease.job.id)
        self.runs[run] = None
        if run.holds_slot:
            self.slots.start()
        until = run.lease.trusted_until
        if until < self.watchdog.alarm or until < self.heartbeat.next_answer:  # guard: early end of a lease
            self.watchdog.note_early_end(run)

    def body_ended(self, run: Run) -> None:
        """The run needs its slot no longer, and its outcome is on its way to the broker."""
        if run.holds_slot:
            run.holds_slot = False
            self.slots.end_body()
            self.use_free_slots()

    def ended(self, run: Run) -> None:
        """The run has sent its last signal."""
        if run not in self.runs:
            return
        self.body_ended(run)
        del self.runs[run]
        if not run.is_recovery and self.slots.finish():
            self.use_free_slots()
        if not self.runs:
            if self.stop_when_empty is not None:
                self.stop_when_empty.ring()
            self.supervisor.look()

    def note_empty(self) -> None:
        """A queue has nothing to run: later ones may ask for the free slots, and somebody listens."""
        self.use_free_slots()
        self.note_turns()
        if self.stop_when_empty is not None:
            self.stop_when_empty.ring()

    def use_free_slots(self) -> None:
        """Have the first queue that may have jobs ask for some, or else have the listeners wait for some."""
        if (first := self.turns.first) is not None:
            self.consumers[first].ring()
        else:
            self.note_turns()

    def note_turns(self) -> None:
        """Another queue may have the next turn, so that others may be worth waiting for."""
        for listener in list(self.attentive):
            listener.ring()

    def note_retry(self, run: Run, delay: float) -> None:
        """The job of a run was put back, to be tried again in ``delay`` seconds."""
        if self.stop_when_empty is not None:
            self.stop_when_empty.note_retry(run, delay)
        run.consumer.maintenance.note_due(delay)

    def note_change(self) -> None:
        """Something happened that the end of the pool may wait for."""
        self.supervisor.look()

    def notice_cancellation(self) -> None:
        """Somebody cancelled a task of the pool: a stray one is ignored, the end of the loop is not."""
        if self.is_ending_now:
            self.interrupt()

    def crash(self, error: BaseException) -> None:
        """A defect of ours: the pool ends, and says so."""
        logger.critical("worker %s crashed and stops", self.name, exc_info=error)
        if self.error is None:
            self.error = error
        self.interrupt()

    def announce(self, signal: SafeNamedSignal, kwargs: dict[str, Any]) -> None:
        """Send a signal that belongs to no run, without waiting for its receivers."""
        if signal.receivers:
            task = self.loop.create_task(self.tell(signal, kwargs))
            self.announcements.add(task)
            task.add_done_callback(self._announced)

    async def tell(
        self, signal: SafeNamedSignal, kwargs: dict[str, Any], context: Context | None = None
    ) -> None:
        """Send a signal of the pool, and wait for its receivers."""
        if not signal.receivers or signal.is_muted:
            return
        try:
            await signal.dispatch(self.namespace, kwargs, timeout=self.signal_timeout, context=context)
        except asyncio.CancelledError:
            self.notice_cancellation()

    # Within.

    def _is_failing(self) -> bool:
        return (
            self.heartbeat.is_failing
            or any(sweeper.is_failing for sweeper in self.sweepers)
            or any(consumer.is_failing or consumer.maintenance.is_failing for consumer in self.consumers)
        )

    def _answers(self) -> Iterator[float]:
        """When the broker last answered for each queue: gave or took jobs, or said what there is."""
        for sweeper in self.sweepers:
            for consumer in sweeper.consumers:
                answers = [at for at in (sweeper.answered_at, consumer.answered_at) if at is not None]
                if answers:
                    yield max(answers)

    def _announced(self, task: asyncio.Task[None]) -> None:
        self.announcements.discard(task)
        self.supervisor.look()
