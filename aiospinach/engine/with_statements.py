"""Each ``async with engine`` statement that is open, and the workers that were started within it."""

from __future__ import annotations

import asyncio
import itertools
from contextvars import ContextVar

from ..workers import Pool

_current: ContextVar[WithStatement | None] = ContextVar("aiospinach_with_statement", default=None)


class WithStatement:
    """One ``async with engine``, from entering to leaving."""

    def __init__(self, of_engine: WithStatements, loop: asyncio.AbstractEventLoop) -> None:
        self.of_engine = of_engine
        self.loop = loop
        self.outer: WithStatement | None = _innermost_open()
        self.is_open: bool = True
        self.pool: Pool | None = None
        """The workers that were last started within it."""


class WithStatements:
    """The statements of one engine, in all event loops."""

    def __init__(self) -> None:
        self._open: dict[asyncio.AbstractEventLoop, list[WithStatement]] = {}
        self.was_entered: bool = False

    @property
    def is_open(self) -> bool:
        """True while a statement is open in an event loop that is not closed."""
        return any(not loop.is_closed() for loop in list(self._open))

    def enter(self) -> None:
        """Open a statement, in the running loop and context."""
        loop = asyncio.get_running_loop()
        for closed in [other for other in list(self._open) if other.is_closed()]:
            self._open.pop(closed, None)  # its loop was closed within the statement
        statement = WithStatement(self, loop)
        self._open.setdefault(loop, []).append(statement)
        _current.set(statement)
        self.was_entered = True

    def leave(self) -> tuple[Pool | None, bool]:
        """Close the innermost statement.

        Returns the workers that were started within it, and whether it was the last open one of the running
        loop.
        """
        loop = asyncio.get_running_loop()
        statements = self._open.get(loop, [])
        # Fixtures and exit stacks may leave in another context than they entered in.
        statement = self._find(loop) or (statements[-1] if statements else None)
        if statement is None:
            return None, True
        statement.is_open = False
        statements.remove(statement)
        if _current.get() is statement:
            _current.set(statement.outer)
        if not statements:
            del self._open[loop]
        return statement.pool, not statements

    def assign(self, pool: Pool, *, block: bool) -> None:
        """Assign workers that start to the innermost statement of the running context.

        If the context has none, workers that were started without ``block`` belong to the oldest statement
        of the loop: an application enters its engine in one task, and may start workers in another.
        """
        statement = self._find(pool.loop)
        if statement is None and not block:
            statement = next(iter(self._open.get(pool.loop, [])), None)
        if statement is not None:
            statement.pool = pool

    def clear(self) -> None:
        """Forget all statements, in a forked child: they were entered in its parent."""
        inherited, self._open, self.was_entered = self._open, {}, False
        for statement in itertools.chain.from_iterable(inherited.values()):
            statement.is_open = False

    def _find(self, loop: asyncio.AbstractEventLoop) -> WithStatement | None:
        """The innermost open statement of this engine and loop in the running context."""
        statement = _innermost_open()
        while statement is not None and (statement.of_engine is not self or statement.loop is not loop):
            statement = statement.outer
        return statement


def _innermost_open() -> WithStatement | None:
    """The innermost open statement of any engine in the running context."""
    statement = _current.get()
    while statement is not None and not statement.is_open:
        statement = statement.outer
    return statement
