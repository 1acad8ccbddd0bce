"""Type hints of single parameters, also beside hints whose names are not defined yet."""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin

from ..functions import underlying_function


class Undefined:
    """Stands in a hint for a name that is not defined, or that only type checkers know."""

    def __init__(self, name: str) -> None:
        self.name: str = name

    def __getattr__(self, name: str) -> Undefined:
        if name.startswith("__"):
            raise AttributeError(name)  # typing looks for such names
        return self

    def __getitem__(self, key: object) -> Undefined:
        return self

    def __or__(self, other: object) -> Undefined:
        return self

    __ror__ = __or__

    def __call__(self, *args: object, **kwargs: object) -> Undefined:
        return self


class _Names(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Undefined(name))


def hint_of(parameter: inspect.Parameter, function: Callable[..., Any]) -> Any:
    """The type hint of a parameter of the function, evaluated if it is a string."""
    hint = parameter.annotation
    while isinstance(hint, str):
        namespace = _namespace_of(function)
        try:
            hint = eval(hint, namespace, _Names(namespace))
        except Exception:
            return Undefined(hint)  # not a type: if the parameter is an argument, the codec raises for it
    return hint


def unpack(hint: Any) -> tuple[Any, list[Any]]:
    """The type within a hint, and its metadata: of nested ``Annotated``, and of ``type`` aliases."""
    metadata: list[Any] = []
    while True:
        if type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        elif type(get_origin(hint)).__name__ == "TypeAliasType":  # an alias with parameters
            hint = get_origin(hint).__value__
        elif get_origin(hint) is Annotated:
            hint, *outer = get_args(hint)
            metadata = outer + metadata
        else:
            return hint, metadata


def _namespace_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The globals of the module that defines the function, or the class."""
    inner = inspect.unwrap(underlying_function(function))
    if not inspect.isroutine(inner) and not inspect.isclass(inner):
        inner = type(inner).__call__
    module = sys.modules.get(getattr(inner, "__module__", None) or "")
    namespace: dict[str, Any] = getattr(inner, "__globals__", None) or vars(module or builtins)
    return namespace
