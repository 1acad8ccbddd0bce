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

from .channel import Channel
from .failures import BROKEN, translated

ANSWER_WITHIN = 10.0
"""Seconds until a call that got no answer counts as lost."""
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
    async def pop(self, keys: Sequence[str], timeout: float) -> Mapping[str, bytes]:
        """Wait for an element in one of the lists. Gives back the list's key and the element, and then the
        keys of lists whose element may have been taken as well, with b""; nothing after the time-out."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""


class DirectLink(Link):
    """At most three connections to one server: for the workers, for whoever schedules, and for waiting."""

    def __init__(self, place: str, connection: Callable[[], Awaitable[AbstractConnection]]) -> None:
        self._work = Channel(place, connection)
        self._produce = Channel(place, connection)
        self._wait = Channel(place, connection)

    async def work(self, *command: Any) -> Any:
        return await self._work.call(*command, timeout=ANSWER_WITHIN)

    async def produce(self, *command: Any, until: float = math.inf) -> Any:
        return await self._produce.call(*command, timeout=min(until - time.monotonic(), ANSWER_WITHIN))

    async def pop(self, keys: Sequence[str], timeout: float) -> Mapping[str, bytes]:
        try:
            answer = await self._wait.call(
                "BLPOP", *keys, max(timeout, SHORTEST_WAIT), timeout=timeout + WATCHDOG
            )
        except asyncio.CancelledError:
            await self._wait.reset()  # or it would go on waiting there
            raise
        return {} if answer is None else {answer[0].decode(): answer[1]}

    async def aclose(self) -> None:
        for channel in (self._work, self._produce, self._wait):
            await channel.aclose()


class ClusterLink(Link):
    """redis-py's client of a Cluster, which finds the node of a key and follows keys that move."""

    def __init__(self, place: str, nodes: Sequence[tuple[str, int]], settings: Mapping[str, Any]) -> None:
        self._place = place
        self._nodes = nodes
        self._settings = settings
        self._client: redis.RedisCluster | None = None

    async def work(self, *command: Any) -> Any:
        return await self._call(*command)

    async def produce(self, *command: Any, until: float = math.inf) -> Any:
        return await self._call(*command, limit=min(until - time.monotonic(), ANSWER_WITHIN))

    async def pop(self, keys: Sequence[str], timeout: float) -> Mapping[str, bytes]:
        # A blocking call spans no slots, so there is one for each key; the first answer ends the others, and
        # whether they were answered at that moment, nobody knows.
        calls = {
            asyncio.ensure_future(
                self._call("BLPOP", key, max(timeout, SHORTEST_WAIT), limit=timeout + WATCHDOG)
            ): key
            for key in keys
        }
        waiting = set(calls)
        errors: list[BaseException] = []
        woken: dict[str, bytes] = {}
        try:
            while waiting and not woken:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                errors += (error for call in done if (error := call.exception()) is not None)
                answers = [call.result() for call in done if call.exception() is None]
                woken = {answer[0].decode(): answer[1] for answer in answers if answer is not None}
        finally:
            for call in waiting:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        if len(errors) == len(calls):  # a node that is away does not deafen the queues of the others
            raise errors[0]
        return {**woken, **dict.fromkeys((calls[call] for call in waiting), b"")}

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _call(self, *command: Any, limit: float = ANSWER_WITHIN) -> Any:
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


async def rest(pause: float, longest: float) -> float:
    """Sleep for about ``pause`` seconds; gives back the pause to make next time."""
    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
    return min(pause * 2, longest)
