"""``testing.memory(engine)``: an engine's jobs in memory, for the time of a test."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType

from ..brokers.base import Broker
from ..engine import Engine
from ..engine.portal import Portal
from ..exceptions import AlreadyRunning, InvalidValue
from ..timing import to_milliseconds
from ..validation import check_number
from .broker import KeepingBroker
from .clock import MovableClock, Travel
from .jobs import Jobs
from .record import Record

NUMBER = 5


class memory:
    """Keep the jobs of an engine in memory within the block, and run them only when the test asks for it.

    ``async with testing.memory(engine) as jobs: ...``, or ``with`` in a plain test. The engine, its tasks and
    the application stay the same. A broker in memory takes the place of theirs, and the block ends with the
    engine as it was before. Workers that the application starts meanwhile wait: they run jobs in the calls of
    ``jobs`` only, in their own event loop.

    ``at`` is the moment at which the clock of the jobs begins; by default, now. ``travel`` is called with
    each moment to which the clock jumps, and sets the clock of the process, as the ``move_to`` of
    time-machine does. ``number`` is how many jobs run at once if the application has started no workers.

    Entering raises InvalidValue for another object than an engine, or within another such block of it, and
    AlreadyRunning if its workers run. Leaving raises AlreadyRunning, after all is restored, if workers that
    were started within it still run.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        at: datetime | None = None,
        travel: Travel | None = None,
        number: int = NUMBER,
    ) -> None:
        if not isinstance(engine, Engine):
            raise InvalidValue(f"testing.memory() takes an Engine, not {type(engine).__name__}")
        self._engine = engine
        self._at = None if at is None else to_milliseconds(at, what="testing.memory(at=)")
        self._travel = travel
        self._number = check_number(number, what="testing.memory(number=)", least=1)
        self._record: Record
        self._portal: Portal
        self._before: Broker

    def __enter__(self) -> Jobs:
        engine = self._engine
        if isinstance(engine._broker, KeepingBroker):
            raise InvalidValue(
                f"the jobs of engine {engine.namespace!r} are in the memory of a test already: use the 'jobs'"
                " of the outer testing.memory(), or leave it first"
            )
        if engine._workers.is_running:
            raise AlreadyRunning(
                f"the workers of engine {engine.namespace!r} run on {engine._broker!r}: enter"
                " testing.memory() before the application starts them; a fixture that starts the application"
                " takes the fixture 'jobs' first, as in 'def client(jobs): ...'"
            )
        clock = MovableClock(self._travel)
        if self._at is not None:
            clock.set(self._at)
        broker = KeepingBroker(clock, self._stops_when_empty, engine._broker.events)
        self._before = engine._use_broker(broker)
        self._record, self._portal = Record(engine.namespace), Portal()
        self._record.connect()
        return Jobs(engine, broker, self._record, self._portal, self._number)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        engine = self._engine
        self._record.disconnect()
        self._portal.close()
        engine._use_broker(self._before)
        if error is None and engine._workers.is_running:
            raise AlreadyRunning(
                f"workers of engine {engine.namespace!r} that were started within testing.memory() still run:"
                " leave the application, or await engine.stop_workers(), before"
            )

    async def __aenter__(self) -> Jobs:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _stops_when_empty(self) -> bool:
        """The workers were started to run all jobs that are ready, and run them without the test's help."""
        pool = self._engine._workers.pool
        return pool is not None and pool.stop_when_empty is not None and not pool.has_ended
