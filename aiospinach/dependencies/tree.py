"""The factories behind the parameters of a function, as a tree that is read once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple

from ..exceptions import InvalidValue, UnsupportedType
from ..functions import underlying_function
from ..job import Job
from .annotations import hint_of, unpack
from .declarations import Declaration, declaration_of, is_of_request

Overridden = Mapping[Callable[..., Any], Callable[..., Any]]
"""The replacements of factories."""


class Node:
    """A factory, and the factories whose values it is called with."""

    __slots__ = ("factory", "is_shared", "keeps_result", "key", "parameters")

    def __init__(
        self,
        factory: Callable[..., Any],
        parameters: tuple[Edge, ...],
        *,
        is_shared: bool,
        keeps_result: bool,
    ) -> None:
        self.factory: Callable[..., Any] = factory
        self.parameters: tuple[Edge, ...] = parameters
        self.is_shared: bool = is_shared
        """Its value is of the workers, and not of one job."""
        self.keeps_result: bool = keeps_result
        """The value is the result itself, also if it is a context manager or an awaitable, as in FastAPI."""
        self.key: Hashable = (factory, keeps_result, *(edge.node.key for edge in parameters))
        """Equal for nodes of other trees that have the same value in the workers."""

    @property
    def name(self) -> str:
        """The name of the factory."""
        return _name_of(self.factory)


class Edge(NamedTuple):
    """A parameter, and the node whose value it gets."""

    name: str
    node: Node
    is_cached: bool


def read_tree(
    function: Callable[..., Any], name: str, overridden: Overridden | None = None
) -> tuple[Edge, ...]:
    """The parameters of the function that declare dependencies, with all factories behind these.

    Raises InvalidValue or UnsupportedType if a factory cannot be called in a job.
    """
    return tuple(_Reader(overridden or {}).edges_of(function, name, is_shared=False, trail=()))


def check_tree(factory: Callable[..., Any], name: str) -> None:
    """Raise InvalidValue or UnsupportedType if a job cannot call the factory."""
    _Reader({}).node_of(Declaration(factory), name, is_shared=False, trail=())


class _Reader:
    """Reads one tree, in which a factory has one node."""

    def __init__(self, overridden: Overridden) -> None:
        self._overridden = overridden
        self._nodes: dict[Hashable, Node] = {}

    def edges_of(
        self, function: Callable[..., Any], name: str, *, is_shared: bool, trail: tuple[object, ...]
    ) -> Iterator[Edge]:
        for parameter in _parameters_of(function, name):
            where = f"{name}(): parameter '{parameter.name}'"
            declaration = declaration_of(parameter, function, where)
            if declaration is not None:
                node = self.node_of(declaration, where, is_shared=is_shared, trail=trail)
                yield Edge(parameter.name, node, declaration.is_cached)
            elif trail:
                _check_undeclared(parameter, function, where)

    def node_of(
        self, declaration: Declaration, where: str, *, is_shared: bool, trail: tuple[object, ...]
    ) -> Node:
        factory = self._overridden.get(declaration.factory, declaration.factory)
        if factory in trail:
            circle = " needs ".join(map(_name_of, (*trail[trail.index(factory) :], factory)))
            raise InvalidValue(f"{where} depends on itself: {circle}")
        is_shared = is_shared or declaration.is_shared
        keeps_result = declaration.is_of_fastapi and _is_plain(factory)
        key = (factory, is_shared, keeps_result)
        if key not in self._nodes:
            inner = self.edges_of(factory, _name_of(factory), is_shared=is_shared, trail=(*trail, factory))
            self._nodes[key] = Node(factory, tuple(inner), is_shared=is_shared, keeps_result=keeps_result)
        return self._nodes[key]


def _parameters_of(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise UnsupportedType(
            f"{name}(): Python does not know the parameters of this callable; wrap it in a function"
        ) from None


def _check_undeclared(parameter: inspect.Parameter, factory: Callable[..., Any], where: str) -> None:
    """Raise UnsupportedType if a job has no value for a parameter of a factory."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return
    if is_of_request(parameter, factory):
        raise UnsupportedType(
            f"{where} is a part of a request, and a job has none: give the task a factory that needs no"
            " request"
        )
    if parameter.default is not parameter.empty:
        return
    kind, _ = unpack(hint_of(parameter, factory))
    remedy = "call current_job() in the factory" if kind is Job else "give it a default, or Depends(...)"
    raise UnsupportedType(f"{where} has no default, and a job has nothing to pass to it: {remedy}")


def _is_plain(factory: Callable[..., Any]) -> bool:
    """The factory is neither async nor a generator function, under its decorators."""
    inner = inspect.unwrap(underlying_function(factory))
    if not inspect.isroutine(inner) and not inspect.isclass(inner):
        inner = type(inner).__call__
    return not (
        inspect.iscoroutinefunction(inner)
        or inspect.isgeneratorfunction(inner)
        or inspect.isasyncgenfunction(inner)
    )


def _name_of(factory: object) -> str:
    inner = underlying_function(factory)
    name: str = getattr(inner, "__qualname__", type(inner).__qualname__)
    return name.replace(".<locals>", "")
