"""What kind of function a callable is, whatever it is wrapped in."""

from __future__ import annotations

import functools
import inspect
from typing import Any


def innermost(function: object) -> Any:
    """The function within partial objects and static methods."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, staticmethod):
            function = function.__func__
        else:
            return function


def is_async(function: object) -> bool:
    """Calling it gives a coroutine, as far as can be told without calling it."""
    inner = innermost(function)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__)


def is_async_within(function: object) -> bool:
    """It is an async function under decorators that kept it as ``__wrapped__``, whatever these are."""
    return is_async(inspect.unwrap(innermost(function)))


def is_to_be_awaited(result: object) -> bool:
    """A function that was called has not ended yet: it returned something to await."""
    return hasattr(type(result), "__await__")
