"""The injected parameters of a function, and the values that they get in one job."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from .opening import open_value
from .shared import SharedScope
from .tree import Edge, Node, read_tree


class Injection:
    """The parameters of one function that a worker fills in."""

    def __init__(self, function: Callable[..., Any], name: str, edges: tuple[Edge, ...]) -> None:
        self._function = function
        self._name = name
        self._edges = edges
        self.names: frozenset[str] = frozenset(edge.name for edge in edges)
        """The names of these parameters."""
        self._places = [
            (place, parameter.name)
            for place, parameter in enumerate(inspect.signature(function).parameters.values())
            if parameter.name in self.names and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]

    @asynccontextmanager
    async def opened(self, scope: SharedScope) -> AsyncIterator[dict[str, Any]]:
        """A context that opens the values of one job, by name, and closes them in the reverse order.

        Values that outlive the job are of the scope. The first error of a factory is raised, and ends the
        opening. A context manager sees this error, or that of the block, and may raise another one, but
        cannot suppress it. A cancellation is raised in the factory, or in the context manager that is being
        left.
        """
        edges = self._edges
        if scope.overrides.active:
            edges = read_tree(self._function, self._name, scope.overrides.active)
        error = None
        async with AsyncExitStack() as stack:
            known: dict[Node, Any] = {}
            try:
                yield {edge.name: await _value_of(edge, known, stack, scope) for edge in edges}
            except BaseException as raised:
                error = raised
                raise
        if error is not None:  # guard: hidden error
            raise error

    def add(
        self, values: dict[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call that has the values beside the arguments of the job."""
        named, positional = {**kwargs, **values}, list(args)
        for place, name in self._places:
            if place < len(positional):  # arguments of the job come after it
                positional.insert(place, named.pop(name))
        return tuple(positional), named


def injection_of(function: Callable[..., Any], name: str) -> Injection | None:
    """The injected parameters of the function of a task; None if it has none.

    Raises InvalidValue or UnsupportedType for a dependency that a job cannot have.
    """
    edges = read_tree(function, name)
    return Injection(function, name, edges) if edges else None


async def _value_of(edge: Edge, known: dict[Node, Any], stack: AsyncExitStack, scope: SharedScope) -> Any:
    node = edge.node
    if node.is_shared:
        return await scope.value_of(node)
    if edge.is_cached and node in known:
        return known[node]
    arguments = {inner.name: await _value_of(inner, known, stack, scope) for inner in node.parameters}
    value = await open_value(node, arguments, stack)
    if edge.is_cached:
        known[node] = value
    return value
