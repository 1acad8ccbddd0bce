"""The supervisor of a pool: starts it, runs its services until it has to stop, drains it, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence

import anyio

from .. import signals
from ..dependencies import Lifespan
from ..exceptions import BrokerUnavailable
from ..logs import Log
from .block_watch import BlockWatch
from .consumer import Consumer
from .draining import Draining
from .maintenance import Maintenance
from .runs import Runs
from .state import Phase, PoolState

GOODBYE_WITHIN = 1.0
"""Seconds that the last report of a worker may take."""
SLOW_START = 2.0
"""Seconds after which a start logs that it still waits for the broker."""

logger: Log = Log("aiospinach")

Service = Callable[[], Awaitable[None]]
"""Works until the pool closes. It is called again after a stray cancellation."""


class Supervisor:
    """Runs the life of a pool in one task, in the context that jobs get copies of."""

    def __init__(
        self,
        state: PoolState,
        runs: Runs,
        consumers: Sequence[Consumer],
        maintenances: Sequence[Maintenance],
        services: Sequence[Service],
        draining: Draining,
        parting: Sequence[Service],
        lifespan: Lifespan | None,
        *,
        number: int,
    ) -> None:
        self._state = state
        self._runs = runs
        self._consumers = consumers
        self._maintenances = maintenances
        self._services = services
        self._lifespan = lifespan
        self._number = number
        self._parting = parting
        self.draining: Draining = draining
        self.started: asyncio.Future[None] = state.loop.create_future()
        """Done when the pool has begun to fetch, or failed to."""
        self.task: asyncio.Task[None] = asyncio.Task(
            self._live(), loop=state.loop, context=state.context, name=f"aiospinach {state.name}"
        )
        state.main = self.task

    async def _live(self) -> None:
        """Run the pool, and end its threads, however the pool ends."""
        watch = BlockWatch(self._state, self._runs)
        try:
            await self._work()
        finally:
            watch.end()
            self._state.threads.end()
        self._state.threads.join()

    async def _work(self) -> None:
        """Run the pool from its start to its stop.

        An error before the start is raised through ``started``. A later defect is logged at once, and kept in
        ``PoolState.error``.
        """
        state = self._state
        try:
            may_work = await self._start()
        except BaseException as error:
            await self._close_scope()
            self.started.set_exception(error)
            return
        if not may_work:
            await self._close_scope()
            self.started.set_result(None)
            return
        logger.info(
            "worker %s runs jobs of the namespace %s and the %s %s, %d at a time, from %r",
            state.name,
            state.namespace,
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
                    await state.wait_until(lambda: not state.is_working)
                    logger.info(
                        "worker %s stops; jobs that run: %d", state.name, len(self._runs), fields=state.fields
                    )
                    await self.draining.drain()
                    await self._say_goodbye()
                except Exception as error:
                    state.crash(error)
                    for consumer in self._consumers:
                        consumer.give_up()  # their settlements cannot be drained
                finally:  # services that were cancelled before this phase would begin again
                    state.advance(Phase.CLOSING)
                    services.cancel_scope.cancel()
        except asyncio.CancelledError:
            pass  # the supervisor was cancelled, and has drained all the same
        except Exception as error:
            state.crash(error)
        await state.send(signals.worker_terminated, {"worker_name": state.name}, state.context)
        await self._close_scope()
        logger.info(
            "worker %s has stopped; jobs that it has run: %d",
            state.name,
            self._runs.count,
            fields=state.fields,
        )
        if self.task.cancelling():  # the loop ends, and its connections would stay open
            logger.warning(
                "worker %s ended with its event loop: await engine.stop_workers() before, or start it with"
                " block=True",
                state.name,
                fields=state.fields,
            )
            await state.broker.aclose()

    async def _say_goodbye(self) -> None:
        """Report that the worker ends, unless the broker does not answer."""
        if not self.draining.makes_no_call():
            return

        async def leave() -> None:
            await asyncio.gather(*(parting() for parting in self._parting))

        leaving = self._state.loop.create_task(leave())
        leaving.add_done_callback(lambda _: self._state.changed.ring())
        await self._state.wait_until(leaving.done, timeout=GOODBYE_WITHIN)
        leaving.cancel()
        await self._state.wait_until(leaving.done)
        if not leaving.cancelled():
            leaving.result()

    async def _close_scope(self) -> None:
        """Close the values that jobs share, and leave the lifespan."""
        with contextlib.suppress(asyncio.CancelledError):  # of the supervisor, which ends anyway
            await self._state.scope.close()

    # Starting.

    async def _start(self) -> bool:
        """Open all that jobs need. Returns False if the pool has to stop before that."""
        if not await self._before_stop(self._prepare()):
            return False
        lifespan, scope = self._lifespan, self._state.scope
        if lifespan is not None and not await self._before_stop(scope.enter(lifespan)):
            return False
        return await self._send_worker_started()

    async def _before_stop(self, starting: Coroutine[object, object, None]) -> bool:
        """Do a part of the start. Returns False if the pool has to stop before the part has ended.

        A store that accepts connections and never answers must not hold up a stop.
        """
        state = self._state
        part = asyncio.Task(starting, loop=state.loop, context=state.context)
        part.add_done_callback(lambda _: state.changed.ring())
        await state.wait_until(lambda: part.done() or not state.is_working)
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
        """Call the receivers of worker_started, and wait for them: they open resources that jobs need.

        The first error of a receiver ends the start. Returns whether the pool may work.
        """
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
        """Open the broker and register; once more if the connection was idle and turns out to be dead."""
        slow = self._state.loop.call_later(SLOW_START, self._log_slow_start)
        try:
            try:
                await self._register()
            except BrokerUnavailable:
                await self._register()
        finally:
            slow.cancel()

    def _log_slow_start(self) -> None:
        logger.warning(
            "worker %s waits for an answer of %r, and starts then",
            self._state.name,
            self._state.broker,
            fields=self._state.fields,
        )

    async def _register(self) -> None:
        await self._state.broker.open(self._state.namespace)
        for maintenance in self._maintenances:
            await maintenance.register()

    async def _serve(self, service: Service) -> None:
        """Run a service until the pool closes, also after stray cancellations.

        A service that ended with CancelledError would make anyio cancel all others.
        """
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
