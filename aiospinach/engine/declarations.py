"""Declarations: what a program declares of an engine before it schedules and runs jobs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar, cast

from ..around import Around, check_around
from ..carried import Provider
from ..exceptions import InvalidValue
from ..redaction import Redaction
from ..registry import TaskDecorator, Tasks
from ..surroundings import Surroundings
from ..task import Task

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A", bound=Around)


class Declarations(TaskDecorator):
    """The tasks of an engine, and what its jobs run in."""

    def __init__(self, redaction: Redaction) -> None:
        self._own_tasks = Tasks()
        self._surroundings = Surroundings(redaction)

    def carry(
        self, *carried: ContextVar[Any] | Provider, name: str | None = None, type: Any = str
    ) -> Callable[[], None]:
        """Let context travel from the code that schedules a job to the code that runs it.

        ``engine.carry(request_id, tenant)``. The values of these ContextVars are read in the context of
        ``schedule``, and set before the job starts: in the body, its receivers and its thread, in each of its
        tries on any process, and so in the jobs that it schedules. They stand in ``job.headers``. The process
        that runs the job makes the same call; otherwise the values stay in the headers.

        ``name``, by default that of the variable, is the name under which the value of a single variable
        travels. ``type`` is the type of values that are not text: they are stored as arguments are. A
        variable that is None or not set does not travel. A value that does not read back is logged, and the
        job runs without it.

        A function without arguments, which returns text by name, adds this to the headers. If it raises, the
        error is logged, and the job is scheduled without its text.

        All names and texts of a job have 4,096 bytes at most; longer ones make ``schedule`` raise
        InvalidValue, as a value of another type does. Returns a function that undoes the call; a second
        call of it does nothing. Raises InvalidValue and UnsupportedType, and then declares nothing.
        """
        if not carried:
            raise InvalidValue("carry() takes ContextVars, or functions that return text by name")
        if len(carried) > 1 and (name is not None or type is not str):
            raise InvalidValue("carry(): name and type are for one variable: call it once for each variable")
        with ExitStack() as undos:  # all of them are declared, or none
            for each in carried:
                undos.callback(self._carry(each, name, type))
            return undos.pop_all().close

    def around(self, around: A, /) -> A:
        """Run the bodies of all jobs within a context manager: ``@engine.around``.

        The decorated function takes the Job, and returns an async or a plain context manager. It runs for
        each try, in the task, the context and the time limit of the job. Its errors are errors of the job, so
        it may turn an error of the body into a RetryException. The first that is declared is the outermost,
        and those of the engine are outside of those of a registry. A plain context manager of a plain body is
        entered in the thread of the body, within all async ones. Returns the function. Raises InvalidValue.
        """
        self._surroundings.arounds.append(check_around(around))
        return around

    def override(
        self, factory: Callable[..., Any], replacement: Callable[..., Any]
    ) -> AbstractContextManager[None]:
        """A context in which jobs get a dependency from another factory, for tests.

        ``with engine.override(get_session, fake_session): ...``. Of nested contexts the innermost counts.
        Raises InvalidValue or UnsupportedType.
        """
        return self._surroundings.overrides.replacing(factory, replacement)

    def _declare(self, options: dict[str, Any], function: Callable[P, R]) -> Task[P, R]:
        return self._own_tasks._declare(options, function)

    def _carry(self, carried: Any, name: str | None, kind: Any) -> Callable[[], None]:
        if isinstance(carried, ContextVar):
            return self._surroundings.carried.add_variable(carried, name, kind)
        if not callable(carried) or isinstance(carried, type):
            raise InvalidValue(
                "carry() takes ContextVars, or functions that return text by name, not"
                f" {type(carried).__name__}"
            )
        if name is not None or kind is not str:
            raise InvalidValue("carry(): name and type are for a ContextVar, not for a function")
        return self._surroundings.carried.add_provider(cast("Provider", carried))
