"""The connections of an event loop to the nodes of a Cluster."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import redis.asyncio as redis
from redis import __version__ as redis_version
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import SlotNotCoveredError

from .errors import CLIENT_ERRORS, to_broker_error
from .protocol import close, let_go_of
from .transports import ANSWER_WITHIN, CONNECT_WITHIN, SHORTEST_WAIT, WATCHDOG, Transport, popped, reading

ALIVE_WITHIN = 1.5
"""Seconds in which a live node answers a PING."""
LOOK_AGAIN_AFTER = 1.0
CONNECTIONS_AT_MOST = 100_000  # to one node: each queue waits on a connection of its own

_KEYLESS = ("HELLO", "INFO")
_UNCONVERTED = ("INFO", "ZSCAN", "HSCAN", "HGETALL", "SMEMBERS")
"""Commands whose answers redis-py would convert."""
# Later releases deprecate it: there, `retry` has the same effect.
_NO_REPETITION: dict[str, Any] = {} if redis_version >= "6" else {"cluster_error_retry_attempts": 0}


class ClusterTransport(Transport):
    """Calls a Cluster through redis-py's client, which finds the node of a key and follows keys that move."""

    def __init__(
        self,
        endpoint: str,
        nodes: Sequence[tuple[str, int]],
        settings: Mapping[str, Any],
        patience: float,
        idle_after: float,
    ) -> None:
        self._endpoint = endpoint
        self._nodes = nodes
        self._settings = settings
        self._patience = patience
        self._idle_after = idle_after
        self._used_at = 0.0
        self._client: redis.RedisCluster | None = None
        self._looking: asyncio.Task[None] | None = None
        self._look_again_at = 0.0
        self._is_stale = False
        """Slots have moved, or may have."""
        self._left: list[ClusterNode] = []
        """Nodes that others have replaced. A call that began before may still connect to one."""

    async def worker_call(self, *command: Any) -> Any:
        # redis-py may have to connect first, and does not report when it has.
        return await self._call(*command, limit=min(max(self._patience, CONNECT_WITHIN), ANSWER_WITHIN))

    async def producer_call(self, *command: Any, until: float = math.inf) -> Any:
        return await self._call(*command, limit=min(until - time.monotonic(), ANSWER_WITHIN))

    async def blocking_pop(self, keys: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
        return popped(await self._call("BLPOP", *keys, max(timeout, SHORTEST_WAIT), limit=timeout + WATCHDOG))

    async def blocking_read(self, after: Mapping[str, str], timeout: float) -> None:
        await self._call(*reading(after, timeout), limit=timeout + WATCHDOG)

    async def place_of(self, key: str) -> str:
        client = await self._initialized()
        node = client.get_node_from_key(key)
        if node is None:
            raise SlotNotCoveredError(f"no node has the slot of {key!r}")
        return str(node.name)

    async def connection_to(self, place: str) -> AbstractConnection:
        client = await self._initialized()
        node = client.get_node(node_name=place)
        if node is None:
            raise SlotNotCoveredError(f"the Cluster has no node {place}")
        connection: AbstractConnection = node.connection_class(**node.connection_kwargs)
        return connection

    async def look_around(self) -> None:
        self._is_stale = True
        self._look_around()
        if self._looking is not None:
            await asyncio.wait([self._looking])

    async def aclose(self) -> None:
        client, self._client = self._client, None
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.wait([looking])
        connections = self._connections_of(client)
        if client is not None:
            await client.aclose()
        for connection in connections:  # redis-py leaves open those that were connecting
            await close(connection)
        self._left.clear()

    def let_go(self) -> None:
        for connection in self._connections_of(self._client):
            let_go_of(connection)

    def _connections_of(self, client: redis.RedisCluster | None) -> list[AbstractConnection]:
        """Return all connections, to replaced nodes as well."""
        manager = None if client is None else client.nodes_manager
        nodes = [] if manager is None else [*manager.nodes_cache.values(), *manager.startup_nodes.values()]
        by_id = {id(node): node for node in (*nodes, *self._left)}
        return [connection for node in by_id.values() for connection in node._connections]

    async def _call(self, *command: Any, limit: float) -> Any:
        was_sent = False
        try:
            async with asyncio.timeout(limit):
                client = await self._initialized()
                now = time.monotonic()
                is_idle, self._used_at = now - self._used_at > self._idle_after, now
                if is_idle:
                    await self._drop_idle(client)
                was_sent = True
                # A command without a key may go to any node.
                target = {"target_nodes": client.get_default_node()} if command[0] in _KEYLESS else {}
                return await client.execute_command(*command, **target)
        except CLIENT_ERRORS as error:
            if was_sent and isinstance(error, TimeoutError):
                if self._client is not None:
                    await self._drop_idle(self._client)
                self._look_around()
            raise to_broker_error(error, self._endpoint, was_sent) from error

    async def _initialized(self) -> redis.RedisCluster:
        """Return the client, once it knows the nodes."""
        if self._client is None:
            self._client = redis.RedisCluster(
                startup_nodes=[ClusterNode(host, port) for host, port in self._nodes],
                require_full_coverage=False,
                max_connections=CONNECTIONS_AT_MOST,
                **self._settings,
                **_NO_REPETITION,
            )
            for name in _UNCONVERTED:
                self._client.response_callbacks.pop(name, None)
        manager = self._client.nodes_manager
        if not manager.startup_nodes:  # old releases of redis-py drop each node after an error
            nodes = [ClusterNode(host, port, **self._client.connection_kwargs) for host, port in self._nodes]
            manager.startup_nodes.update({node.name: node for node in nodes})
        return await self._client.initialize()

    async def _drop_idle(self, client: redis.RedisCluster) -> None:
        """Close the connections that no call uses. A load balancer may have dropped them silently, and no
        call has the time to try them one by one."""
        for node in client.get_nodes():
            idle = list(node._free)
            node._free.clear()
            for connection in idle:
                await close(connection)
            node._free.extend(idle)

    def _look_around(self) -> None:
        """Find out whether a node hangs, and which node has replaced it.

        redis-py asks for the nodes only after errors, and a node that hangs causes none.
        """
        now = time.monotonic()
        if self._looking is None and now >= self._look_again_at:
            self._looking = asyncio.Task(self._leave_silent_nodes())

    async def _leave_silent_nodes(self) -> None:
        try:
            if (client := self._client) is None:
                return
            nodes = client.get_nodes()
            lives = dict(zip(nodes, await asyncio.gather(*map(_is_alive, nodes)), strict=True))
            is_stale, self._is_stale = self._is_stale, False
            if any(lives.values()) and (is_stale or not all(lives.values())):
                manager = client.nodes_manager
                seen = [*nodes, *manager.startup_nodes.values(), *self._left]
                for node in nodes:
                    if lives[node]:
                        manager.startup_nodes.setdefault(node.name, node)
                    else:
                        manager.startup_nodes.pop(node.name, None)
                async with asyncio.timeout(CONNECT_WITHIN):
                    await manager.initialize()
                kept = {id(node) for node in (*manager.nodes_cache.values(), *manager.startup_nodes.values())}
                self._left = list({id(node): node for node in seen if id(node) not in kept}.values())
                async with asyncio.timeout(CONNECT_WITHIN):
                    await self._disconnect_left()
        except CLIENT_ERRORS:
            pass  # the next call without an answer looks again
        finally:
            self._looking = None
            self._look_again_at = time.monotonic() + LOOK_AGAIN_AFTER

    async def _disconnect_left(self) -> None:
        await asyncio.gather(*(node.disconnect() for node in self._left))


async def _is_alive(node: ClusterNode) -> bool:
    try:
        async with asyncio.timeout(ALIVE_WITHIN):
            await node.execute_command("PING")
    except CLIENT_ERRORS:
        return False
    return True
