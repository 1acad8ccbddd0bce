"""Where a Redis is, and connections to it that time out, and are made anew by the next call."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
import redis.asyncio as redis
from redis import __version__ as redis_version
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
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

from ..exceptions import BrokerError, BrokerUnavailable, InvalidValue

CONNECT_WITHIN = 5.0
SENTINEL_WITHIN = 1.5  # three of them must fit into a call
ANSWER_WITHIN = 10.0
"""Seconds until a call that got no answer counts as lost."""
SHORTEST_WAIT = 0.001  # 0 would mean for ever
WATCHDOG = 2.0
"""Seconds after its own time limit at which a blocking call is given up."""

# uvloop has a RuntimeError for whoever writes to a connection that was closed meanwhile.
# redis-py's error for a Cluster none of whose nodes can be reached is no RedisError.
_BROKEN = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)

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
_KEPT = frozenset(
    {"username", "password", "db", "credential_provider", "client_name", "path", "host", "port"}
)
_TLS = frozenset(inspect.signature(SSLConnection.__init__).parameters)

# Telling the server the name of the library takes two trips at every connection.
_ANONYMOUS: dict[str, None] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)


class Unanswered(BrokerUnavailable):
    """The call was sent, and nobody knows whether it was carried out."""


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
    async def produce(self, *command: Any) -> Any:
        """A call of whoever schedules: it never waits behind the workers'."""

    @abstractmethod
    async def pop(self, keys: Sequence[str], timeout: float) -> Sequence[str]:
        """Wait for an element in one of the lists. Gives back the list's key, and then those of the lists
        whose element may have been taken as well; nothing after the time-out."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""


class Place(ABC):
    """Where to connect to. Its str() is safe to show: it has no password."""

    @abstractmethod
    def link(self) -> Link:
        """Connections for the running event loop; none is made yet."""


class Channel:
    """One connection that is made by the first call, and anew after an error. One call at a time."""

    def __init__(self, place: str, connection: Callable[[], Awaitable[AbstractConnection]]) -> None:
        self._place = place
        self._make = connection
        self._connection: AbstractConnection | None = None
        self._lock = asyncio.Lock()

    async def call(self, *command: Any, timeout: float = ANSWER_WITHIN) -> Any:
        """The answer of the server. Raises BrokerUnavailable if there is none, BrokerError if it refuses;
        redis-py's NoScriptError goes through."""
        async with self._lock:
            was_sent = False
            try:
                async with asyncio.timeout(timeout):
                    connection = await self._connected()
                    was_sent = True
                    # In C: a batch has thousands of arguments, and redis-py would look at each in Python.
                    await connection.send_packed_command(hiredis.pack_command(command))
                    return await connection.read_response()
            except ResponseError as error:
                if isinstance(error, ReadOnlyError) or str(error).startswith("UNBLOCKED"):
                    await self.aclose()  # another server is the master now
                raise _translated(error, self._place) from error
            except _BROKEN as error:
                await self.aclose()
                raise _translated(error, self._place, was_sent) from error
            except BaseException:
                await self.aclose()  # an answer may be under way that nobody waits for
                raise

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
        return await self._work.call(*command)

    async def produce(self, *command: Any) -> Any:
        return await self._produce.call(*command)

    async def pop(self, keys: Sequence[str], timeout: float) -> Sequence[str]:
        answer = await self._wait.call(
            "BLPOP", *keys, max(timeout, SHORTEST_WAIT), timeout=timeout + WATCHDOG
        )
        return [] if answer is None else [answer[0].decode()]

    async def aclose(self) -> None:
        for channel in (self._work, self._produce, self._wait):
            await channel.aclose()


class ServerPlace(Place):
    """One server."""

    def __init__(self, settings: Mapping[str, Any], kind: type[AbstractConnection] = Connection) -> None:
        self._settings = settings
        self._kind = kind

    def __str__(self) -> str:
        if self._kind is UnixDomainSocketConnection:
            return f"unix://{self._settings.get('path')}"
        scheme = "rediss" if issubclass(self._kind, SSLConnection) else "redis"
        settings = self._settings
        return f"{scheme}://{settings.get('host')}:{settings.get('port')}/{settings.get('db', 0)}"

    def link(self) -> Link:
        async def connection() -> AbstractConnection:
            return self._kind(**self._settings, **_own())

        return DirectLink(str(self), connection)


class SentinelPlace(Place):
    """The master of a service, which Sentinels name; asked anew for every connection."""

    def __init__(
        self,
        sentinels: Sequence[tuple[str, int]],
        service: str,
        settings: Mapping[str, Any],
        *,
        sentinel_settings: Mapping[str, Any] | None = None,
        tls: bool = False,
    ) -> None:
        self._sentinels = list(sentinels)
        self._service = service
        self._settings = settings
        self._sentinel_settings = sentinel_settings or {}
        self._kind = SSLConnection if tls else Connection

    def __str__(self) -> str:
        scheme = "rediss" if self._kind is SSLConnection else "redis"
        return f"{scheme}+sentinel://{','.join(f'{h}:{p}' for h, p in self._sentinels)}/{self._service}"

    def link(self) -> Link:
        async def connection() -> AbstractConnection:
            # Without repetition, so that one of them that is dead does not hold up the question.
            limits = {"socket_timeout": SENTINEL_WITHIN, "socket_connect_timeout": SENTINEL_WITHIN}
            asking = {**self._sentinel_settings, **limits, "retry": Retry(NoBackoff(), 0)}
            sentinel = Sentinel(self._sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
            try:
                host, port = await sentinel.discover_master(self._service)
            finally:  # also where the caller gives up in the middle
                await asyncio.shield(_closed(sentinel.sentinels))
            return self._kind(host=host, port=port, **self._settings, **_own())

        return DirectLink(str(self), connection)


async def _closed(clients: Sequence[redis.Redis]) -> None:
    for client in clients:
        with contextlib.suppress(*_BROKEN):
            await client.aclose()


class ClusterPlace(Place):
    """A Cluster, through some of its nodes."""

    def __init__(
        self, nodes: Sequence[tuple[str, int]], settings: Mapping[str, Any], *, tls: bool = False
    ) -> None:
        self._nodes = list(nodes)
        self._settings = settings
        self._tls = tls

    def __str__(self) -> str:
        scheme = "rediss" if self._tls else "redis"
        return f"{scheme}+cluster://{','.join(f'{host}:{port}' for host, port in self._nodes)}"

    def link(self) -> Link:
        return ClusterLink(str(self), self._nodes, {**self._settings, "ssl": self._tls})


class ClusterLink(Link):
    """redis-py's client of a Cluster, which finds the node of a key and follows keys that move."""

    def __init__(self, place: str, nodes: Sequence[tuple[str, int]], settings: Mapping[str, Any]) -> None:
        self._place = place
        self._nodes = nodes
        self._settings = settings
        self._client: redis.RedisCluster | None = None

    async def work(self, *command: Any) -> Any:
        return await self._call(*command)

    async def produce(self, *command: Any) -> Any:
        return await self._call(*command)

    async def pop(self, keys: Sequence[str], timeout: float) -> Sequence[str]:
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
        woken: list[str] = []
        try:
            while waiting and not woken:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                errors += (error for call in done if (error := call.exception()) is not None)
                woken = [calls[call] for call in done if call.exception() is None and call.result()]
        finally:
            for call in waiting:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        if len(errors) == len(calls):  # a node that is away does not deafen the queues of the others
            raise errors[0]
        return [*woken, *(calls[call] for call in waiting)]

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
                        **_own(),
                    )
                    self._client.response_callbacks.pop("INFO", None)  # answers come as they are
                client = await self._client.initialize()
                was_sent = True
                # What has no key goes to any node.
                target = {"target_nodes": client.get_default_node()} if command[0] in _KEYLESS else {}
                return await client.execute_command(*command, **target)
        except _BROKEN as error:
            raise _translated(error, self._place, was_sent) from error


def place_of(url_or_client: object) -> Place:
    """Where a URL or a client of redis.asyncio leads; InvalidValue if it is neither. Nothing connects."""
    if isinstance(url_or_client, str):
        return _place_of_url(url_or_client)
    if isinstance(url_or_client, redis.RedisCluster):
        nodes = [(node.host, int(node.port)) for node in url_or_client.nodes_manager.startup_nodes.values()]
        settings = _kept(url_or_client.connection_kwargs)
        tls = issubclass(url_or_client.connection_kwargs.get("connection_class", Connection), SSLConnection)
        settings = {name: value for name, value in settings.items() if name not in ("host", "port", "db")}
        return ClusterPlace(nodes, settings, tls=tls)
    if isinstance(url_or_client, redis.Redis):
        pool = url_or_client.connection_pool
        settings = _kept(pool.connection_kwargs)
        if isinstance(pool, SentinelConnectionPool):
            sentinels = [
                (str(kwargs["host"]), int(kwargs["port"]))
                for kwargs in (s.connection_pool.connection_kwargs for s in pool.sentinel_manager.sentinels)
            ]
            tls = issubclass(pool.connection_class, SSLConnection)
            asking = pool.sentinel_manager.sentinel_kwargs
            return SentinelPlace(sentinels, pool.service_name, settings, sentinel_settings=asking, tls=tls)
        for kind in (UnixDomainSocketConnection, SSLConnection):
            if issubclass(pool.connection_class, kind):
                return ServerPlace(settings, kind)
        return ServerPlace(settings)
    raise InvalidValue(
        "RedisBroker takes a URL such as 'redis://localhost:6379/0', or a client of redis.asyncio, not"
        f" {type(url_or_client).__name__}"
    )


def _place_of_url(url: str) -> Place:
    try:
        parts = urlsplit(url)
        hosts = _hosts_of(parts.netloc.rpartition("@")[2])
    except ValueError:
        raise InvalidValue("RedisBroker: the URL cannot be read") from None
    if parts.fragment or "@" in parts.path + parts.query:  # not shown: it is the end of a password
        raise InvalidValue(
            "RedisBroker: a '/', '?', '#' or '@' in the password of a URL is written %2F, %3F, %23 or %40"
        )
    settings: dict[str, Any] = {
        name: unquote(value)
        for name, value in (("username", parts.username), ("password", parts.password))
        if value
    }
    path = unquote(parts.path)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if parts.scheme == "unix":
        if not path or parts.netloc.rpartition("@")[2]:
            raise InvalidValue("RedisBroker: unix:// needs an absolute path: unix:///run/redis.sock")
        return ServerPlace(
            {**settings, "path": path, "db": _db_of(query.get("db", "0"))}, UnixDomainSocketConnection
        )
    is_tls = parts.scheme.startswith("rediss")
    tls = _tls_of(query) if is_tls else {}
    if parts.scheme in ("redis+sentinel", "rediss+sentinel"):
        service, _, db = path.strip("/").partition("/")
        if not service:
            raise InvalidValue(
                "RedisBroker: redis+sentinel:// needs a service: redis+sentinel://host:26379/mymaster"
            )
        asking: dict[str, Any] = {"ssl": True, **tls} if is_tls else {}
        for name in ("username", "password"):
            if f"sentinel_{name}" in query:
                asking[name] = query[f"sentinel_{name}"]
        return SentinelPlace(
            [(host, port or 26379) for host, port in hosts],
            service,
            {**settings, **tls, "db": _db_of(db or "0")},
            sentinel_settings=asking,
            tls=is_tls,
        )
    if parts.scheme in ("redis+cluster", "rediss+cluster"):
        nodes = [(host, port or 6379) for host, port in hosts]
        return ClusterPlace(nodes, {**settings, **tls}, tls=is_tls)
    if parts.scheme not in ("redis", "rediss"):
        raise InvalidValue(
            f"RedisBroker: {parts.scheme[:20] or 'no'!r} is no scheme that it knows; it knows redis://, rediss://,"
            " unix://, redis+sentinel:// and redis+cluster://"
        )
    if len(hosts) > 1:
        raise InvalidValue(f"RedisBroker: {parts.scheme}:// takes one host, and has {len(hosts)}")
    host, port = hosts[0]
    settings |= {"host": host, "port": port or 6379, "db": _db_of(query.get("db") or path.strip("/") or "0")}
    if parts.scheme == "redis":
        return ServerPlace(settings)
    return ServerPlace({**settings, **tls}, SSLConnection)


def _hosts_of(netloc: str) -> list[tuple[str, int | None]]:
    hosts = []
    for part in netloc.split(","):
        parsed = urlsplit(f"//{part}")
        hosts.append((parsed.hostname or "localhost", parsed.port))
    return hosts


def _db_of(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidValue(f"RedisBroker: {text[:20]!r} is no number of a database")
    return int(text)


def _tls_of(query: Mapping[str, str]) -> dict[str, Any]:
    tls: dict[str, Any] = {name: value for name, value in query.items() if name.startswith("ssl_")}
    for name, value in tls.items():
        if name not in _TLS or (name == "ssl_cert_reqs" and value not in ("none", "optional", "required")):
            raise InvalidValue(f"RedisBroker: the URL has a setting {name} that redis-py does not know")
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"].lower() not in ("0", "f", "false", "n", "no")
    return tls


def _kept(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in settings.items()
        if value is not None and (name in _KEPT or name.startswith("ssl_"))
    }


def _own() -> dict[str, Any]:
    """Settings of our own: no repetition behind our back, and every wait has an end."""
    return {
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "socket_timeout": None,  # every call has a time limit of its own
        "socket_connect_timeout": CONNECT_WITHIN,
        "decode_responses": False,
        "health_check_interval": 0,
        **_ANONYMOUS,
    }


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
    tls = " in TLS" if is_tls else ""
    return (Unanswered if was_sent and not is_answer else BrokerUnavailable)(
        f"Redis at {place} does not answer ({name}): is it running{tls}, and is that its address?"
    )


async def rest(pause: float, longest: float) -> float:
    """Sleep for about ``pause`` seconds; gives back the pause to make next time."""
    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
    return min(pause * 2, longest)
