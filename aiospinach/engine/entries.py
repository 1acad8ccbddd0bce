"""Who has entered an engine with ``async with``, and which workers were started within."""

from __future__ import annotations

import asyncio
import itertools
from contextvars import ContextVar

from ..workers import Pool

_around: ContextVar[Entry | None] = ContextVar("aiospinach_entry", default=None)


class Entry:
    """One ``async with engine``, from entering to leaving."""

    def __init__(self, entries: Entries, loop: asyncio.AbstractEventLoop) -> None:
        self.entries = entries
        self.loop = loop
        self.outer: Entry | None = _open_around()
        self.is_open: bool = True
        self.pool: Pool | None = None
        """The workers that were started within it, last."""


class Entries:
    """Those of one engine, in all event loops."""

    def __init__(self) -> None:
        self._open: dict[asyncio.AbstractEventLoop, list[Entry]] = {}
        self.was_entered: bool = False

    @property
    def is_open(self) -> bool:
        """Somebody is within, in an event loop that goes on."""
        return any(not loop.is_closed() for loop in list(self._open))

    def enter(self) -> None:
        """An entry begins, in the running loop and context."""
        loop = asyncio.get_running_loop()
        for ended in [other for other in list(self._open) if other.is_closed()]:
            self._open.pop(ended, None)  # its loop was closed within it
        entry = Entry(self, loop)
        self._open.setdefault(loop, []).append(entry)
        _around.set(entry)
        self.was_entered = True

    def leave(self) -> tuple[Pool | None, bool]:
        """The innermost entry ends.

        Returns the workers that were started within it, and whether it was the last of the running loop.
        """
        loop = asyncio.get_running_loop()
        entries = self._open.get(loop, [])
        # Fixtures and exit stacks may leave in another context than they entered in.
        entry = self._innermost(loop) or (entries[-1] if entries else None)
        if entry is None:
            return None, True
        entry.is_open = False
        entries.remove(entry)
        if _around.get() is entry:
            _around.set(entry.outer)
        if not entries:
            del self._open[loop]
        return entry.pool, not entries

    def start(self, pool: Pool, *, block: bool) -> None:
        """Workers start: they belong to the innermost entry of the running context.

        Where the context knows of none, workers that nobody waits for belong to the oldest entry of the
        loop: an application enters its engine in a task of its own, and starts workers from any other.
        """
        entry = self._innermost(pool.loop)
        if entry is None and not block:
            entry = next(iter(self._open.get(pool.loop, [])), None)
        if entry is not None:
            entry.pool = pool

    def clear(self) -> None:
        """Forget all of them: this is a child of the process in which they were entered."""
        inherited, self._open, self.was_entered = self._open, {}, False
        for entry in itertools.chain.from_iterable(inherited.values()):
            entry.is_open = False

    def _innermost(self, loop: asyncio.AbstractEventLoop) -> Entry | None:
        """The innermost open entry of this engine and loop that the running context knows of."""
        entry = _open_around()
        while entry is not None and (entry.entries is not self or entry.loop is not loop):
            entry = entry.outer
        return entry


def _open_around() -> Entry | None:
    """The innermost open entry of any engine that the running context knows of."""
    entry = _around.get()
    while entry is not None and not entry.is_open:
        entry = entry.outer
    return entry
