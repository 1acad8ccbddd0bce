"""The life of a pool: it starts, works until it is told to stop, drains, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from .. import signals
from ..exceptions import BrokerUnavailable
from ..logs import Log
from .block_watch import BlockWatch

if TYPE_CHECKING:
    from .pool import Pool

TELL_EVERY = 5.0
"""Seconds between two lines of the log about jobs that a stop waits for."""
NAMED_AT_MOST = 5
INTERRUPT_GRACE = 2.0
"""Seconds that cancelled bodies have to end when the pool stops, before they are left behind."""

logger: Log = Log("aiospinach")

_current_pool: ContextVar[Pool | None] = ContextVar("aiospinach_pool", default=None)


def current_pool() -> Pool | None:
    """The pool that this code runs in: in a job, or in a receiver of one of the pool's signals."""
    return _current_pool.get()


class Supervisor:
    """One named task, in the context that jobs get copies of. Its services outlive the jobs."""

    def __init__(self, pool: Pool, shutdown_timeout: float) -> None:
        self._pool = pool
        self._shutdown_timeout = shutdown_timeout
        self._changed = asyncio.Event()
        self.started: asyncio.Future[None] = pool.loop.create_future()
        """Done when the pool has begun to fetch, or failed to."""
        self.task: asyncio.Task[None] = asyncio.Task(
            self._live(), loop=pool.loop, context=pool.context, name=f"aiospinach {pool.name}"
        )

    def look(self) -> None:
        """Something happened that the end of the pool may wait for."""
        self._changed.set()

    async def _live(self) -> None:
        """Work, and leave no thread behind, however that ends."""
        watch = BlockWatch(self._pool)
        try:
            await self._work()
        finally:
            watch.end()
            self._pool.threads.end()
        self._pool.threads.join()

    async def _work(self) -> None:
        """From start to stop. What goes wrong before the start is raised through ``started``; a defect
        after it is logged at once, and kept in ``error``."""
        pool = self._pool
        _current_pool.set(pool)
        try:
            may_work = await self._before_stop(self._prepare()) and await self._tell_of_start()
        except BaseException as error:
            self.started.set_exception(error)
            return
        if not may_work:
            self.started.set_result(None)
            return
        logger.info(
            "worker %s runs jobs of the %s %s, %d at a time",
            pool.name,
            "queue" if len(pool.consumers) == 1 else "queues",
            ", ".join(consumer.queue for consumer in pool.consumers),
            pool.slots.number,
        )
        try:
            async with anyio.create_task_group() as services:
                self._start_services(services)
                self.started.set_result(None)
                try:
                    await self._until(lambda: pool.is_stopping)
                    await self._drain()
                except Exception as error:
                    pool.crash(error)
                    for consumer in pool.consumers:
                        consumer.give_up()  # nobody drains what they owe
                pool.is_closing = True
                services.cancel_scope.cancel()
        except asyncio.CancelledError:
            pass  # the supervisor was cancelled, and has drained all the same
        except Exception as error:
            pool.crash(error)
        await pool.tell(signals.worker_terminated, {"worker_name": pool.name}, pool.context)
        logger.info("worker %s has stopped", pool.name)
        if self.task.cancelling():  # the loop ends, and nobody will close what belongs to it
            await pool.broker.aclose()

    async def _before_stop(self, starting: Coroutine[Any, Any, None]) -> bool:
        """Do a part of the start. If the pool is told to stop meanwhile, leave it and return False: a store
        that takes connections and never answers must not hold up a stop."""
        part = asyncio.Task(starting, loop=self._pool.loop, context=self._pool.context)
        part.add_done_callback(lambda _: self.look())
        await self._until(lambda: part.done() or self._pool.is_stopping)
        if not part.done():
            part.cancel()
        while not part.done():
            with contextlib.suppress(asyncio.CancelledError):  # of the supervisor, which ends anyway
                await asyncio.wait([part])
        if part.cancelled():
            return False
        part.result()
        return True

    async def _tell_of_start(self) -> bool:
        """Call the receivers of worker_started, and wait for them: they open what jobs need. The first that
        raises ends the start. Returns whether the pool may work."""
        pool, signal = self._pool, signals.worker_started
        if not signal.receivers or signal.is_muted:
            return True
        is_over = False
        try:
            told = {"worker_name": pool.name}
            is_over = await self._before_stop(
                signal.require(pool.namespace, told, timeout=pool.signal_timeout, context=pool.context)
            )
        finally:
            if not is_over:
                await pool.tell(signals.worker_terminated, {"worker_name": pool.name}, pool.context)
        return is_over

    async def _prepare(self) -> None:
        """Open the broker and register; once more if a connection that was left idle turns out dead."""
        try:
            await self._register()
        except BrokerUnavailable:
            await self._register()

    async def _register(self) -> None:
        await self._pool.broker.open(self._pool.namespace)
        for consumer in self._pool.consumers:
            await consumer.maintenance.register()

    def _start_services(self, services: TaskGroup) -> None:
        pool = self._pool
        works = [pool.heartbeat.work, pool.watchdog.work]
        if pool.stop_when_empty is not None:
            works.append(pool.stop_when_empty.work)
        works += [listener.work for listener in pool.listeners]
        works += [sweeper.work for sweeper in pool.sweepers]
        for consumer in pool.consumers:
            works += [consumer.work, consumer.maintenance.work]
        for work in works:
            services.start_soon(self._serve, work)

    async def _serve(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have a service work until the pool closes. Ending earlier with a cancellation, it would have
        anyio cancel all the others, again and again."""
        while not self._pool.is_closing:
            try:
                await work()
                return
            except asyncio.CancelledError:
                if self._pool.is_closing:
                    raise
                self._pool.notice_cancellation()
            except Exception as error:
                self._pool.crash(error)
                return

    async def _drain(self) -> None:
        """Wait for what runs, and for the settlements, as long as ``shutdown_timeout`` allows; and for a
        broker that does not answer and is owed none, or still is after that, ``INTERRUPT_GRACE``."""
        pool = self._pool
        telling = pool.loop.create_task(self._tell_what_runs())
        try:
            await self._until(lambda: self._is_idle() or pool.is_interrupted, timeout=self._shutdown_timeout)
        finally:
            telling.cancel()
            await asyncio.wait([telling])
        if not self._is_idle():
            pool.interrupt()
        since = time.monotonic()
        await self._until(self._is_silent, timeout=INTERRUPT_GRACE)
        while not self._is_drained():
            pool.interrupt()
            await self._leave_stubborn_bodies()
            self._give_up_what_is_away(since)
            since = time.monotonic()
            await self._until(self._is_drained, timeout=INTERRUPT_GRACE)

    async def _tell_what_runs(self) -> None:
        """Say every few seconds which jobs the stop waits for."""
        until = self._pool.loop.time() + self._shutdown_timeout
        while True:
            await asyncio.sleep(TELL_EVERY)
            running = [run for run in self._pool.runs if run.holds_slot]
            if not running:
                continue  # outcomes are still to be stored
            named = ", ".join(run.told for run in running[:NAMED_AT_MOST])
            others = len(running) - NAMED_AT_MOST
            logger.warning(
                "worker %s stops when %d running jobs have ended: %s%s; in %.0f s they are cancelled",
                self._pool.name,
                len(running),
                named,
                f" and {others} more" if others > 0 else "",
                until - self._pool.loop.time(),
            )

    async def _leave_stubborn_bodies(self) -> None:
        pool = self._pool
        stubborn = [run for run in pool.runs if run.body.is_stubborn]
        for run in stubborn:  # all at once: others may end while one of them is told of
            run.abandoned = True
            pool.ended(run)
        for run in stubborn:
            await run.abandon()

    def _give_up_what_is_away(self, since: float) -> None:
        if any(run.holds_slot for run in self._pool.runs):  # guard: bodies that still settle
            return
        for consumer in self._pool.consumers:
            consumer.give_up_if_away(since)

    def _is_idle(self) -> bool:
        """Nothing runs, and nothing has to be settled."""
        pool = self._pool
        return (
            not pool.runs and not pool.announcements and not any(consumer.owes for consumer in pool.consumers)
        )

    def _is_drained(self) -> bool:
        """And no call is under way that may bring jobs, or has to be made."""
        return self._is_idle() and not any(consumer.is_busy for consumer in self._pool.consumers)

    def _is_silent(self) -> bool:
        """And no service talks with the broker."""
        pool = self._pool
        return (
            self._is_drained()
            and all(listener.has_ended for listener in pool.listeners)
            and not any(consumer.maintenance.is_busy for consumer in pool.consumers)
        )

    async def _until(self, condition: Callable[[], bool], *, timeout: float | None = None) -> None:
        """Wait for a condition that ``_changed`` is set for; being cancelled interrupts the pool."""
        deadline = None if timeout is None else self._pool.loop.time() + timeout
        while not condition():
            left = None if deadline is None else deadline - self._pool.loop.time()
            if left is not None and left <= 0:
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                pass
            except asyncio.CancelledError:
                self._pool.interrupt()
