"""The pool: makes the parts that run jobs, connects them, and passes calls between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import Context, ContextVar
from typing import Any

from ..brokers.base import Broker
from ..cancellation import shielded_if
from ..dependencies import Lifespan
from ..signals.sender import Sender
from ..surroundings import Surroundings
from ..task import Task
from .consumer import Consumer
from .draining import Draining
from .execution import Execution
from .health import STOPPED, Health
from .health_check import check_health
from .heartbeat import Heartbeat
from .lease_watchdog import LeaseWatchdog
from .listener import Listener
from .maintenance import Maintenance
from .orders import Orders
from .outbox import Outbox
from .progress_reports import ProgressReports
from .reporter import Reporter
from .runs import Runs
from .shares import Shares
from .skipped_ticks import SkippedTicks
from .slots import Slots
from .span import Span
from .state import Phase, PoolState
from .stop_when_empty import StopWhenEmpty
from .supervisor import Service, Supervisor
from .sweeper import Sweeper
from .tally import Tally
from .turns import Turns
from .unknown_tasks import UnknownTasks

_current_pool: ContextVar[Pool | None] = ContextVar("aiospinach_pool", default=None)


def current_pool() -> Pool | None:
    """The pool that this code runs in: in a job, or in a receiver of one of the pool's signals."""
    return _current_pool.get()


class Pool:
    """Runs up to ``number`` jobs of some queues in one event loop, from one start to one stop."""

    def __init__(
        self,
        *,
        broker: Broker,
        sender: Sender,
        tasks: Mapping[str, Task[..., Any]],
        queues: Sequence[str],
        weights: Sequence[int] | None,
        number: int,
        stop_when_queue_empty: bool,
        shutdown_timeout: float,
        surroundings: Surroundings,
        lifespan: Lifespan | None,
        context: Context,
    ) -> None:
        context.run(_current_pool.set, self)
        self.state: PoolState = PoolState(
            name=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
            broker=broker,
            sender=sender,
            tasks=tasks,
            surroundings=surroundings,
            context=context,
            number=number,
        )
        self.slots: Slots = Slots(number, Turns() if weights is None else Shares(weights))
        self.runs: Runs = Runs(self.state, self.slots)
        self.skipped_ticks: SkippedTicks = SkippedTicks()
        self.unknown_tasks: UnknownTasks = UnknownTasks(self.state)
        outboxes = [Outbox(queue, self.state.fields, Tally(broker.now)) for queue in queues]
        self.reporter: Reporter = Reporter(self.state, self.slots, outboxes)
        self.heartbeat: Heartbeat = Heartbeat(self.state, self.runs, outboxes)
        self.watchdog: LeaseWatchdog = LeaseWatchdog(self.state, self.runs, self.heartbeat)
        self.progress_reports: ProgressReports = ProgressReports(self.state, outboxes)
        self.orders: Orders = Orders(self.state, self.runs, self.heartbeat, outboxes)
        self.consumers: list[Consumer] = []
        self.maintenances: list[Maintenance] = []
        self.listeners: list[Listener] = []
        self.sweepers: list[Sweeper] = []
        self._partial_listeners: set[Listener] = set()
        self._place_of = {queue: place for place, queue in enumerate(queues)}
        spans = [Span(span, self.state.fields) for span in broker.spans(queues)]
        span_of = {queue: span for span in spans for queue in span.queues}
        for place, outbox in enumerate(outboxes):
            self._add_queue(outbox, span_of[outbox.queue], place)
        for span in spans:
            self._add_span(span)
        self.stop_when_empty: StopWhenEmpty | None = None
        if stop_when_queue_empty:
            self.stop_when_empty = StopWhenEmpty(self.state, self.runs, self.sweepers, self.stop)
        self._connect()
        services = list(self._services())
        parts = (self.state, self.runs, self.consumers, self.maintenances)
        draining = Draining(*parts, self.listeners, shutdown_timeout)
        parting = [sweeper.leave for sweeper in self.sweepers]
        self.supervisor: Supervisor = Supervisor(*parts, services, draining, parting, lifespan, number=number)

    # Putting it together.

    def _add_queue(self, outbox: Outbox, span: Span, place: int) -> None:
        consumer = Consumer(self.state, self.runs, self.slots, outbox, span, self.unknown_tasks, place)
        maintenance = Maintenance(self.state, self.runs, outbox, self.heartbeat, self.skipped_ticks)
        consumer.on_earlier_due = maintenance.ring
        consumer.on_empty = self._on_queue_empty
        self.consumers.append(consumer)
        self.maintenances.append(maintenance)

    def _add_span(self, span: Span) -> None:
        consumers = [self.consumers[self._place_of[queue]] for queue in span.queues]
        maintenances = [self.maintenances[self._place_of[queue]] for queue in span.queues]
        sweeper = Sweeper(self.state, span, consumers, maintenances, self.reporter)
        listener = Listener(self.state, self.slots, span, consumers, self._partial_listeners)
        sweeper.on_swept = self._on_swept
        listener.on_return = sweeper.ring
        self.sweepers.append(sweeper)
        self.listeners.append(listener)

    def _connect(self) -> None:
        """Set the callbacks of the parts."""
        self.state.on_interrupt = self.interrupt
        self.slots.on_free = self._use_free_slots
        self.slots.on_turn = self._on_turn
        self.runs.on_early_end = self.watchdog.on_early_end
        self.runs.on_retry = self._on_retry
        self.runs.on_parked = self.look_again
        if self.stop_when_empty is not None:
            self.runs.on_start = self.stop_when_empty.on_start
            self.runs.on_last_end = self.stop_when_empty.ring

    def _services(self) -> Iterator[Service]:
        yield self.heartbeat.work
        yield self.watchdog.work
        if self.stop_when_empty is not None:
            yield self.stop_when_empty.work
        yield from (listener.work for listener in self.listeners)
        yield from (sweeper.work for sweeper in self.sweepers)
        yield from (consumer.work for consumer in self.consumers)
        yield from (maintenance.work for maintenance in self.maintenances)
        yield from self.orders.services()
        yield from self.progress_reports.services()

    # What the engine asks for.

    @property
    def name(self) -> str:
        """The name of the worker."""
        return self.state.name

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the pool runs in."""
        return self.state.loop

    @property
    def has_ended(self) -> bool:
        """It has stopped, or its event loop is closed."""
        return self.supervisor.task.done() or self.loop.is_closed()

    def health(self) -> Health:
        """The health of the workers."""
        if self.has_ended:
            return STOPPED
        return check_health(
            self.heartbeat,
            self.sweepers,
            self.consumers,
            self.maintenances,
            unknown_tasks=self.unknown_tasks.names,
            skipped_ticks=self.skipped_ticks.counts.total(),
        )

    def register_again(self) -> None:
        """Register tasks that were attached meanwhile, and ask for jobs that wait for them."""
        for maintenance in self.maintenances:
            maintenance.register_again()
        self.look_again()

    def look_again(self) -> None:
        """Sweep all queues now, and not only at the next period."""
        for sweeper in self.sweepers:
            sweeper.ring()

    async def join(self, *, until_started: bool = False) -> None:
        """Wait until the pool has stopped, or begun to fetch. Raises the error of the start, or of a crash.

        If the wait is cancelled, the pool is interrupted, and CancelledError is raised when it has stopped.
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
        elif self.state.error is not None:
            raise self.state.error

    async def wait_closed(self) -> None:
        """Wait until the pool has stopped. Raises the error that crashed it, if there was one."""
        await asyncio.wait([self.supervisor.task])
        if self.state.error is not None:
            raise self.state.error

    def stop(self) -> None:
        """Fetch no more jobs, and stop when the running ones have ended or their time is over."""
        if not self.state.advance(Phase.DRAINING):
            return
        rings = [listener.ring for listener in self.listeners]
        rings += [sweeper.ring for sweeper in self.sweepers]
        rings += [maintenance.ring for maintenance in self.maintenances]
        rings += [consumer.wake_another for consumer in self.consumers if not consumer.is_empty]
        for ring in rings:
            ring()

    def interrupt(self) -> None:
        """Stop, and cancel the running bodies now."""
        self.stop()
        self.state.advance(Phase.INTERRUPTED)
        for run in list(self.runs):
            if run.task.done() and not run.is_settled:
                # The end of the event loop cancelled it before its first step.
                run.release()
                self.runs.ended(run)
            else:
                run.interrupt()

    def cancel(self, queue: str, job_id: str) -> None:
        """Cancel the body of a job if it runs here, without waiting for the next renewal. The call may come
        from any event loop."""
        self._call_in_loop(self.orders.cancel, queue, job_id)

    def forget_retry(self, queue: str, job_id: str) -> None:
        """Have ``stop_when_queue_empty`` wait no longer for the retry of a job. The call may come from any
        event loop."""
        if self.stop_when_empty is not None:
            self._call_in_loop(self.stop_when_empty.forget_retry, queue, job_id)

    def _call_in_loop(self, function: Callable[[str, str], object], queue: str, job_id: str) -> None:
        if self.loop is asyncio.get_running_loop():
            function(queue, job_id)
        else:
            with contextlib.suppress(RuntimeError):  # the pool's loop has ended
                self.loop.call_soon_threadsafe(function, queue, job_id)

    # What the parts report.

    def _use_free_slots(self) -> None:
        """Have the first queue that may have jobs ask for some. If there is none, have the listeners wait."""
        if (first := self.slots.turns.first) is not None:
            self.consumers[first].bell.ring()
        else:
            self._on_turn()

    def _on_turn(self) -> None:
        """Have listeners decide again which queues to wait for: another queue may have the next turn."""
        for listener in list(self._partial_listeners):
            listener.ring()

    def _on_queue_empty(self) -> None:
        """Offer the free slots to other queues: a queue has nothing to run."""
        if (first := self.slots.turns.first) is not None:
            self.consumers[first].bell.ring()
        self._on_turn()
        if self.stop_when_empty is not None:
            self.stop_when_empty.ring()

    def _on_swept(self) -> None:
        """Offer the free slots after a sweep of a span."""
        self._use_free_slots()
        if self.stop_when_empty is not None:
            self.stop_when_empty.ring()

    def _on_retry(self, run: Execution, delay: float) -> None:
        """Have maintenance queue a job that was put back, in ``delay`` seconds."""
        if self.stop_when_empty is not None:
            self.stop_when_empty.on_retry(run, delay)
        self.maintenances[self._place_of[run.outbox.queue]].tick_within(delay)
