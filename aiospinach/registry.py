"""Registries of tasks, and the decorator that makes tasks of functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, ParamSpec, Protocol, TypeVar, overload
from weakref import WeakSet

from .around import Around, check_around
from .cron import Cron, calendar_of
from .exceptions import DuplicateTask, InvalidValue
from .outcome import Backoff
from .task import DEFAULT_QUEUE, Task
from .validation import check_number, check_retries, check_scope

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A", bound=Around)

_SCHEDULE = ("periodicity", "overlap", "catch_up")
_OPTIONS = ("name", "queue", "max_retries", *_SCHEDULE, "max_concurrency", "timeout", "backoff", "result_ttl")


class Follower(Protocol):
    """Takes the tasks of a registry: those that it has, and those that are added later."""

    def check(self, tasks: Sequence[Task[..., Any]]) -> None:
        """Raise DuplicateTask if the tasks cannot all be taken."""

    def add(self, tasks: Sequence[Task[..., Any]]) -> None:
        """Take tasks that have been checked."""


class TaskDecorator:
    """The decorator ``task``, which engines and registries have."""

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
        result_ttl: float | timedelta | None = None,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...
    def task(self, function: Any = None, /, **options: Any) -> Any:
        """Make a task of a function: ``@tasks.task``, or ``@engine.task(name=..., max_retries=...)``.

        An ``async def`` function runs in the event loop, a plain one in a thread.

        - ``name`` defaults to the function's ``__qualname__`` without ``<locals>``, and ``queue`` to that of
          the registry.
        - ``max_retries``: with 0 a job starts at most once; with more it is tried again after errors.
        - ``backoff`` takes the number of the retry, 1 for the first, and returns the seconds or the timedelta
          before it.
        - ``timeout``, in seconds or as a timedelta, cancels the body of an ``async def`` function, which
          counts as an error.
        - ``max_concurrency`` limits how many of its jobs run at once on all workers together.
        - ``periodicity``, a timedelta or a Cron, has the workers schedule the task. None for this or
          ``max_concurrency`` means none, whatever the default of the registry is.
        - ``overlap``: unless it is true, a tick is skipped while the job of the tick before waits or runs.
        - ``catch_up``, in seconds or as a timedelta, by default a minute: a tick that no worker fired within
          this time is skipped. Of several missed ticks the first is fired.
        - ``result_ttl``, in seconds or as a timedelta, is how long the result of a job is kept, 30 days at
          most: ``Engine.result`` returns it. By default no result is kept.

        Returns the Task. Raises InvalidValue, DuplicateTask or UnsupportedType.
        """
        if function is None:
            return functools.partial(self._declare, options)
        return self._declare(options, function)

    def around(self, around: A, /) -> A:
        raise NotImplementedError

    def _declare(self, options: dict[str, Any], function: Callable[P, R]) -> Task[P, R]:
        raise NotImplementedError


class Tasks(TaskDecorator):
    """A registry of tasks for one module, which ``Engine.attach_tasks`` attaches to an engine.

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
        self._arounds: list[Around] = []
        self._followers: WeakSet[Follower] = WeakSet()

    def add(self, task: Task[..., Any]) -> None:
        """Add a task. Raises DuplicateTask if this registry, or an engine with it, has a task of its name."""
        known = self._tasks.get(task.name)
        if known is task:
            return
        if known is not None:
            raise DuplicateTask(f"there is a task {task.name!r} already: give this one another name=")
        task._arguments.resolve_if_possible()
        if task.result_ttl is not None:
            task._result.resolve_if_possible()
        followers = list(self._followers)
        for follower in followers:  # all of them take the task, or none
            follower.check([task])
        for around in self._arounds:
            task._add_around(around)
        for follower in followers:
            follower.add([task])
        self._tasks[task.name] = task

    def around(self, around: A, /) -> A:
        """Run the bodies of this registry's jobs within a context manager: ``@tasks.around``.

        It is as ``Engine.around``, for the tasks of this registry, also those that it gets later.
        """
        self._arounds.append(check_around(around))
        for task in self:
            task._add_around(around)
        return around

    def __iter__(self) -> Iterator[Task[..., Any]]:
        return iter(list(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<Tasks {', '.join(self._tasks) or 'none'}>"

    def _attach_to(self, follower: Follower) -> None:
        """Add every task of this registry to an engine, all or none, and later ones as well."""
        follower.check(list(self))
        follower.add(list(self))
        self._followers.add(follower)

    def _declare(self, options: dict[str, Any], function: Callable[P, R]) -> Task[P, R]:
        if unknown := options.keys() - _OPTIONS:
            raise InvalidValue(
                f"a task has no option {', '.join(sorted(unknown))}; it has {', '.join(_OPTIONS)}"
            )
        given = {name: value for name, value in options.items() if name != "queue" or value is not None}
        task = Task(function, **{**self._defaults, **given})
        self.add(task)
        return task
