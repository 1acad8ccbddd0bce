"""The jobs of a test: what was scheduled, and running it by the clock of the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from ..engine import Engine
from ..engine.portal import Portal
from ..exceptions import InvalidValue
from ..job import Job
from ..signals import SafeNamedSignal
from ..task import Task
from ..timing import from_milliseconds
from .blocking import BlockingJobs
from .broker import KeepingBroker
from .faults import Faults
from .inline import InlineProducer
from .matching import Expected, listed
from .record import Record, connected
from .running import Running


class Jobs(Running, Faults):
    """The jobs of an engine within ``testing.memory(engine)``.

    Jobs are stored in memory, and wait until the test runs them with ``drain()`` or ``advance()``. The clock
    of the jobs runs as time does, and jumps in ``advance()``.
    """

    def __init__(
        self, engine: Engine, broker: KeepingBroker, record: Record, portal: Portal, number: int
    ) -> None:
        super().__init__(engine, broker, record, number)
        self._portal = portal

    def __repr__(self) -> str:
        return f"<Jobs of {self._engine!r}: {len(self._record.scheduled)} scheduled, now {self.now}>"

    @property
    def now(self) -> datetime:
        """The moment at which the clock of the jobs stands, in UTC."""
        return from_milliseconds(self._broker.now())

    @property
    def scheduled(self) -> list[Job]:
        """All jobs that were scheduled in this test, in their order, the jobs of periodic tasks included.

        Each is as it was when it was stored. Duplicates, which were not stored, are not among them.
        """
        return list(self._record.scheduled)

    @property
    def blocking(self) -> BlockingJobs:
        """The calls that run jobs, for tests that are plain functions: ``jobs.blocking.drain()``."""
        return BlockingJobs(self, self._portal)

    def runs(self, task: Task[..., Any] | str) -> int:
        """Return how many bodies of a task have begun, retries and ``engine.execute()`` included."""
        return self._record.begun[self._engine._tasks.find(task).name]

    def assert_scheduled(
        self,
        task: Task[..., Any] | str,
        /,
        *args: object,
        after: timedelta | None = None,
        at: datetime | None = None,
        count: int | None = None,
        **kwargs: object,
    ) -> list[Job]:
        """Return the scheduled jobs of a task that have these leading and these named arguments.

        It does not matter whether a job has run, nor whether it got an argument by place or by name.
        ``after`` is the time from the ``schedule`` call to the moment of the job, to a second; ``at`` is this
        moment. Arguments of the task with one of these three names are given by place. Raises AssertionError,
        which lists the scheduled jobs, if there are none, or not ``count``;
        InvalidArguments if the task has no such arguments; and UnknownTask.
        """
        found, expected = self._find(task, args, kwargs, after, at)
        if count is None and found:
            return found
        if count is not None and len(found) == count:
            return found
        times = f"scheduled {len(found)} times, and not {count}" if count is not None else "not scheduled"
        scheduled = expected.nearest_first(self._record.scheduled)
        raise AssertionError(f"{expected} was {times}; these jobs were scheduled:{listed(scheduled)}")

    def refute_scheduled(
        self,
        task: Task[..., Any] | str,
        /,
        *args: object,
        after: timedelta | None = None,
        at: datetime | None = None,
        **kwargs: object,
    ) -> None:
        """Raise AssertionError, which lists the jobs, if ``assert_scheduled`` would find some."""
        found, expected = self._find(task, args, kwargs, after, at)
        if found:
            raise AssertionError(f"{expected} was scheduled:{listed(found)}")

    @contextmanager
    def capture(self, signal: SafeNamedSignal) -> Iterator[list[dict[str, Any]]]:
        """Collect the keyword arguments of each sending of a signal of this engine within the block.

        ``with jobs.capture(signals.job_failed) as failures: ...``. Raises InvalidValue if it is no signal.
        """
        if not isinstance(signal, SafeNamedSignal):
            raise InvalidValue(
                f"capture() takes a signal, such as signals.job_failed, not {type(signal).__name__}"
            )
        sendings: list[dict[str, Any]] = []

        def receiver(namespace: str, **kwargs: Any) -> None:
            sendings.append(kwargs)

        with connected(signal, receiver, self._engine.namespace):
            yield sendings

    @contextmanager
    def inline(self) -> Iterator[None]:
        """Have ``schedule`` calls run the body before they return, within the block.

        The body runs in the task of the caller, as ``engine.execute()`` runs it: with no retries. Its errors
        are raised by the ``schedule`` call. The job is not stored, and ``engine.result()`` raises
        ResultExpired for it. A job that is due later is stored as usual.
        """
        engine = self._engine
        before = engine._producer
        engine._producer = InlineProducer(before, self._broker, self._execute)
        try:
            yield
        finally:
            engine._producer = before

    async def _execute(self, job: Job) -> None:
        task = self._engine._tasks.find(job.task_name).options(id=job.id, key=job.key)
        await self._engine.execute(task, *job.args, **job.kwargs)

    def _find(
        self,
        task: Task[..., Any] | str,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        after: timedelta | None,
        at: datetime | None,
    ) -> tuple[list[Job], Expected]:
        expected = Expected(self._engine._tasks.find(task), args, kwargs, after, at)
        return expected.find(self._record.scheduled), expected
