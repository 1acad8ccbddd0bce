"""Tasks, what jobs are calls of, and registries of them."""

from __future__ import annotations

import functools
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, overload
from weakref import WeakSet

from .arguments.codec import Arguments
from .cron import Cron, Every, calendar_of
from .exceptions import DuplicateTask, InvalidArguments, InvalidValue, NotAttached
from .functions import check_function, is_async, is_async_within, mark_as_async, name_of
from .outcome import Backoff
from .timing import to_limit, to_seconds
from .validation import check_id, check_identifier, check_scope

if TYPE_CHECKING:
    from .job import Job

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

DEFAULT_QUEUE = "default"
LARGEST_NUMBER = 2**31 - 1

_SCHEDULE = ("periodicity", "overlap", "catch_up")
_OPTIONS = ("name", "queue", "max_retries", *_SCHEDULE, "max_concurrency", "timeout", "backoff")

# The id of a periodic job is its task's name, '@' and a moment of 13 digits, and may have 200 characters.
LONGEST_PERIODIC_NAME = 186


class Scheduler(Protocol):
    """What a task needs of an engine: to schedule itself, and to be told of later tasks."""

    @property
    def has_ended(self) -> bool: ...

    async def schedule(self, task: Any, /, *args: Any, **kwargs: Any) -> Job: ...

    async def schedule_at(self, task: Any, at: datetime, /, *args: Any, **kwargs: Any) -> Job: ...

    def check_adoption(self, tasks: Sequence[Task[..., Any]]) -> None: ...

    def adopt(self, tasks: Sequence[Task[..., Any]]) -> None: ...


class Task(Generic[P, R_co]):
    """A function that can run as a job: made by ``@engine.task`` or ``@tasks.task``.

    Calling it calls the function, here and now; ``schedule`` makes a job of the call.
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
    ) -> None:
        if isinstance(function, Task):
            raise InvalidValue(f"{function!r} is a task already: attach its registry instead")
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
                f"{what} backoff takes a function of the attempt, not {type(backoff).__name__}"
            )
        self.backoff: Backoff | None = backoff
        self.is_async: bool = is_async(function)
        if self.timeout is not None and not self.is_async:
            raise InvalidValue(
                f"{what} timeout needs an 'async def' function: a thread cannot be stopped"
                + ("; make the wrapper of its decorator 'async def'" if is_async_within(function) else "")
            )
        self.arguments: Arguments = Arguments(function, self.name)
        self.calendar: Cron | Every | None = calendar_of(periodicity)
        self.periodicity: timedelta | Cron | None = periodicity
        self.overlap: bool = check_flag(overlap, what=f"{what} overlap")
        self.catch_up: float | None = (
            None if catch_up is None else to_seconds(catch_up, what=f"{what} catch_up")
        )
        for option, is_given in (("overlap", self.overlap), ("catch_up", catch_up is not None)):
            if is_given and self.calendar is None:
                raise InvalidValue(f"{what} {option} is for periodic tasks: give it a periodicity")
        if self.calendar is not None:
            self._check_periodic(what)
        self.job_id: str | None = None
        self.enqueue_timeout: float | None = None
        self.schedulers: WeakSet[Scheduler] = WeakSet()
        functools.update_wrapper(self, function, updated=())
        if self.is_async:
            mark_as_async(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name} queue={self.queue}>"

    def __reduce__(self) -> str:
        """Pickled by name, as functions are: another process imports its module."""
        name = getattr(self, "__qualname__", None)
        if not isinstance(name, str):
            raise pickle.PicklingError(f"{self!r} cannot be pickled: its function has no name in a module")
        return name

    async def schedule(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Schedule a job of this task to run as soon as a worker is free.

        Returns the job once the broker has stored it. Raises what ``Engine.schedule`` raises, and
        NotAttached if not exactly one engine has the task.
        """
        return await self._scheduler().schedule(self, *args, **kwargs)

    async def schedule_at(self, at: datetime, /, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Schedule a job of this task to run at a moment; a naive datetime means UTC.

        A moment that has passed means now. Returns and raises what ``schedule`` does.
        """
        return await self._scheduler().schedule_at(self, at, *args, **kwargs)

    def options(
        self, *, id: str | None = None, enqueue_timeout: float | timedelta | None = None
    ) -> Task[P, R_co]:
        """This task with settings for the next call, which are no arguments of the function.

        ``id``, of 1 to 200 characters of ASCII without spaces, names the job: another of the same id that
        is stored while it lives, or within the ten minutes after it was stored, is a duplicate and is not
        stored. ``enqueue_timeout`` is how many
        seconds the call tries to reach the store; without it, it is the broker's.
        """
        chosen = object.__new__(type(self))
        vars(chosen).update(vars(self))
        chosen.job_id = None if id is None else check_id(id, what="job id")
        chosen.enqueue_timeout = to_limit(enqueue_timeout, what="options(enqueue_timeout=)")
        return chosen

    def _scheduler(self) -> Scheduler:
        schedulers = list(self.schedulers)
        if len(schedulers) > 1:
            schedulers = [each for each in schedulers if not each.has_ended] or schedulers
        if len(schedulers) == 1:
            return schedulers[0]
        raise NotAttached(
            f"task {self.name!r} is attached to {len(schedulers) or 'no'} engines:"
            " call engine.schedule(task, ...) of the one that you mean"
            + (
                f" ({' or '.join(map(repr, schedulers))}), or end the others, by leaving 'async with engine'"
                if schedulers
                else ", and hold on to it, after engine.attach_tasks(tasks)"
            )
        )

    def _check_periodic(self, what: str) -> None:
        if len(self.name) > LONGEST_PERIODIC_NAME:
            raise InvalidValue(
                f"{what} the name of a periodic task has at most {LONGEST_PERIODIC_NAME} characters,"
                f" not {len(self.name)}"
            )
        try:
            self.arguments.fit((), {})
        except InvalidArguments as error:
            raise InvalidValue(
                f"{what} a periodic task is called without arguments, and it needs some: {error}"
            ) from None


class Tasks:
    """A registry of tasks for a module of its own, to be attached to an engine with ``attach_tasks``.

    Its arguments are the defaults of its tasks. Tasks may be added after it was attached.
    """

    def __init__(
        self,
        *,
        queue: str = DEFAULT_QUEUE,
        max_retries: int = 0,
        periodicity: timedelta | Cron | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        self._defaults: dict[str, Any] = {
            "queue": check_scope(queue, what="Tasks(queue=)"),
            "max_retries": check_retries(max_retries, what="Tasks(max_retries=)"),
            "periodicity": periodicity,
            "max_concurrency": max_concurrency,
        }
        calendar_of(periodicity)
        if max_concurrency is not None:
            check_number(max_concurrency, what="Tasks(max_concurrency=)", least=1)
        self._tasks: dict[str, Task[..., Any]] = {}
        self._schedulers: WeakSet[Scheduler] = WeakSet()

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        queue: str | None = None,
        max_retries: int = ...,
        periodicity: timedelta | Cron | None = None,
        overlap: bool = False,
        catch_up: float | timedelta | None = None,
        max_concurrency: int | None = None,
        timeout: float | timedelta | None = None,
        backoff: Backoff | None = None,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...
    def task(self, function: Any = None, /, **options: Any) -> Any:
        """Make a task of a function: ``@tasks.task``, or ``@tasks.task(name=..., max_retries=...)``.

        An ``async def`` function runs in the event loop, a plain one in a thread. ``name`` defaults to
        the function's ``__qualname__`` (without ``<locals>``), ``queue`` to the registry's. With
        ``max_retries=0`` a job starts at most once; with more it is tried again after errors, ``backoff``
        (a function of the attempt, 1 for the first, that returns seconds or a timedelta) later.
        ``timeout`` (seconds or a timedelta; async functions only) cancels the body and counts as an
        error. ``max_concurrency`` bounds how many of its jobs run at once on all workers together.
        ``periodicity`` (a timedelta or a Cron) has the workers schedule it by themselves. None for one of
        these two means none, whatever the registry's default is. A tick is skipped while the job of the one
        before waits or runs, unless ``overlap`` is true. A tick that no worker fired within a minute, or
        within ``catch_up`` (seconds or a timedelta), is skipped; of several missed ones the first is fired.

        Raises InvalidValue, DuplicateTask or UnsupportedType.
        """
        if function is None:
            return functools.partial(self._add, options)
        return self._add(options, function)

    def add(self, task: Task[..., Any]) -> None:
        """Add a task; DuplicateTask if another of its name is here, or in an engine that has these."""
        known = self._tasks.get(task.name)
        if known is task:
            return
        if known is not None:
            raise DuplicateTask(f"there is a task {task.name!r} already: give this one another name=")
        task.arguments.resolve_if_possible()
        schedulers = list(self._schedulers)
        for scheduler in schedulers:  # all of them adopt it, or none
            scheduler.check_adoption([task])
        for scheduler in schedulers:
            scheduler.adopt([task])
        self._tasks[task.name] = task

    def attach_to(self, scheduler: Scheduler) -> None:
        """Have an engine adopt every task of this registry, all or none, and later ones as well."""
        scheduler.check_adoption(list(self))
        scheduler.adopt(list(self))
        self._schedulers.add(scheduler)

    def __iter__(self) -> Iterator[Task[..., Any]]:
        return iter(list(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<Tasks {', '.join(self._tasks) or 'none'}>"

    def _add(self, options: dict[str, Any], function: Callable[P, R]) -> Task[P, R]:
        if unknown := options.keys() - _OPTIONS:
            raise InvalidValue(
                f"a task has no option {', '.join(sorted(unknown))}; it has {', '.join(_OPTIONS)}"
            )
        given = {name: value for name, value in options.items() if name != "queue" or value is not None}
        task = Task(function, **{**self._defaults, **given})
        self.add(task)
        return task


def check_number(value: object, *, what: str, least: int, most: int = LARGEST_NUMBER) -> int:
    """A whole number from ``least`` to ``most``, or InvalidValue, which says ``what`` it was for."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidValue(f"{what} must be a whole number, not {type(value).__name__}")
    if not least <= value <= most:
        shown = value if abs(value) < 10**30 else "the number given"
        raise InvalidValue(f"{what} must be from {least} to {most:,}, and {shown} is not")
    return value


def check_retries(value: object, *, what: str) -> int:
    """How often a job may be tried again, or InvalidValue, which says ``what`` it was for."""
    if value is None or value == math.inf:
        raise InvalidValue(
            f"{what} must be a whole number, and {value} is not: leave it out to start a job at most once,"
            f" and give {LARGEST_NUMBER} to try it again for ever"
        )
    return check_number(value, what=what, least=0)


def check_flag(value: object, *, what: str) -> bool:
    """True or False, or InvalidValue, which says ``what`` it was for."""
    if not isinstance(value, bool):
        raise InvalidValue(f"{what} must be True or False, not {type(value).__name__}")
    return value
