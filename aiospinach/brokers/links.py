"""Connections to a Redis that time out, and are made anew by the next call."""

from __future__ import annotations

import asyncio
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import redis.asyncio as redis
from redis import __version__ as redis_version
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection

from .channel import Channel, let_go_of
from .failures import BROKEN, translated

ANSWER_WITHIN = 10.0
"""Seconds until a call that got no answer counts as lost, at most."""
CONNECT_WITHIN = 5.0
SHORTEST_WAIT = 0.001  # 0 would mean for ever
WATCHDOG = 2.0
"""Seconds after its own time limit at which a blocking call is given up."""

_KEYLESS = ("HELLO", "INFO")
CONNECTIONS_AT_MOST = 100_000  # to a node of a Cluster: each queue waits on one of its own

# Where it is deprecated, `retry` means the same.
_NO_REPETITION: dict[str, Any] = {} if redis_version >= "6" else {"cluster_error_retry_attempts": 0}


class Link(ABC):
    """Connections to one Redis, within one event loop."""

    @abstractmethod
    async def work(self, *command: Any) -> Any:
        """A call of the workers."""

    @abstractmethod
    async def produce(self, *command: Any, until: float = math.inf) -> Any:
        """A call of whoever schedules: it never waits behind the workers', nor after this moment of
        time.monotonic()."""

    @abstractmethod
    async def pop(self, keys: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
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


class DirectLink(Link):
    """At most three connections to one server: for the workers, for whoever schedules, and for waiting."""

    def __init__(
        self, place: str, connection: Callable[[], Awaitable[AbstractConnection]], patience: float
    ) -> None:
        self._patience = patience
        self._work = Channel(place, connection)
        self._produce = Channel(place, connection)
        self._wait = Channel(place, connection)

    async def work(self, *command: Any) -> Any:
        patience = min(self._patience, ANSWER_WITHIN)
        return await self._work.call(*command, timeout=patience, connect_within=ANSWER_WITHIN)

    async def produce(self, *command: Any, until: float = math.inf) -> Any:
        return await self._produce.call(*command, timeout=min(until - time.monotonic(), ANSWER_WITHIN))

    async def pop(self, keys: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
        try:
            command = ("BLPOP", *keys, max(timeout, SHORTEST_WAIT))
            answer = await self._wait.call(*command, timeout=timeout + WATCHDOG, connect_within=ANSWER_WITHIN)
        except asyncio.CancelledError:
            await self._wait.reset()  # or it would go on waiting there
            raise
        return _popped(answer)

    async def aclose(self) -> None:
        for channel in (self._work, self._produce, self._wait):
            await channel.aclose()

    def let_go(self) -> None:
        for channel in (self._work, self._produce, self._wait):
            channel.let_go()


class ClusterLink(Link):
    """redis-py's client of a Cluster, which finds the node of a key and follows keys that move."""

    def __init__(
        self, place: str, nodes: Sequence[tuple[str, int]], settings: Mapping[str, Any], patience: float
    ) -> None:
        self._place = place
        self._nodes = nodes
        self._settings = settings
        self._patience = patience
        self._client: redis.RedisCluster | None = None

    async def work(self, *command: Any) -> Any:
        # redis-py may have to connect first, and does not say when it has.
        return await self._call(*command, limit=min(max(self._patience, CONNECT_WITHIN), ANSWER_WITHIN))

    async def produce(self, *command: Any, until: float = math.inf) -> Any:
        return await self._call(*command, limit=min(until - time.monotonic(), ANSWER_WITHIN))

    async def pop(self, keys: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
        return _popped(
            await self._call("BLPOP", *keys, max(timeout, SHORTEST_WAIT), limit=timeout + WATCHDOG)
        )

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def let_go(self) -> None:
        for node in () if self._client is None else self._client.get_nodes():
            for connection in node._connections:
                let_go_of(connection)

    async def _call(self, *command: Any, limit: float) -> Any:
        was_sent = False
        try:
            async with asyncio.timeout(limit):
                if self._client is None:
                    self._client = redis.RedisCluster(
                        startup_nodes=[ClusterNode(host, port) for host, port in self._nodes],
                        require_full_coverage=False,
                        max_connections=CONNECTIONS_AT_MOST,
                        **self._settings,
                        **_NO_REPETITION,
                    )
                    self._client.response_callbacks.pop("INFO", None)  # answers come as they are
                client = await self._client.initialize()
                was_sent = True
                # What has no key goes to any node.
                target = {"target_nodes": client.get_default_node()} if command[0] in _KEYLESS else {}
                return await client.execute_command(*command, **target)
        except BROKEN as error:
            raise translated(error, self._place, was_sent) from error


def _popped(answer: Any) -> tuple[str, bytes] | None:
    return None if answer is None else (answer[0].decode(), answer[1])


async def rest(pause: float, longest: float) -> float:
    """Sleep for about ``pause`` seconds; gives back the pause to make next time."""
    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
    return min(pause * 2, longest)
