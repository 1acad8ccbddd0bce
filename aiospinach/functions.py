"""Which kind of function a callable is, under partial objects, static methods and decorators."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from .exceptions import InvalidValue


def underlying_function(function: object) -> Any:
    """The function within partial objects and static methods."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, staticmethod):
            function = function.__func__
        else:
            return function


def is_async(function: object) -> bool:
    """A call of it returns a coroutine, as far as is known without calling it."""
    inner = underlying_function(function)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__)


def wraps_async(function: object) -> bool:
    """It is an async function, or decorators around one that set ``__wrapped__``."""
    return is_async(inspect.unwrap(underlying_function(function)))


def is_awaitable(result: object) -> bool:
    """A function that returned this has not ended yet: its result has to be awaited."""
    return hasattr(type(result), "__await__")


def takes_arguments(function: Callable[..., Any], number: int) -> bool:
    """A call may pass so many positional arguments, and no others.

    It is also true of a callable whose parameters Python does not know.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(number))
    except TypeError:
        return False
    return True


def check_function(function: object) -> None:
    """Raise InvalidValue if no task can be made of the function."""
    inner = underlying_function(function)
    if isinstance(inner, (classmethod, functools.partialmethod, property)):
        raise InvalidValue(
            f"a task is made of a function, not of {type(inner).__name__}: a job has no class or instance to"
            " pass to it; make it a @staticmethod or a function of the module"
        )
    if not callable(function):
        raise InvalidValue(f"a task is made of a function, not of {type(function).__name__}")
    name = getattr(inner, "__qualname__", inner)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise InvalidValue(
            f"task {name!r}: a generator cannot be a task, since no job iterates over it; return a value"
        )
    if _lacks_instance(function):
        raise InvalidValue(
            f"task {name!r}: a job has no instance to call a method with; make it a @staticmethod or a"
            " function of the module that makes or finds the object, or give engine.task() the method of an"
            " instance"
        )


def name_of(function: object) -> str:
    """The name of a task that is made of the function. Raises InvalidValue for a lambda."""
    inner = underlying_function(function)
    name: str = getattr(inner, "__qualname__", type(inner).__qualname__)
    if "<lambda>" in name:
        raise InvalidValue("a task made of a lambda needs name=")
    return name.replace(".<locals>", "")


def label_of(function: object) -> str:
    """The name of a function for messages, a lambda included."""
    inner = underlying_function(function)
    return str(getattr(inner, "__qualname__", type(inner).__qualname__))


def parameters_of(signature: inspect.Signature) -> str:
    """The parameters without hints and defaults: a default may be a secret."""
    bare = [
        p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else ...)
        for p in signature.parameters.values()
    ]
    return str(inspect.Signature(bare)).replace("Ellipsis", "...")


def mark_as_async(thing: object, function: Callable[..., Any]) -> None:
    """Have other libraries take ``thing``, a callable, for an async function, as ``function`` is."""
    vars(thing)["__call__"] = function  # Starlette, FastAPI and tenacity look at it
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(thing)
    else:
        vars(thing)["_is_coroutine"] = vars(asyncio.coroutines)["_is_coroutine"]
        inner = underlying_function(function)
        for name in ("__code__", "__defaults__", "__kwdefaults__"):  # inspect looks at these
            if hasattr(inner, name):
                vars(thing)[name] = getattr(inner, name)


def _lacks_instance(function: object) -> bool:
    """It was defined in a class, and its first parameter is the instance or the class."""
    scope = getattr(underlying_function(function), "__qualname__", "").rpartition(".")[0]
    if not scope or scope.endswith("<locals>"):
        return False
    first = None
    with contextlib.suppress(TypeError, ValueError):  # Arguments raises an error that names it
        first = next(iter(inspect.signature(function).parameters), None)  # type: ignore[arg-type]
    return first in ("self", "cls")
