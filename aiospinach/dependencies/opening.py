"""Calling one factory: its value, and what has to be closed after the value was used."""

from __future__ import annotations

from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from ..functions import is_awaitable
from .tree import Node


async def open_value(node: Node, arguments: dict[str, Any], stack: AsyncExitStack) -> Any:
    """Call the factory of a node. Returns its value, and has the stack close it.

    Raises the errors of the factory. A cancellation is raised within the factory.
    """
    made: Any = node.factory(**arguments)
    if node.keeps_result:
        return made
    if type(made) is AsyncGeneratorType:
        made = _as_async_context(made)
    elif type(made) is GeneratorType:
        made = _as_context(made)
    if isinstance(made, AbstractAsyncContextManager):
        return await stack.enter_async_context(made)
    if isinstance(made, AbstractContextManager):
        return stack.enter_context(made)
    return await made if is_awaitable(made) else made


def _same(generator: Any) -> Any:
    return generator


_as_async_context = asynccontextmanager(_same)
_as_context = contextmanager(_same)
