"""A task: a function that can run as a job, and the options that its jobs have."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload
from weakref import WeakSet

from .arguments.codec import Arguments
from .arguments.results import Result
from .around import Around
from .cron import Cron, Every, calendar_of
from .dependencies import Injection, injection_of
from .exceptions import InvalidArguments, InvalidValue, NotAttached
from .functions import check_function, is_async, mark_as_async, name_of, wraps_async
from .job import Job
from .outcome import Backoff
from .timing import to_limit, to_seconds
from .validation import (
    check_flag,
    check_id,
    check_identifier,
    check_number,
    check_retries,
    check_scope,
    check_text,
)

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

DEFAULT_QUEUE = "default"

# The id of a periodic job is its task's name, '@' and a moment of 13 digits, with at most 200 characters.
LONGEST_PERIODIC_NAME = 186

LONGEST_RESULT_TTL = 30 * 24 * 3600.0
"""Seconds that a result is kept at most."""


class Scheduler(Protocol):
    """The part of an engine that ``Task.schedule`` calls."""

    @property
    def has_ended(self) -> bool: ...

    async def schedule(self, task: Any, /, *args: Any, **kwargs: Any) -> Job: ...

    async def schedule_at(self, task: Any, at: datetime, /, *args: Any, **kwargs: Any) -> Job: ...


class Task(Generic[P, R_co]):
    """A function that can run as a job; ``@engine.task`` or ``@tasks.task`` makes one.

    Calling the task calls the function at once; ``schedule`` makes a job of the call.
    """

    def __init__(
        self,
        function: Callable[P, R_co],
        *,
        name: str | None = None,
        queue: str = DEFAULT_QUEUE,
        max_retries: int = 0,
        periodicity: timedelta | Cron | None = None,
        overlap: bool = False,
        catch_up: float | timedelta | None = None,
        max_concurrency: int | None = None,
        timeout: float | timedelta | None = None,
        backoff: Backoff | None = None,
        result_ttl: float | timedelta | None = None,
    ) -> None:
        if isinstance(function, Task):
            raise InvalidValue(
                f"{function!r} is a task already: attach its registry instead, or, to give it a second name,"
                " make another task of its function, as in engine.task(name='old')(send.function)"
            )
        check_function(function)
        self.function: Callable[P, R_co] = function
        self.name: str = check_identifier(name_of(function) if name is None else name, what="task name")
        what = f"task {self.name!r}:"
        self.queue: str = check_scope(queue, what=f"{what} queue")
        self.max_retries: int = check_retries(max_retries, what=f"{what} max_retries")
        self.max_concurrency: int | None = (
            None
            if max_concurrency is None
            else check_number(max_concurrency, what=f"{what} max_concurrency", least=1)
        )
        self.timeout: float | None = (
            None if timeout is None else to_seconds(timeout, what=f"{what} timeout", least=0.001)
        )
        if backoff is not None and not callable(backoff):
            raise InvalidValue(
                f"{what} backoff takes a function of the attempt's number, not {type(backoff).__name__}"
            )
        self.backoff: Backoff | None = backoff
        self.is_async: bool = is_async(function)
        if self.timeout is not None and not self.is_async:
            raise InvalidValue(
                f"{what} timeout needs an 'async def' function: a thread cannot be stopped"
                + ("; make the wrapper of its decorator 'async def'" if wraps_async(function) else "")
            )
        self._injection: Injection | None = injection_of(function, self.name)
        injected = frozenset() if self._injection is None else self._injection.names
        self._arguments: Arguments = Arguments(function, self.name, injected)
        self.result_ttl: float | None = (
            None if result_ttl is None else _to_result_ttl(result_ttl, what=f"{what} result_ttl")
        )
        self._result: Result = Result(function, self.name)
        self._result_ms: int = round((self.result_ttl or 0) * 1000)
        self._calendar: Cron | Every | None = calendar_of(periodicity)
        self.periodicity: timedelta | Cron | None = periodicity
        self.overlap: bool = check_flag(overlap, what=f"{what} overlap")
        self.catch_up: float | None = (
            None if catch_up is None else to_seconds(catch_up, what=f"{what} catch_up")
        )
        for option, is_given in (("overlap", self.overlap), ("catch_up", catch_up is not None)):
            if is_given and self._calendar is None:
                raise InvalidValue(f"{what} {option} is for periodic tasks: give the task a periodicity")
        if self._calendar is not None:
            self._check_periodic(what)
        self._arounds: tuple[Around, ...] = ()
        self._job_id: str | None = None
        self._key: str | None = None
        self.enqueue_timeout: float | None = None
        self._schedulers: WeakSet[Scheduler] = WeakSet()
        functools.update_wrapper(self, function, updated=())
        if self.is_async:
            mark_as_async(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name} queue={self.queue}>"

    def __reduce__(self) -> str:
        """Pickle the task by name, as functions are: another process imports its module."""
        name = getattr(self, "__qualname__", None)
        if not isinstance(name, str):
            raise pickle.PicklingError(f"{self!r} cannot be pickled: its function has no name in a module")
        return name

    @overload
    async def schedule(self: Task[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    @overload
    async def schedule(self: Task[P, T], *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    async def schedule(self: Task[P, Any], *args: P.args, **kwargs: P.kwargs) -> Job[Any]:
        """Schedule a job of this task to run as soon as a worker is free.

        Returns the job once the broker has stored it. Raises the errors of ``Engine.schedule``, and
        NotAttached unless exactly one engine has the task. If the call is cancelled, the job may be stored.
        """
        return await self._scheduler().schedule(self, *args, **kwargs)

    @overload
    async def schedule_at(
        self: Task[P, Awaitable[T]], at: datetime, /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    async def schedule_at(self: Task[P, T], at: datetime, /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    async def schedule_at(self: Task[P, Any], at: datetime, /, *args: P.args, **kwargs: P.kwargs) -> Job[Any]:
        """Schedule a job of this task to run at ``at``; a naive datetime means UTC, a past one means now.

        Returns and raises the same as ``schedule``.
        """
        return await self._scheduler().schedule_at(self, at, *args, **kwargs)

    @property
    def signature(self) -> inspect.Signature:
        """The parameters that take the arguments of a job, with their type hints.

        Parameters that a worker fills in are left out. Raises UnsupportedType for hints that cannot be read.
        """
        return self._arguments.signature()

    def read_values(self, values: Mapping[str, bytes]) -> dict[str, Any]:
        """Read values of parameters from JSON, each typed by the hint of its parameter.

        Forms and command lines make arguments of text with it. Returns the values by parameter. Raises
        InvalidArguments, which names the parameter and not the value, or UnsupportedType.
        """
        return self._arguments.read_values(values)

    def options(
        self,
        *,
        id: str | None = None,
        key: str | None = None,
        enqueue_timeout: float | timedelta | None = None,
    ) -> Task[P, R_co]:
        """A copy of this task whose jobs have an id, a key or a time limit for storing them.

        ``id`` names the job, with 1 to 200 ASCII characters and no spaces. A second job of the same id is a
        duplicate, and is not stored, while the first lives and for ten minutes after the first was stored.
        ``key`` is a label of 1 to 200 characters, such as the tenant that the job is for. The job and the
        receivers of its signals find it in ``Job.key``.
        ``enqueue_timeout`` is how long a call tries to reach the store, in seconds or as a timedelta; by
        default that of the broker. Raises InvalidValue.
        """
        chosen = object.__new__(type(self))
        vars(chosen).update(vars(self))
        chosen._job_id = None if id is None else check_id(id, what="job id")
        chosen._key = None if key is None else check_text(key, what="job key")
        chosen.enqueue_timeout = to_limit(enqueue_timeout, what="options(enqueue_timeout=)")
        return chosen

    def _add_around(self, around: Around) -> None:
        """Run the bodies of jobs within this context manager, inside of those that were added before."""
        if around not in self._arounds:
            self._arounds = (*self._arounds, around)

    def _scheduler(self) -> Scheduler:
        schedulers = list(self._schedulers)
        if len(schedulers) > 1:
            schedulers = [each for each in schedulers if not each.has_ended] or schedulers
        if len(schedulers) == 1:
            return schedulers[0]
        if not schedulers:
            raise NotAttached(
                f"task {self.name!r} is attached to no engines: call engine.attach_tasks(tasks) with its"
                " registry first, and keep the engine in a variable"
            )
        raise NotAttached(
            f"task {self.name!r} is attached to {len(schedulers)} engines:"
            " call engine.schedule(task, ...) on the engine that you mean"
            f" ({' or '.join(map(repr, schedulers))}), or end the others, by leaving 'async with engine'; in"
            " tests an earlier one may have been left open"
        )

    def _check_periodic(self, what: str) -> None:
        if len(self.name) > LONGEST_PERIODIC_NAME:
            raise InvalidValue(
                f"{what} the name of a periodic task has at most {LONGEST_PERIODIC_NAME} characters,"
                f" not {len(self.name)}"
            )
        try:
            self._arguments.fit((), {})
        except InvalidArguments as error:
            raise InvalidValue(
                f"{what} a periodic task is called without arguments, and it needs some: {error}"
            ) from None


def _to_result_ttl(duration: object, *, what: str) -> float:
    seconds = to_seconds(duration, what=what, least=0.001)
    if seconds > LONGEST_RESULT_TTL:
        raise InvalidValue(
            f"{what} must be at most 30 days, not {seconds / 86400:g}: store results elsewhere that are"
            " needed for longer"
        )
    return seconds
