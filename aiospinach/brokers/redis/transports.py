"""Transports: the connections of an event loop to a Redis, and time limits for calls."""

from __future__ import annotations

import asyncio
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection

from .connection import ServerConnection

ANSWER_WITHIN = 10.0
"""Seconds after which a call without an answer counts as lost, at most."""
CONNECT_WITHIN = 5.0
SHORTEST_WAIT = 0.001  # for Redis, 0 is for ever
WATCHDOG = 2.0
"""Seconds between the server's time limit of a blocking call and the moment when the call is given up."""


class Transport(ABC):
    """The connections of one event loop to one Redis."""

    @abstractmethod
    async def worker_call(self, *command: Any) -> Any:
        """Send a command of a worker. Returns its answer."""

    @abstractmethod
    async def producer_call(self, *command: Any, until: float = math.inf) -> Any:
        """Send a command of a producer, which never waits behind those of workers. Returns its answer. Raises
        BrokerUnavailable at this moment of time.monotonic()."""

    @abstractmethod
    async def blocking_pop(self, keys: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
        """Remove an element of one of the lists; waits for it.

        Returns the list's key and the element, or None after the time-out. A cancellation closes the
        connection, and may lose an element.
        """

    @abstractmethod
    async def blocking_read(self, after: Mapping[str, str], timeout: float) -> None:
        """Wait until one of the streams has an entry after its id, or until the time-out.

        A cancellation closes the connection.
        """

    @abstractmethod
    async def place_of(self, key: str) -> str:
        """Return the name of the server that has a key, for ``connection_to``."""

    @abstractmethod
    async def connection_to(self, place: str) -> AbstractConnection:
        """Return a new connection to a server, which the caller opens and closes."""

    @abstractmethod
    async def look_around(self) -> None:
        """Find out anew which server has which keys. Returns when it is known, or cannot be found out."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""

    @abstractmethod
    def let_go(self) -> None:
        """Give up the connections outside of their event loop, which has ended or is the parent's."""


class DirectTransport(Transport):
    """At most four connections to one server: for workers, for producers, for waiting, and for reading."""

    def __init__(
        self,
        endpoint: str,
        connection: Callable[[], Awaitable[AbstractConnection]],
        patience: float,
        idle_after: float,
    ) -> None:
        self._connection = connection
        self._patience = patience
        self._work = ServerConnection(endpoint, connection, idle_after)
        self._produce = ServerConnection(endpoint, connection, idle_after)
        self._wait = ServerConnection(endpoint, connection, idle_after)
        self._read = ServerConnection(endpoint, connection, idle_after)

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
            await self._wait.reset()  # else the server would go on waiting
            raise
        return popped(answer)

    async def blocking_read(self, after: Mapping[str, str], timeout: float) -> None:
        try:
            command = reading(after, timeout)
            await self._read.call(*command, timeout=timeout + WATCHDOG, connect_within=ANSWER_WITHIN)
        except asyncio.CancelledError:
            await self._read.reset()  # else the next read would wait behind this one
            raise

    async def place_of(self, key: str) -> str:
        return ""

    async def connection_to(self, place: str) -> AbstractConnection:
        return await self._connection()

    async def look_around(self) -> None:
        pass  # each new connection goes to the server that is the master then

    async def aclose(self) -> None:
        for connection in (self._work, self._produce, self._wait, self._read):
            await connection.aclose()

    def let_go(self) -> None:
        for connection in (self._work, self._produce, self._wait, self._read):
            connection.let_go()


def reading(after: Mapping[str, str], timeout: float) -> Sequence[Any]:
    """Return the command that waits for an entry of a stream after its id."""
    block = max(1, round(timeout * 1000))  # for Redis, 0 is for ever
    return ("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", *after.keys(), *after.values())


def popped(answer: Any) -> tuple[str, bytes] | None:
    """Return the key and the element in the answer to BLPOP, or None."""
    return None if answer is None else (answer[0].decode(), answer[1])


def first_try_until(until: float) -> float:
    """Return the end of a first try, by time.monotonic(): after half of the time that is left. The connection
    may have been dropped silently, and a second try needs the other half."""
    now = time.monotonic()
    return now + (until - now) / 2


async def sleep_before_retry(pause: float, longest: float) -> float:
    """Sleep for at most ``pause`` seconds, with jitter. Returns the next pause."""
    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
    return min(pause * 2, longest)
