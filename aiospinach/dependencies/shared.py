"""Values that outlive a job: those of ``Shared``, and the lifespan of the workers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from contextvars import Context, copy_context
from typing import Any, TypeVar

from ..cancellation import shielded_if
from ..exceptions import InvalidValue
from ..functions import label_of, takes_arguments
from .opening import open_value
from .overrides import Overrides
from .resource import Resource
from .tree import Node

F = TypeVar("F", bound=Callable[..., Any] | None)

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
"""Makes the context manager around one start of the workers."""


class SharedScope:
    """Values that jobs share, each opened for the first job that needs it, and all closed together.

    The lifespan is entered in ``context``, and values are opened in copies of it, or else of the caller's.
    ``on_error`` gets the name and the error of a value that could not be closed.
    """

    def __init__(
        self,
        overrides: Overrides,
        on_error: Callable[[str, BaseException], None],
        *,
        context: Context | None = None,
    ) -> None:
        self.overrides: Overrides = overrides
        self._on_error = on_error
        self._context = context
        self._values: dict[Hashable, Resource] = {}
        self._opened: list[Resource] = []
        """What was entered, in this order."""
        self._is_closed = False

    async def enter(self, lifespan: Lifespan) -> None:
        """Enter the lifespan of the workers. Raises its errors, and InvalidValue if it is none.

        If the wait is cancelled, ``close`` cancels what is being entered.
        """
        manager = lifespan()
        if not isinstance(manager, AbstractAsyncContextManager):
            if inspect.iscoroutine(manager):
                manager.close()  # or Python would warn that it was never awaited
            raise InvalidValue(
                "Engine(lifespan=) takes a function that returns an async context manager, and not"
                f" {type(manager).__name__}: decorate it with @asynccontextmanager"
            )
        resource = self._add(None, "the lifespan", manager, self._context)
        try:
            await resource.value()
        except asyncio.CancelledError as error:
            if error is resource.error:  # guard: cancellation of its own
                raise RuntimeError("the lifespan raised CancelledError when it was entered") from error
            raise

    async def value_of(self, node: Node) -> Any:
        """The value of a node, which is opened if no job has needed it before.

        Raises the errors of its factory; the next call tries again. If the wait is cancelled, the opening
        goes on for other jobs.
        """
        resource = self._values.get(node.key)
        if resource is None or resource.has_failed:
            context = (self._context or copy_context()).copy()
            resource = self._add(node.key, node.name, self._managed(node), context)
        return await resource.value()

    async def close(self) -> None:
        """Close all values, one by one, in the reverse of the order in which they were opened.

        What is still being opened is cancelled first. If the wait is cancelled, CancelledError is raised when
        all is closed.
        """
        self._is_closed = True
        pending = [resource for resource in self._values.values() if not resource.is_open]
        cancellation = None
        for resource in (*pending, *reversed(self._opened)):
            while not resource.has_ended:
                try:
                    with shielded_if(cancellation is not None):
                        await resource.close()
                except asyncio.CancelledError as error:
                    cancellation = error
            if resource.is_open and resource.error is not None:
                self._on_error(resource.name, resource.error)
        if cancellation is not None:
            raise cancellation

    def _add(
        self,
        key: Hashable,
        name: str,
        manager: AbstractAsyncContextManager[Any],
        context: Context | None,
    ) -> Resource:
        if self._is_closed:
            raise RuntimeError("the workers have stopped, and share no values any more")
        resource = self._values[key] = Resource(name, manager, self._opened.append, context)
        return resource

    @asynccontextmanager
    async def _managed(self, node: Node) -> AsyncIterator[Any]:
        """Opens the value of a node, after the values of the nodes that it needs."""
        arguments = {edge.name: await self.value_of(edge.node) for edge in node.parameters}
        async with AsyncExitStack() as stack:
            yield await open_value(node, arguments, stack)


def check_lifespan(lifespan: F) -> F:
    """Return ``Engine(lifespan=)``. Raises InvalidValue if it cannot be a lifespan."""
    if lifespan is None:
        return lifespan
    takes = "Engine(lifespan=) takes a function of the engine that returns an async context manager, and not"
    if isinstance(lifespan, AbstractAsyncContextManager):
        raise InvalidValue(f"{takes} the context manager: pass the function, without a call")
    if not callable(lifespan) or inspect.isasyncgenfunction(lifespan):
        kind = "an async generator function" if callable(lifespan) else type(lifespan).__name__
        raise InvalidValue(f"{takes} {kind}: decorate it with @asynccontextmanager")
    if not takes_arguments(lifespan, 1):
        raise InvalidValue(
            f"Engine(lifespan=): {label_of(lifespan)!r} is called with the engine as its only argument: give"
            " it one parameter"
        )
    return lifespan
