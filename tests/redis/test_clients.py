"""Clients of redis.asyncio tell a RedisBroker where to connect, and are not used themselves."""

from __future__ import annotations

import ssl

import pytest
import redis.asyncio as redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import Sentinel

from aiospinach import Engine, RedisBroker
from aiospinach.brokers.redis.endpoints import ClusterEndpoint, SentinelEndpoint, endpoint_of

from ..servers import Server
from .conftest import settings_of


async def test_a_client_is_read_for_its_settings_only() -> None:
    client = redis.Redis(
        host="a",
        port=7,
        db=3,
        username="user",
        password="pw",
        socket_timeout=1,
        decode_responses=True,
        health_check_interval=5,
        protocol=2,
        max_connections=1,
    )
    expected = {"host": "a", "port": 7, "db": 3, "username": "user", "password": "pw"}
    assert settings_of(endpoint_of(client)) == (Connection, expected)


async def test_a_client_with_tls_is_read() -> None:
    version = ssl.TLSVersion.TLSv1_3
    client = redis.Redis(
        host="a", ssl=True, ssl_ca_certs="/ca.pem", ssl_cert_reqs="none", ssl_min_version=version
    )
    kind, settings = settings_of(endpoint_of(client))
    assert kind is SSLConnection
    assert settings["ssl_ca_certs"] == "/ca.pem"
    assert settings["ssl_cert_reqs"] == "none"
    assert settings["ssl_min_version"] is version
    assert kind(**settings).ssl_context.cert_reqs is ssl.CERT_NONE


async def test_a_client_of_a_socket_is_read() -> None:
    client = redis.Redis(unix_socket_path="/run/s", db=2)
    kind, settings = settings_of(endpoint_of(client))
    assert kind is UnixDomainSocketConnection
    assert (settings["path"], settings["db"]) == ("/run/s", 2)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_client_from_sentinels_is_read(tls: bool) -> None:
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [("a", 1), ("b", 2)], sentinel_kwargs={"password": "theirs"}, password="pw"
    )
    place = endpoint_of(sentinel.master_for("mymaster", db=3, ssl=tls))
    assert isinstance(place, SentinelEndpoint)
    assert place._sentinels == [("a", 1), ("b", 2)]
    assert place._service == "mymaster"
    assert (place._settings["password"], place._settings["db"]) == ("pw", 3)
    assert place._kind is (SSLConnection if tls else Connection)
    assert place._sentinel_settings["password"] == "theirs"
    place._kind(host="a", port=1, **place._settings)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_client_of_a_cluster_is_read(tls: bool) -> None:
    client = redis.RedisCluster(host="a", port=7, username="user", password="pw", ssl=tls)
    place = endpoint_of(client)
    assert isinstance(place, ClusterEndpoint)
    assert place._nodes == [("a", 7)]
    assert (place._settings["username"], place._settings["password"]) == ("user", "pw")
    assert place._tls is tls
    assert {"host", "port", "db"}.isdisjoint(place._settings)


async def test_a_client_is_never_used(namespace: str, own_server: Server) -> None:
    client = redis.Redis(unix_socket_path=str(own_server.socket), client_name="the-users-own")
    async with Engine(RedisBroker(client), namespace) as engine:

        @engine.task
        def job() -> None:
            pass

        await job.schedule()
        await engine.start_workers(1, stop_when_queue_empty=True)
        assert client.connection_pool._available_connections == []
        assert not client.connection_pool._in_use_connections
    await client.aclose()
