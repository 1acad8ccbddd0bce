"""Where a Redis is: one server, a master that Sentinels name, or a Cluster."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis.asyncio as redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from ..exceptions import InvalidValue
from .cluster_link import ClusterLink
from .failures import BROKEN
from .links import ANSWER_WITHIN, CONNECT_WITHIN, DirectLink, Link

SENTINEL_WITHIN = 1.5  # three of them must fit into a call
_KEPT = frozenset(
    {"username", "password", "db", "credential_provider", "client_name", "path", "host", "port"}
)
_TLS = frozenset(inspect.signature(SSLConnection.__init__).parameters)
_CLUSTER = frozenset(inspect.signature(redis.RedisCluster.__init__).parameters)

# Telling the server the name of the library takes two trips at every connection.
_ANONYMOUS: dict[str, None] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)


class Place(ABC):
    """Where to connect to. Its str() is safe to show: it has no password."""

    spans_queues: bool = True
    """One call may name keys of several queues."""

    @abstractmethod
    def link(self, patience: float = ANSWER_WITHIN) -> Link:
        """Connections for the running event loop; none is made yet. A call of the workers that has no answer
        after ``patience`` seconds counts as lost."""


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

    def link(self, patience: float = ANSWER_WITHIN) -> Link:
        async def connection() -> AbstractConnection:
            return self._kind(**self._settings, **_own())

        return DirectLink(str(self), connection, patience)


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

    def link(self, patience: float = ANSWER_WITHIN) -> Link:
        async def connection() -> AbstractConnection:
            # Without repetition, so that one of them that is dead does not hold up the question.
            limits = {"socket_timeout": SENTINEL_WITHIN, "socket_connect_timeout": SENTINEL_WITHIN}
            asking = {**self._sentinel_settings, **limits, "retry": Retry(NoBackoff(), 0), **_ANONYMOUS}
            sentinel = Sentinel(self._sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
            try:
                host, port = await sentinel.discover_master(self._service)
            finally:  # also where the caller gives up in the middle
                await asyncio.shield(_closed(sentinel.sentinels))
            return self._kind(host=host, port=port, **self._settings, **_own())

        return DirectLink(str(self), connection, patience)


async def _closed(clients: Sequence[redis.Redis]) -> None:
    for client in clients:
        with contextlib.suppress(*BROKEN):
            await client.aclose()


class ClusterPlace(Place):
    """A Cluster, through some of its nodes."""

    spans_queues = False

    def __init__(
        self, nodes: Sequence[tuple[str, int]], settings: Mapping[str, Any], *, tls: bool = False
    ) -> None:
        self._nodes = list(nodes)
        self._settings = settings
        self._tls = tls

    def __str__(self) -> str:
        scheme = "rediss" if self._tls else "redis"
        return f"{scheme}+cluster://{','.join(f'{host}:{port}' for host, port in self._nodes)}"

    def link(self, patience: float = ANSWER_WITHIN) -> Link:
        settings = {**self._settings, "ssl": self._tls, **_own()}
        return ClusterLink(str(self), self._nodes, settings, patience)


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
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
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
            if query.get(f"sentinel_{name}"):
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
        for name in tls.keys() - _CLUSTER:
            raise InvalidValue(f"RedisBroker: redis-py has no setting {name} for a Cluster")
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
        if name in ("ssl_include_verify_flags", "ssl_exclude_verify_flags"):
            raise InvalidValue(
                f"RedisBroker: {name} is a list, which no URL can carry: pass a client of redis.asyncio"
            )
        if name not in _TLS or (name == "ssl_cert_reqs" and value not in ("none", "optional", "required")):
            raise InvalidValue(f"RedisBroker: the URL has a setting {name} that redis-py does not know")
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"].lower() not in ("0", "f", "false", "n", "no")
    if "ssl_min_version" in tls:
        version = tls["ssl_min_version"].replace(".", "_")
        if version not in ("TLSv1_2", "TLSv1_3"):
            raise InvalidValue("RedisBroker: ssl_min_version must be TLSv1_2, TLSv1.2, TLSv1_3 or TLSv1.3")
        tls["ssl_min_version"] = ssl.TLSVersion[version]
    # Not so by itself before redis-py 6.
    tls.setdefault("ssl_check_hostname", tls.get("ssl_cert_reqs") != "none")
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
        "protocol": 2,  # the same answers with every redis-py, and none that nobody asked for
        "health_check_interval": 0,
        **_ANONYMOUS,
    }
