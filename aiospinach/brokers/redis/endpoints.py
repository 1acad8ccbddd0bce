"""Endpoints: one server, a master that Sentinels name, or a Cluster."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

import redis.asyncio as redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from ...exceptions import InvalidValue
from .cluster_transport import ClusterTransport
from .errors import CLIENT_ERRORS
from .transports import ANSWER_WITHIN, CONNECT_WITHIN, DirectTransport, Transport
from .urls import read_url

SENTINEL_WITHIN = 1.5  # a call must have time for three Sentinels
DEFAULT_URL = "redis://localhost:6379/0"
URL_VARIABLE = "AIOSPINACH_URL"
_KEPT_SETTINGS = frozenset(
    {"username", "password", "db", "credential_provider", "client_name", "path", "host", "port"}
)

IDLE_AFTER = 30.0
"""Seconds after which an unused connection is tried with a PING before it is used again: a load balancer or
NAT may have dropped it silently."""
_KEEPALIVE: dict[str, Any] = {
    "socket_keepalive": True,
    "socket_keepalive_options": {  # dead after a minute; an option that the system lacks keeps its default
        getattr(socket, name): seconds
        for name, seconds in (
            ("TCP_KEEPIDLE", 30),
            ("TCP_KEEPALIVE", 30),
            ("TCP_KEEPINTVL", 10),
            ("TCP_KEEPCNT", 3),
        )
        if hasattr(socket, name)
    },
}

# Sending the name of the library takes two round trips for each connection.
_ANONYMOUS: dict[str, None] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)


class FromEnvironment:
    """Stands for the URL of an endpoint that the program does not name."""

    def __repr__(self) -> str:
        return f"<${URL_VARIABLE}, or {DEFAULT_URL}>"


FROM_ENVIRONMENT: Final = FromEnvironment()


class Endpoint(ABC):
    """A place to connect to. Its str() has no password."""

    spans_queues: bool = True
    """Whether one call may name keys of several queues."""
    is_named: bool = True
    """Whether the program names it; else the environment does, or nothing."""

    @abstractmethod
    def transport(self, patience: float = ANSWER_WITHIN) -> Transport:
        """Return a transport for the running event loop, which is not connected yet. A worker's call counts
        as lost if it has no answer after ``patience`` seconds."""


class ServerEndpoint(Endpoint):
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

    def transport(self, patience: float = ANSWER_WITHIN) -> Transport:
        async def connection() -> AbstractConnection:
            alive = {} if self._kind is UnixDomainSocketConnection else _KEEPALIVE
            return self._kind(**{**alive, **self._settings, **_own_settings()})

        return DirectTransport(str(self), connection, patience, _idle_after(self._settings))


class SentinelEndpoint(Endpoint):
    """The master of a service. Sentinels are asked for it before each connection."""

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

    def transport(self, patience: float = ANSWER_WITHIN) -> Transport:
        async def connection() -> AbstractConnection:
            # Without retries, so that a dead Sentinel does not delay the others.
            limits = {"socket_timeout": SENTINEL_WITHIN, "socket_connect_timeout": SENTINEL_WITHIN}
            asking = {**self._sentinel_settings, **limits, "retry": Retry(NoBackoff(), 0), **_ANONYMOUS}
            sentinel = Sentinel(self._sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
            try:
                host, port = await sentinel.discover_master(self._service)
            finally:  # also if the caller was cancelled
                await asyncio.shield(_close_all(sentinel.sentinels))
            return self._kind(
                **{**_KEEPALIVE, **self._settings, **_own_settings(), "host": host, "port": port}
            )

        return DirectTransport(str(self), connection, patience, _idle_after(self._settings))


async def _close_all(clients: Sequence[redis.Redis]) -> None:
    for client in clients:
        with contextlib.suppress(*CLIENT_ERRORS):
            await client.aclose()


class ClusterEndpoint(Endpoint):
    """A Cluster, found through some of its nodes."""

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

    def transport(self, patience: float = ANSWER_WITHIN) -> Transport:
        settings = {**_KEEPALIVE, **self._settings, "ssl": self._tls, **_own_settings()}
        return ClusterTransport(str(self), self._nodes, settings, patience, _idle_after(self._settings))


def endpoint_of(url_or_client: object) -> Endpoint:
    """Return the endpoint of a URL or a client of redis.asyncio, without connecting. Raises InvalidValue if
    the argument is neither, or the URL is wrong."""
    if isinstance(url_or_client, FromEnvironment):
        return _endpoint_of_environment()
    if isinstance(url_or_client, str):
        return _endpoint_of_url(url_or_client)
    if isinstance(url_or_client, redis.RedisCluster):
        nodes = [(node.host, int(node.port)) for node in url_or_client.nodes_manager.startup_nodes.values()]
        settings = _kept_settings(url_or_client.connection_kwargs)
        tls = issubclass(url_or_client.connection_kwargs.get("connection_class", Connection), SSLConnection)
        settings = {name: value for name, value in settings.items() if name not in ("host", "port", "db")}
        return ClusterEndpoint(nodes, settings, tls=tls)
    if isinstance(url_or_client, redis.Redis):
        pool = url_or_client.connection_pool
        settings = _kept_settings(pool.connection_kwargs)
        if isinstance(pool, SentinelConnectionPool):
            sentinels = [
                (str(kwargs["host"]), int(kwargs["port"]))
                for kwargs in (s.connection_pool.connection_kwargs for s in pool.sentinel_manager.sentinels)
            ]
            tls = issubclass(pool.connection_class, SSLConnection)
            asking = pool.sentinel_manager.sentinel_kwargs
            return SentinelEndpoint(sentinels, pool.service_name, settings, sentinel_settings=asking, tls=tls)
        for kind in (UnixDomainSocketConnection, SSLConnection):
            if issubclass(pool.connection_class, kind):
                return ServerEndpoint(settings, kind)
        return ServerEndpoint(settings)
    raise InvalidValue(
        "RedisBroker takes a URL such as 'redis://localhost:6379/0', or a client of redis.asyncio, not"
        f" {type(url_or_client).__name__}"
    )


def _endpoint_of_environment() -> Endpoint:
    try:
        endpoint = _endpoint_of_url(os.environ.get(URL_VARIABLE) or DEFAULT_URL)
    except InvalidValue as error:
        raise InvalidValue(f"{error}; the URL is in the environment, as {URL_VARIABLE}") from None
    endpoint.is_named = False
    return endpoint


def _endpoint_of_url(url: str) -> Endpoint:
    address = read_url(url)
    if address.scheme == "unix":
        return ServerEndpoint(address.settings, UnixDomainSocketConnection)
    if address.scheme == "redis+sentinel":
        return SentinelEndpoint(
            address.hosts,
            address.service,
            address.settings,
            sentinel_settings=address.sentinel_settings,
            tls=address.is_tls,
        )
    if address.scheme == "redis+cluster":
        return ClusterEndpoint(address.hosts, address.settings, tls=address.is_tls)
    return ServerEndpoint(address.settings, SSLConnection if address.is_tls else Connection)


def _kept_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in settings.items()
        if value is not None and (name in _KEPT_SETTINGS or name.startswith("ssl_"))
    }


def _idle_after(settings: Mapping[str, Any]) -> float:
    return float(settings.get("health_check_interval", IDLE_AFTER)) or math.inf


def _own_settings() -> dict[str, Any]:
    """Return our own settings: redis-py retries nothing, and every wait has a time limit."""
    return {
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "socket_timeout": None,  # every call has a time limit of its own
        "socket_connect_timeout": CONNECT_WITHIN,
        "decode_responses": False,
        "protocol": 2,  # the same answers in every release of redis-py, and no pushes
        "health_check_interval": 0,  # ServerConnection and ClusterTransport check themselves
        **_ANONYMOUS,
    }
