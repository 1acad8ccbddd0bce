"""Keeps one object for each event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

from ... import forks

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One ``T`` for each event loop, from its first use in the loop to the end of the loop.

    Event loops may run in several threads. Each uses its own object only, and the operations of a dict are
    atomic, so there is no lock. ``close`` runs within the loop, if the loop ends as ``asyncio.run`` ends it.
    ``let_go`` runs outside of the loop, if the loop was merely closed, or is the parent's after a fork.
    """

    def __init__(
        self, make: Callable[[], T], close: Callable[[T], Awaitable[None]], let_go: Callable[[T], None]
    ) -> None:
        self._make = make
        self._close = close
        self._let_go = let_go
        self._by_loop: dict[asyncio.AbstractEventLoop, T] = {}
        self._lives: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        forks.forget_in_child(self)

    def __len__(self) -> int:
        return len(self._by_loop)

    def get(self) -> T | None:
        """Return the object of the running loop; None if there is none yet."""
        return self._by_loop.get(asyncio.get_running_loop())

    def here(self) -> T:
        """Return the object of the running loop, made if there is none."""
        loop = asyncio.get_running_loop()
        here = self._by_loop.get(loop)
        if here is None:
            self._let_go_of_closed()
            here = self._by_loop[loop] = self._make()
            # A loop closes its asynchronous generators when it ends. Nothing else reports its end.
            life = self._lives[loop] = self._live(loop, here)
            with contextlib.suppress(StopIteration):
                life.asend(None).send(None)
        return here

    def _forget_parent(self) -> object:
        inherited = self._by_loop, self._lives
        self._by_loop, self._lives = {}, {}
        for one in inherited[0].values():
            self._give_up(one)
        return inherited

    async def _live(self, loop: asyncio.AbstractEventLoop, here: T) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if self._by_loop.get(loop) is here:  # not so in a forked child, if the loop is the parent's
                del self._by_loop[loop], self._lives[loop]
                await self._close(here)

    def _let_go_of_closed(self) -> None:
        for loop in list(self._by_loop):
            if loop.is_closed():
                closed = self._by_loop.pop(loop, None)
                self._lives.pop(loop, None)
                if closed is not None:  # else another thread was faster
                    self._give_up(closed)

    def _give_up(self, one: T) -> None:
        with contextlib.suppress(OSError):  # without a free descriptor, the collector closes the connection
            self._let_go(one)
