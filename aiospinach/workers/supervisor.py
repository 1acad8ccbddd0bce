"""The life of a pool: it starts, works until it is told to stop, drains, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence

import anyio

from .. import signals
from ..exceptions import BrokerUnavailable
from ..logs import Log
from .block_watch import BlockWatch
from .consumer import Consumer
from .listener import Listener
from .maintenance import Maintenance
from .runs import Runs
from .state import Phase, PoolState

LOG_EVERY = 5.0
"""Seconds between two lines of the log about jobs that a stop waits for."""
NAMED_AT_MOST = 5
INTERRUPT_GRACE = 2.0
"""Seconds that cancelled bodies have to end when the pool stops, before they are left behind."""

logger: Log = Log("aiospinach")

Service = Callable[[], Awaitable[None]]
"""Works until the pool closes. A cancellation before that is a stray one, after which it is called again."""


class Supervisor:
    """One named task, in the context that jobs get copies of. Its services outlive the jobs."""

    def __init__(
        self,
        state: PoolState,
        runs: Runs,
        consumers: Sequence[Consumer],
        maintenances: Sequence[Maintenance],
        listeners: Sequence[Listener],
        services: Sequence[Service],
        *,
        number: int,
        shutdown_timeout: float,
    ) -> None:
        self._state = state
        self._runs = runs
        self._consumers = consumers
        self._maintenances = maintenances
        self._listeners = listeners
        self._services = services
        self._number = number
        self._shutdown_timeout = shutdown_timeout
        self.started: asyncio.Future[None] = state.loop.create_future()
        """Done when the pool has begun to fetch, or failed to."""
        self.task: asyncio.Task[None] = asyncio.Task(
            self._live(), loop=state.loop, context=state.context, name=f"aiospinach {state.name}"
        )
        state.main = self.task

    async def _live(self) -> None:
        """Work, and leave no thread behind, however that ends."""
        watch = BlockWatch(self._state, self._runs)
        try:
            await self._work()
        finally:
            watch.end()
            self._state.threads.end()
        self._state.threads.join()

    async def _work(self) -> None:
        """From start to stop. An error before the start is raised through ``started``. A defect after it is
        logged at once, and kept in ``PoolState.error``."""
        state = self._state
        try:
            may_work = await self._before_stop(self._prepare()) and await self._send_worker_started()
        except BaseException as error:
            self.started.set_exception(error)
            return
        if not may_work:
            self.started.set_result(None)
            return
        logger.info(
            "worker %s runs jobs of the %s %s, %d at a time, from %r",
            state.name,
            "queue" if len(self._consumers) == 1 else "queues",
            ", ".join(consumer.queue for consumer in self._consumers),
            self._number,
            state.broker,
            fields=state.fields,
        )
        try:
            async with anyio.create_task_group() as services:
                for service in self._services:
                    services.start_soon(self._serve, service)
                self.started.set_result(None)
                try:
                    await self._wait_until(lambda: not state.is_working)
                    logger.info(
                        "worker %s stops; %d jobs run", state.name, len(self._runs), fields=state.fields
                    )
                    await self._drain()
                except Exception as error:
                    state.crash(error)
                    for consumer in self._consumers:
                        consumer.give_up()  # nobody drains what they owe
                state.advance(Phase.CLOSING)
                services.cancel_scope.cancel()
        except asyncio.CancelledError:
            pass  # the supervisor was cancelled, and has drained all the same
        except Exception as error:
            state.crash(error)
        await state.send(signals.worker_terminated, {"worker_name": state.name}, state.context)
        logger.info(
            "worker %s has stopped; it has run %d jobs", state.name, self._runs.count, fields=state.fields
        )
        if self.task.cancelling():  # the loop ends, and nobody will close what belongs to it
            await state.broker.aclose()

    # Starting.

    async def _before_stop(self, starting: Coroutine[object, object, None]) -> bool:
        """Do a part of the start. If the pool is told to stop meanwhile, leave it and return False: a store
        that takes connections and never answers must not hold up a stop."""
        state = self._state
        part = asyncio.Task(starting, loop=state.loop, context=state.context)
        part.add_done_callback(lambda _: state.changed.ring())
        await self._wait_until(lambda: part.done() or not state.is_working)
        if not part.done():
            part.cancel()
        while not part.done():
            with contextlib.suppress(asyncio.CancelledError):  # of the supervisor, which ends anyway
                await asyncio.wait([part])
        if part.cancelled():
            return False
        part.result()
        return True

    async def _send_worker_started(self) -> bool:
        """Call the receivers of worker_started, and wait for them: they open what jobs need. The first that
        raises ends the start. Returns whether the pool may work."""
        state, signal = self._state, signals.worker_started
        if not signal.receivers or signal.is_muted:
            return True
        has_started = False
        arguments = {"worker_name": state.name}
        try:
            has_started = await self._before_stop(
                signal._require(
                    state.namespace, arguments, timeout=state.sender.timeout, context=state.context
                )
            )
        finally:
            if not has_started:
                await state.send(signals.worker_terminated, arguments, state.context)
        return has_started

    async def _prepare(self) -> None:
        """Open the broker and register; once more if a connection that was left idle turns out dead."""
        try:
            await self._register()
        except BrokerUnavailable:
            await self._register()

    async def _register(self) -> None:
        await self._state.broker.open(self._state.namespace)
        for maintenance in self._maintenances:
            await maintenance.register()

    async def _serve(self, service: Service) -> None:
        """Have a service work until the pool closes. If it ended earlier with a cancellation, anyio would
        cancel all the others, again and again."""
        while not self._state.is_closing:
            try:
                await service()
                return
            except asyncio.CancelledError:
                if self._state.is_closing:
                    raise
                self._state.on_cancellation()
            except Exception as error:
                self._state.crash(error)
                return

    # Draining.

    async def _drain(self) -> None:
        """Wait for what runs, and for the settlements, as long as ``shutdown_timeout`` allows. Then wait
        ``INTERRUPT_GRACE`` for a broker that does not answer."""
        state = self._state
        naming = state.loop.create_task(self._log_what_runs())
        try:
            await self._wait_until(
                lambda: self._is_idle() or state.phase >= Phase.INTERRUPTED, timeout=self._shutdown_timeout
            )
        finally:
            naming.cancel()
            await asyncio.wait([naming])
        if not self._is_idle():
            state.on_interrupt()
        since = time.monotonic()
        await self._wait_until(self._makes_no_call, timeout=INTERRUPT_GRACE)
        while not self._is_drained():
            state.on_interrupt()
            await self._leave_stubborn_bodies()
            self._give_up_what_is_away(since)
            since = time.monotonic()
            await self._wait_until(self._is_drained, timeout=INTERRUPT_GRACE)

    async def _log_what_runs(self) -> None:
        """Name every few seconds the jobs that the stop waits for."""
        until = self._state.loop.time() + self._shutdown_timeout
        while True:
            await asyncio.sleep(LOG_EVERY)
            running = [run for run in self._runs if run.holds_slot]
            if not running:
                continue  # outcomes are still to be stored
            named = ", ".join(run.summary for run in running[:NAMED_AT_MOST])
            others = len(running) - NAMED_AT_MOST
            logger.warning(
                "worker %s stops when %d running jobs have ended: %s%s; in %.0f s they are cancelled",
                self._state.name,
                len(running),
                named,
                f" and {others} more" if others > 0 else "",
                until - self._state.loop.time(),
                fields=self._state.fields,
            )

    async def _leave_stubborn_bodies(self) -> None:
        stubborn = [run for run in self._runs if run.body.is_stubborn]
        for run in stubborn:  # all at once: others may end while the signal of one is sent
            run.is_abandoned = True
            self._runs.ended(run)
        for run in stubborn:
            await run.abandon()

    def _give_up_what_is_away(self, since: float) -> None:
        if any(run.holds_slot for run in self._runs):  # guard: bodies that still settle
            return
        for consumer in self._consumers:
            consumer.give_up_if_away(since)

    def _is_idle(self) -> bool:
        """Nothing runs, and nothing has to be settled."""
        is_owed = any(consumer.has_unanswered for consumer in self._consumers)
        return not self._runs and not self._state.announcements and not is_owed

    def _is_drained(self) -> bool:
        """Nothing runs, and no call is under way that may bring jobs, or has to be made."""
        return self._is_idle() and not any(consumer.is_busy for consumer in self._consumers)

    def _makes_no_call(self) -> bool:
        """Nothing runs, and no service talks with the broker."""
        return (
            self._is_drained()
            and all(listener.has_ended for listener in self._listeners)
            and not any(maintenance.is_busy for maintenance in self._maintenances)
        )

    async def _wait_until(self, condition: Callable[[], bool], *, timeout: float | None = None) -> None:
        """Wait for a condition; ``PoolState.changed`` is rung for it. Being cancelled interrupts the pool."""
        loop, changed = self._state.loop, self._state.changed
        deadline = None if timeout is None else loop.time() + timeout
        while not condition():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return
            changed.clear()
            try:
                await changed.wait(left)
            except asyncio.CancelledError:
                self._state.on_interrupt()
