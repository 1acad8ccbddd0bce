"""Connections to a Redis that time out, and are made anew by the next call."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import hiredis
import redis.asyncio as redis
from redis import __version__ as redis_version
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from ..exceptions import BrokerError, BrokerUnavailable

ANSWER_WITHIN = 10.0
"""Seconds until a call that got no answer counts as lost."""
SHORTEST_WAIT = 0.001  # 0 would mean for ever
WATCHDOG = 2.0
"""Seconds after its own time limit at which a blocking call is given up."""

# uvloop has a RuntimeError for whoever writes to a connection that was closed meanwhile.
# redis-py's error for a Cluster none of whose nodes can be reached is no RedisError.
BROKEN = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)

# redis-py cuts the code off the message where it has a class for the error.
_TRANSIENT_CLASSES = (
    BusyLoadingError,
    ReadOnlyError,
    MasterDownError,
    ClusterDownError,
    ClusterError,
    TryAgainError,
    AskError,
)
_TRANSIENT_TEXTS = ("LOADING", "BUSY", "UNBLOCKED", "NOREPLICAS", "MASTERDOWN", "ERR max number of clients")
# What OpenSSL says of a certificate, before any command is sent; redis-py hands it on as text alone.
_OF_CERTIFICATES = re.compile(
    r"\[(?:SSL|X509): \w*(?:CERT|UNKNOWN_CA|KEY_VALUES)\w*\][^(]*|PEM lib|No such file or directory"
)
_KEYLESS = ("HELLO", "INFO")
CONNECTIONS_AT_MOST = 100_000  # to a node of a Cluster: each queue waits on one of its own

# Where it is deprecated, `retry` means the same.
_NO_REPETITION: dict[str, Any] = {} if redis_version >= "6" else {"cluster_error_retry_attempts": 0}


class Unanswered(BrokerUnavailable):
    """The call was sent, and nobody knows whether it was carried out."""


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


class Channel:
    """One connection that is made by the first call, and anew after an error. One call at a time."""

    def __init__(self, place: str, connection: Callable[[], Awaitable[AbstractConnection]]) -> None:
        self._place = place
        self._make = connection
        self._connection: AbstractConnection | None = None
        self._lock = asyncio.Lock()

    async def call(self, *command: Any, timeout: float) -> Any:
        """The answer of the server. Raises BrokerUnavailable if there is none, BrokerError if it refuses;
        redis-py's NoScriptError goes through."""
        was_sent = False
        try:
            async with asyncio.timeout(timeout), self._lock:
                try:
                    connection = await self._connected()
                    was_sent = True
                    # In C: a batch has thousands of arguments, and redis-py would look at each in Python.
                    await connection.send_packed_command(hiredis.pack_command(command))
                    return await connection.read_response()
                except ResponseError as error:
                    if isinstance(error, ReadOnlyError) or str(error).startswith("UNBLOCKED"):
                        await self.aclose()  # another server is the master now
                    raise
                except BaseException:
                    await self.aclose()  # an answer may be under way that nobody waits for
                    raise
        except BROKEN as error:
            raise _translated(error, self._place, was_sent) from error

    async def _connected(self) -> AbstractConnection:
        connection = self._connection
        if connection is None or not connection.is_connected:
            connection = await self._make()
            self._connection = connection  # before it connects, so that it is closed if that fails
            await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await asyncio.shield(connection.disconnect(nowait=True))


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
        answer = await self._wait.call(
            "BLPOP", *keys, max(timeout, SHORTEST_WAIT), timeout=timeout + WATCHDOG
        )
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
            raise _translated(error, self._place, was_sent) from error


def _translated(error: BaseException, place: str, was_sent: bool = False) -> Exception:
    """A BrokerError that says where, and what to do; what may pass by itself is BrokerUnavailable."""
    if isinstance(error, NoScriptError):
        return error
    if isinstance(error.__cause__, ResponseError):
        error = error.__cause__  # redis-py says that it cannot connect where the server refuses a setting
    name = type(error).__name__
    if isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)):
        return BrokerError(
            f"Redis at {place} does not let this user in, or do this ({name}): check user, password and ACL"
        )
    if isinstance(error, ResponseError) and not isinstance(error, _TRANSIENT_CLASSES):
        text = str(error)
        if not text.startswith(_TRANSIENT_TEXTS):
            return BrokerError(f"Redis at {place} refuses a call: {text[:200]}")
    is_answer, is_tls = isinstance(error, ResponseError), place.startswith("rediss")
    if is_tls and not is_answer and (said := _OF_CERTIFICATES.search(str(error))):
        return BrokerError(
            f"Redis at {place} cannot be reached in TLS, because of a certificate ({said[0].strip(' .')}):"
            " the server's must be for that host, and signed by the CA in ssl_ca_certs; a client's is given"
            " by ssl_certfile and ssl_keyfile"
        )
    if "max number of clients" in str(error):  # it says so in place of an answer to the first call
        return BrokerUnavailable(
            f"Redis at {place} takes no more clients: raise its maxclients, or run fewer processes"
        )
    tls = " in TLS" if is_tls else ""
    return (Unanswered if was_sent and not is_answer else BrokerUnavailable)(
        f"Redis at {place} does not answer ({name}): is it running{tls}, and is that its address?"
    )


async def rest(pause: float, longest: float) -> float:
    """Sleep for about ``pause`` seconds; gives back the pause to make next time."""
    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
    return min(pause * 2, longest)
