"""A pool of workers: slots for jobs, and the services around them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context, ContextVar
from typing import Any

import anyio
from anyio.abc import TaskGroup

from .. import signals
from ..brokers.base import Broker
from ..exceptions import BrokerUnavailable, JobCancelled
from ..signals import SafeNamedSignal
from ..task import Task
from .feed import Feed
from .health import STOPPED, Health
from .keeper import Keeper
from .listener import EmptyWatch, Listener
from .run import Run
from .slots import Slots
from .threads import Threads

logger: logging.Logger = logging.getLogger("aiospinach")

INTERRUPT_GRACE = 2.0
"""Seconds that cancelled bodies have to end when the pool stops, before they are left behind."""

_pool_around: ContextVar[Pool | None] = ContextVar("aiospinach_pool", default=None)


def pool_around() -> Pool | None:
    """The pool that this code runs in: in a job, or in a receiver of one of the pool's signals."""
    return _pool_around.get()


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
        self._listener = Listener(self)
        self._empty_watch = EmptyWatch(self)
        self._stop_when_queue_empty = stop_when_queue_empty
        self._shutdown_timeout = shutdown_timeout
        self._changed = asyncio.Event()
        self._announcements: set[asyncio.Task[None]] = set()
        self.started: asyncio.Future[None] = self.loop.create_future()
        """Done when the pool has begun to fetch, or failed to."""
        self.supervisor: asyncio.Task[None] = asyncio.Task(
            self._supervise(), loop=self.loop, context=context, name=f"aiospinach {self.name}"
        )

    @property
    def is_ending_now(self) -> bool:
        """Bodies are being cancelled, by the pool or by the end of the event loop."""
        return self.is_interrupted or self.supervisor.cancelling() > 0

    # What the engine asks for.

    def health(self) -> Health:
        """How the workers are."""
        if self.supervisor.done() or self.loop.is_closed():
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
        awaited: asyncio.Future[None] = self.started if until_started else self.supervisor
        cancellation = None
        while not awaited.done():
            try:
                await asyncio.wait([awaited])
            except asyncio.CancelledError as error:
                cancellation = error
                awaited = self.supervisor
                self.interrupt()
        if cancellation is not None:
            raise cancellation
        if until_started:
            self.started.result()
        elif self.error is not None:
            raise self.error

    async def wait_closed(self) -> None:
        """Wait until the pool has stopped; raises what crashed it."""
        await asyncio.wait([self.supervisor])
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Fetch no more, and end when the running jobs have, or the time for that is over."""
        if not self.is_stopping:
            self.is_stopping = True
            self._changed.set()
            self._listener.ring()
            for feed in self.feeds:
                feed.pass_on()

    def interrupt(self) -> None:
        """Stop, and cancel the running bodies now."""
        self.stop()
        if not self.is_interrupted:
            self.is_interrupted = True
            self._changed.set()
        for run in list(self.runs):
            if (
                run.task.done() and not run.is_settled
            ):  # the end of the event loop cancelled it before its first step
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
        self._empty_watch.forget_retry(queue, job_id)
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
        self._empty_watch.forget_retry(run.feed.queue, run.lease.job.id)
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
        if not run.is_recovery:
            self.slots.finish()
        self._use_free_slots()
        if not self.runs:
            self._empty_watch.ring()
            self._changed.set()

    def note_dry(self) -> None:
        """A queue has nothing to run: later ones may ask for the free slots, and somebody listens."""
        self._use_free_slots()
        self._listener.ring()
        self._empty_watch.ring()

    def note_retry(self, run: Run, delay: float) -> None:
        """The job of a run was put back, to be tried again in ``delay`` seconds."""
        if self._stop_when_queue_empty:
            self._empty_watch.note_retry(run, delay)
        self.keeper.ring()

    def note_change(self) -> None:
        """Something happened that the end of the pool may wait for."""
        self._changed.set()

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
            task = self.loop.create_task(self._tell(signal, kwargs))
            self._announcements.add(task)
            task.add_done_callback(self._announced)

    # Within.

    async def _supervise(self) -> None:
        """From start to stop. What goes wrong before the start is raised through ``started``; a defect
        after it is logged at once, and kept in ``error``."""
        _pool_around.set(self)
        try:
            await self._prepare()
        except BaseException as error:
            self.started.set_exception(error)
            return
        await self._tell(signals.worker_started, {"worker_name": self.name}, self.context)
        try:
            async with anyio.create_task_group() as services:
                self._start_services(services)
                self.started.set_result(None)
                await self._until(lambda: self.is_stopping)
                await self._drain()
                self.is_closing = True
                services.cancel_scope.cancel()
        except asyncio.CancelledError:
            pass  # the supervisor was cancelled, and has drained all the same
        except Exception as error:
            self.crash(error)
        await self._tell(signals.worker_terminated, {"worker_name": self.name}, self.context)
        if self.supervisor.cancelling():  # the loop ends, and nobody will close what belongs to it
            await self.broker.aclose()

    async def _prepare(self) -> None:
        """Open the broker and register; once more if a connection that was left idle turns out dead."""
        try:
            await self.broker.open(self.namespace)
            await self.keeper.register()
        except BrokerUnavailable:
            await self.broker.open(self.namespace)
            await self.keeper.register()

    def _start_services(self, services: TaskGroup) -> None:
        works = [self.keeper.work, self.keeper.watch, self._listener.work]
        if self._stop_when_queue_empty:
            works.append(self._empty_watch.work)
        for work in (*works, *(feed.work for feed in self.feeds)):
            services.start_soon(self._serve, work)
        for feed in self.feeds:
            feed.ring()

    async def _serve(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have a service work until the pool closes. Ending earlier with a cancellation, it would have
        anyio cancel all the others, again and again."""
        while not self.is_closing:
            try:
                await work()
                return
            except asyncio.CancelledError:
                if self.is_closing:
                    raise
                self.notice_cancellation()
            except Exception as error:
                self.crash(error)
                return

    async def _drain(self) -> None:
        await self._until(lambda: self._listener.has_ended, timeout=INTERRUPT_GRACE)
        await self._until(lambda: self._is_silent() or self.is_interrupted, timeout=self._shutdown_timeout)
        if not self._is_silent():
            self.interrupt()
            await self._until(self._is_silent, timeout=INTERRUPT_GRACE)
        while not self._is_drained():
            self.interrupt()
            for feed in self.feeds:
                feed.give_up_if_failing()
            stubborn = [run for run in self.runs if run.body.is_stubborn]
            for run in stubborn:  # all at once: others may end while one of them is told of
                run.abandoned = True
                self.ended(run)
            for run in stubborn:
                await run.abandon()
            await self._until(self._is_drained, timeout=INTERRUPT_GRACE)

    def _is_drained(self) -> bool:
        return not self.runs and not self._announcements and not any(feed.is_busy for feed in self.feeds)

    def _is_silent(self) -> bool:
        return self._is_drained() and not self.keeper.is_busy

    async def _until(self, condition: Callable[[], bool], *, timeout: float | None = None) -> None:
        """Wait for a condition that ``_changed`` is set for; being cancelled interrupts the pool."""
        deadline = None if timeout is None else self.loop.time() + timeout
        while not condition():
            left = None if deadline is None else deadline - self.loop.time()
            if left is not None and left <= 0:
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                pass
            except asyncio.CancelledError:
                self.interrupt()

    def _use_free_slots(self) -> None:
        """Have the queues that may have jobs ask for some, or else have the listener wait for some."""
        for feed in self.feeds:
            if feed.dry:
                self._listener.ring()
            else:
                feed.ring()

    def _announced(self, task: asyncio.Task[None]) -> None:
        self._announcements.discard(task)
        self._changed.set()

    async def _tell(
        self, signal: SafeNamedSignal, kwargs: dict[str, Any], context: Context | None = None
    ) -> None:
        if not signal.receivers or signal.is_muted:
            return
        try:
            await signal.dispatch(self.namespace, kwargs, timeout=self.signal_timeout, context=context)
        except asyncio.CancelledError:
            self.interrupt()
