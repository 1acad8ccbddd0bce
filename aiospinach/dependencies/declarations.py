"""The declaration of a dependency: ``Depends`` and ``Shared`` here, or FastAPI's ``Depends``.

The objects are those of uncalled-for: docket and FastMCP understand a factory that declares them. This is the
only file that imports uncalled-for. The library is in its alpha, and its resolver knows no overrides, no
generator functions, no ``use_cache`` and no FastAPI, so the other files of this folder resolve.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, NamedTuple, TypeVar, cast, overload

import uncalled_for
from uncalled_for import Provided

from ..exceptions import InvalidValue
from .annotations import Undefined, hint_of, unpack

__all__ = ["Declaration", "Depends", "Provided", "Shared", "check_factory", "declaration_of", "is_of_request"]

T = TypeVar("T")


@overload
def Depends(factory: Callable[..., AbstractAsyncContextManager[T]]) -> T: ...
@overload
def Depends(factory: Callable[..., AbstractContextManager[T]]) -> T: ...
@overload
def Depends(factory: Callable[..., AsyncIterator[T]]) -> T: ...
@overload
def Depends(factory: Callable[..., Iterator[T]]) -> T: ...
@overload
def Depends(factory: Callable[..., Awaitable[T]]) -> T: ...
@overload
def Depends(factory: Callable[..., T]) -> T: ...
def Depends(factory: Callable[..., Any]) -> Any:
    """Declare that a parameter gets the value of a factory, which is called once for each job.

    It is the default of the parameter, or stands in ``Annotated`` beside the type. The factory is a plain or
    async function, a generator function that yields once, or a function that returns a context manager, which
    is entered before the body and left after it. Its own parameters may declare dependencies. It runs in the
    event loop. The declaration is checked when the task is declared.
    """
    return uncalled_for.Depends(factory)


@overload
def Shared(factory: Callable[..., AbstractAsyncContextManager[T]]) -> T: ...
@overload
def Shared(factory: Callable[..., AbstractContextManager[T]]) -> T: ...
@overload
def Shared(factory: Callable[..., AsyncIterator[T]]) -> T: ...
@overload
def Shared(factory: Callable[..., Iterator[T]]) -> T: ...
@overload
def Shared(factory: Callable[..., Awaitable[T]]) -> T: ...
@overload
def Shared(factory: Callable[..., T]) -> T: ...
def Shared(factory: Callable[..., Any]) -> Any:
    """Declare that a parameter gets the value of a factory, which all jobs of the workers share.

    It is used as ``Depends`` is. The factory is called for the first job that needs the value. A context
    manager is left when the workers have stopped. What the factory depends on is shared as well.
    """
    return uncalled_for.Shared(factory)


_DEPENDS: type = type(cast("Any", uncalled_for.Depends(object)))
_SHARED: type = type(cast("Any", uncalled_for.Shared(object)))


class Declaration(NamedTuple):
    """A factory whose value a parameter gets, and how."""

    factory: Callable[..., Any]
    is_shared: bool = False
    is_cached: bool = True
    is_of_fastapi: bool = False


def declaration_of(
    parameter: inspect.Parameter, function: Callable[..., Any], where: str
) -> Declaration | None:
    """The dependency that a parameter of the function declares, or None.

    Raises InvalidValue, which names the parameter as ``where``.
    """
    kind, metadata = unpack(hint_of(parameter, function))
    found = [mark for mark in (*metadata, parameter.default) if _is_declaration(mark)]
    if not found:
        if parameter.default is Provided:
            raise InvalidValue(
                f"{where} has the default Provided, and its type hint names nothing that provides a value:"
                " annotate it as Annotated[..., Depends(factory)], with names that are defined above the"
                " function"
            )
        return None
    if len(found) > 1:
        raise InvalidValue(f"{where} declares {len(found)} dependencies, and gets one value: keep one")
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise InvalidValue(
            f"{where} declares a dependency, whose value is passed by name: make it a parameter that has a"
            " name in calls, without '/' or '*'"
        )
    return _read(found[0], kind, where)


def check_factory(factory: object, where: str) -> None:
    """Raise InvalidValue if the factory of a dependency cannot be called or looked up."""
    if isinstance(factory, Undefined):
        raise InvalidValue(
            f"{where} depends on {factory.name!r}, which is not defined in the module: define it above the"
            " function"
        )
    if inspect.iscoroutine(factory):
        factory.close()  # or Python would warn that it was never awaited
    if not callable(factory):
        raise InvalidValue(
            f"{where} depends on a factory, which has to be a function and not {type(factory).__name__}: pass"
            " the function itself, and not its result"
        )
    try:
        hash(factory)
    except TypeError:
        raise InvalidValue(
            f"{where} depends on a {type(factory).__name__} that has no hash: wrap it in a function"
        ) from None


def is_of_request(parameter: inspect.Parameter, function: Callable[..., Any]) -> bool:
    """The parameter stands for a part of a request, which a job does not have."""
    kind, metadata = unpack(hint_of(parameter, function))
    module = getattr(kind, "__module__", None)
    if inspect.isclass(kind) and isinstance(module, str) and module.split(".")[0] in ("fastapi", "starlette"):
        return True
    return any(_fastapi_names(mark) for mark in (*metadata, parameter.default))


def _is_declaration(mark: object) -> bool:
    if isinstance(mark, type):
        return issubclass(mark, uncalled_for.Dependency)
    return isinstance(mark, uncalled_for.Dependency) or "Depends" in _fastapi_names(mark)


def _fastapi_names(mark: object) -> list[str]:
    """The classes of ``fastapi.params`` that an object is an instance of, its own first."""
    return [cls.__name__ for cls in type(mark).__mro__ if cls.__module__ == "fastapi.params"]


def _read(mark: Any, kind: Any, where: str) -> Declaration:
    if type(mark) in (_DEPENDS, _SHARED):
        check_factory(mark.factory, where)
        if getattr(mark, "bindings", None):
            raise InvalidValue(f"{where} passes arguments to its factory: bind them with functools.partial")
        return Declaration(mark.factory, is_shared=type(mark) is _SHARED)
    if type(mark).__module__ != "fastapi.params" or type(mark).__name__ != "Depends":
        name = mark.__name__ if isinstance(mark, type) else type(mark).__name__
        raise InvalidValue(
            f"{where} declares a dependency of the kind {name}, which a job cannot fill in: use Depends or"
            " Shared of aiospinach"
        )
    if getattr(mark, "max_concurrency", None) is not None:
        raise InvalidValue(
            f"{where} has Depends(max_concurrency=), which counts requests and no jobs: use Depends of"
            " aiospinach, and limit the task with max_concurrency="
        )
    factory = kind if mark.dependency is None else mark.dependency
    check_factory(factory, where)
    return Declaration(factory, is_cached=mark.use_cache, is_of_fastapi=True)
