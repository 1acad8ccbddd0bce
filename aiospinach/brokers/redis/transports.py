"""Connections to a Redis that time out, and are made anew by the next call."""

from __future__ import annotations

import asyncio
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection

from .connection import ServerConnection

ANSWER_WITHIN = 10.0
"""Seconds until a call that got no answer counts as lost, at most."""
CONNECT_WITHIN = 5.0
SHORTEST_WAIT = 0.001  # 0 would mean for ever
WATCHDOG = 2.0
"""Seconds after its own time limit at which a blocking call is given up."""


class Transport(ABC):
    """Connections to one Redis, within one event loop."""

    @abstractmethod
    async def worker_call(self, *command: Any) -> Any:
        """A call of the workers."""

    @abstractmethod
    async def producer_call(self, *command: Any, until: float = math.inf) -> Any:
        """A call of whoever schedules: it never waits behind the workers', nor after this moment of
        time.monotonic()."""

    @abstractmethod
    async def blocking_pop(self, keys: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
        """Wait for an element in one of the lists.

        Returns the list's key and the element, or None after the time-out. Being cancelled closes the
        connection, and an element that is on its way is lost.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""

    @abstractmethod
    def let_go(self) -> None:
        """Give up the connections outside of their event loop, which has ended or is another process's."""


class DirectTransport(Transport):
    """At most three connections to one server: for the workers, for whoever schedules, and for waiting."""

    def __init__(
        self,
        endpoint: str,
        connection: Callable[[], Awaitable[AbstractConnection]],
        patience: float,
        idle_after: float,
    ) -> None:
        self._patience = patience
        self._work = ServerConnection(endpoint, connection, idle_after)
        self._produce = ServerConnection(endpoint, connection, idle_after)
        self._wait = ServerConnection(endpoint, connection, idle_after)

    async def worker_call(self, *command: Any) -> Any:
        patience = min(self._patience, ANSWER_WITHIN)
        return await self._work.call(*command, timeout=patience, connect_within=ANSWER_WITHIN)

    async def producer_call(self, *command: Any, until: float = math.inf) -> Any:
        return await self._produce.call(*command, timeout=min(until - time.monotonic(), ANSWER_WITHIN))

    async def blocking_pop(self, keys: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
        try:
            command = ("BLPOP", *keys, max(timeout, SHORTEST_WAIT))
            answer = await self._wait.call(*command, timeout=timeout + WATCHDOG, connect_within=ANSWER_WITHIN)
        except asyncio.CancelledError:
            await self._wait.reset()  # or it would go on waiting there
            raise
        return popped(answer)

    async def aclose(self) -> None:
        for channel in (self._work, self._produce, self._wait):
            await channel.aclose()

    def let_go(self) -> None:
        for channel in (self._work, self._produce, self._wait):
            channel.let_go()


def popped(answer: Any) -> tuple[str, bytes] | None:
    """What a BLPOP answers: the list's key and the element, or None."""
    return None if answer is None else (answer[0].decode(), answer[1])


def first_half(until: float) -> float:
    """The moment by which a call is to be answered that is tried again if it is not: a connection may have
    been dropped without a word, and the time left must do for another."""
    now = time.monotonic()
    return now + (until - now) / 2


async def rest(pause: float, longest: float) -> float:
    """Sleep for about ``pause`` seconds; gives back the pause to make next time."""
    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
    return min(pause * 2, longest)
