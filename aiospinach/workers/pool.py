"""A pool of workers: slots for jobs, and the services around them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import Any

from ..brokers.base import Broker
from ..exceptions import JobCancelled
from ..signals import SafeNamedSignal
from ..task import Task
from .feed import Feed
from .health import STOPPED, Health
from .keeper import Keeper
from .listener import EmptyWatch, Listener
from .run import Run
from .slots import Slots
from .supervisor import Supervisor
from .threads import Threads

logger: logging.Logger = logging.getLogger("aiospinach")


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
        context: Context,
    ) -> None:
        self.name: str = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.broker = broker
        self.namespace = namespace
        self.tasks = tasks
        self.signal_timeout = signal_timeout
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.context: Context = context
        """The context of the supervisor, which jobs get copies of."""
        self.slots: Slots = Slots(number)
        self.threads: Threads = Threads(number)
        self.feeds: list[Feed] = [Feed(self, queue) for queue in queues]
        self.keeper: Keeper = Keeper(self)
        self.runs: dict[Run, None] = {}  # a set that keeps its order
        self.error: BaseException | None = None
        """The defect that ended the pool, if one did."""
        self.is_stopping: bool = False
        self.is_interrupted: bool = False
        self.is_closing: bool = False
        self.listener: Listener = Listener(self)
        self.empty_watch: EmptyWatch | None = EmptyWatch(self) if stop_when_queue_empty else None
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
        services: list[Feed | Keeper] = [*self.feeds, self.keeper]
        now = time.monotonic()
        exchanges = [feed.answered_at for feed in self.feeds]
        renewal = self.keeper.answered_at
        return Health(
            is_running=True,
            is_connected=all(s.answered_at is not None and not s.is_failing for s in services),
            exchange_age=max((now - at for at in exchanges if at is not None), default=None),
            renewal_age=None if renewal is None else now - renewal,
            loop_lag=self.keeper.loop_lag,
        )

    async def join(self, *, until_started: bool = False) -> None:
        """Wait until the pool has stopped, or begun to fetch; raises what went wrong.

        Being cancelled interrupts the pool, and waits for its end.
        """
        supervisor = self.supervisor
        awaited: asyncio.Future[None] = supervisor.started if until_started else supervisor.task
        cancellation = None
        while not awaited.done():
            try:
                await asyncio.wait([awaited])
            except asyncio.CancelledError as error:
                cancellation = error
                awaited = supervisor.task
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
            self.listener.ring()
            for feed in self.feeds:
                feed.pass_on()

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
        if self.empty_watch is not None:
            self.empty_watch.forget_retry(queue, job_id)
        for run in self.runs:
            if run.lease.job.id == job_id and run.feed.queue == queue:
                run.cancel(JobCancelled("the job was cancelled"))

    # What the services and the runs tell it.

    def claim(self, feed: Feed) -> int:
        """How many jobs this feed may ask for now: the free slots, if no earlier queue may have jobs."""
        if self.is_stopping:
            return 0
        for other in self.feeds:
            if other is feed:
                break
            if not other.dry:
                return 0
        return self.slots.claim()

    def start(self, run: Run) -> None:
        """A run begins."""
        if self.empty_watch is not None:
            self.empty_watch.forget_retry(run.feed.queue, run.lease.job.id)
        self.runs[run] = None
        if run.holds_slot:
            self.slots.start()

    def body_ended(self, run: Run) -> None:
        """The run needs its slot no longer, and its outcome is on its way to the broker."""
        if run.holds_slot:
            run.holds_slot = False
            self.slots.end_body()
            self._use_free_slots()

    def ended(self, run: Run) -> None:
        """The run has sent its last signal."""
        if run not in self.runs:
            return
        self.body_ended(run)
        del self.runs[run]
        if not run.is_recovery and self.slots.finish():
            self._use_free_slots()
        if not self.runs:
            if self.empty_watch is not None:
                self.empty_watch.ring()
            self.supervisor.look()

    def note_dry(self) -> None:
        """A queue has nothing to run: later ones may ask for the free slots, and somebody listens."""
        self._use_free_slots()
        self.listener.ring()
        if self.empty_watch is not None:
            self.empty_watch.ring()

    def note_retry(self, run: Run, delay: float) -> None:
        """The job of a run was put back, to be tried again in ``delay`` seconds."""
        if self.empty_watch is not None:
            self.empty_watch.note_retry(run, delay)
        self.keeper.ring()

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
        for feed in self.feeds:
            feed.give_up()
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
            self.interrupt()

    # Within.

    def _use_free_slots(self) -> None:
        """Have the queues that may have jobs ask for some, or else have the listener wait for some."""
        for feed in self.feeds:
            if feed.dry:
                self.listener.ring()
            else:
                feed.ring()

    def _announced(self, task: asyncio.Task[None]) -> None:
        self.announcements.discard(task)
        self.supervisor.look()
