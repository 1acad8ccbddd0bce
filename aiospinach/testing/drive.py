"""Drives the workers of a test: opens the broker, waits until nothing is due, and closes it again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextvars import copy_context

from ..engine import Engine
from ..exceptions import AlreadyRunning, BrokerUnavailable
from ..workers import Pool
from .broker import KeepingBroker
from .record import Record

END_WITHIN = 3.0
"""Seconds that workers have to end after a job has hung."""


class Drive:
    """Runs the jobs of an engine in steps: at one moment of its broker's clock after the other.

    The workers that the application has started run them, in their own event loop. If it has started none,
    workers are started for the time of the call.
    """

    def __init__(self, engine: Engine, broker: KeepingBroker, record: Record, number: int) -> None:
        self._engine = engine
        self._broker = broker
        self._record = record
        self._number = number
        self._context = copy_context()
        """What own workers see: without the variables that the code under test sets in the test's context."""
        self._is_driving = False

    @contextlib.asynccontextmanager
    async def workers(self, what: str) -> AsyncIterator[Pool]:
        """The workers that run the jobs within this block.

        Raises AlreadyRunning within another block, and BrokerUnavailable during an outage.
        """
        if self._is_driving:
            raise AlreadyRunning(
                f"{what}: another drain() or advance() of this test is under way: await it first, and call"
                " none of them in a job"
            )
        if self._broker.is_away:
            raise BrokerUnavailable(f"{what}: the broker is away: end the outage of the test first")
        self._is_driving = True
        try:
            control = self._engine._workers
            if control.is_running and control.pool is not None:
                yield control.pool
            else:
                async with self._own_workers() as pool:
                    yield pool
        finally:
            self._is_driving = False

    @contextlib.asynccontextmanager
    async def _own_workers(self) -> AsyncIterator[Pool]:
        starting = self._engine.start_workers(self._number, block=False)
        await asyncio.Task(starting, context=self._context.copy())
        pool = self._engine._workers.pool
        assert pool is not None
        try:
            yield pool
        except BaseException:
            pool.interrupt()
            with contextlib.suppress(TimeoutError):  # a thread cannot be stopped
                async with asyncio.timeout(END_WITHIN):
                    await pool.wait_closed()
            raise
        await self._engine.stop_workers()

    async def run_due(self, pool: Pool, what: str, *, limit: int, timeout: float) -> None:
        """Run what is due now, and what becomes due meanwhile, until nothing is.

        Raises AssertionError after more than ``limit`` bodies, and TimeoutError after ``timeout`` seconds.
        """
        moment = _Moment(pool, self._broker, self._record, limit)
        try:
            async with asyncio.timeout(timeout):
                is_idle = await moment.run()
        except TimeoutError:
            raise TimeoutError(f"{what}: {_what_hangs(pool, timeout)}") from None
        if not is_idle:
            raise AssertionError(
                f"{what}: more than {limit} jobs ran at one moment, the last of them of"
                f" {', '.join(moment.busiest())}: does a job schedule itself at once, or by datetime.now(),"
                " which stays behind the clock of the test? If they are meant to be so many, pass limit="
            )


class _Moment:
    """Runs the jobs of one moment. All its checks are made in the event loop of the workers."""

    def __init__(self, pool: Pool, broker: KeepingBroker, record: Record, limit: int) -> None:
        self._pool = pool
        self._broker = broker
        self._record = record
        self._queues = [consumer.queue for consumer in pool.consumers]
        self._before = record.begun.copy()
        self._most = record.begun.total() + limit
        self._end: Callable[[bool], None]
        self._has_ended = False

    def busiest(self) -> list[str]:
        """The names of the tasks of most bodies that have begun."""
        return [task for task, _ in (self._record.begun - self._before).most_common(3)]

    async def run(self) -> bool:
        """Return True when nothing is due, and False when too many bodies have begun."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[bool] = loop.create_future()

        def set_result(is_idle: bool) -> None:
            if not ended.done():
                ended.set_result(is_idle)

        self._end = lambda is_idle: _call_in(loop, lambda: set_result(is_idle))
        pool, broker = self._pool, self._broker
        broker.on_exchange = lambda: _call_in(pool.loop, self._check)  # when the workers have its answer
        pool.state.on_quiet = self._check
        broker.begin_leasing(self._queues)
        try:
            _call_in(pool.loop, self._begin)
            return await ended
        finally:
            self._has_ended = True
            broker.is_leasing = False
            broker.on_exchange = pool.state.on_quiet = None

    def _begin(self) -> None:
        self._check()
        if not self._has_ended:
            for maintenance in self._pool.maintenances:
                maintenance.ring()
            self._pool.look_again()

    def _check(self) -> None:
        """End the moment if nothing is left to do, or too much was done."""
        if self._has_ended:
            return  # it was called late, and the next moment may have begun
        pool, broker = self._pool, self._broker
        is_idle = (
            not pool.runs
            and not pool.state.announcements
            and broker.is_idle(self._queues, pool.state.tasks.keys())
        )
        if is_idle or self._record.begun.total() > self._most:
            self._has_ended = True
            broker.is_leasing = False  # before another thread stores a job
            self._end(is_idle)


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(function)


def _what_hangs(pool: Pool, timeout: float) -> str:
    running = [run.summary for run in pool.runs if run.holds_slot]
    if running:
        return f"after {timeout:g} s these jobs still run: {', '.join(running)}"
    return (
        f"the workers have not come to an end in {timeout:g} s: were they stopped, does their event loop run,"
        " or is the broker away?"
    )
