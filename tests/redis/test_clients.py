"""A RedisBroker takes its settings from clients of redis.asyncio, and does not use these clients."""

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


async def test_connection_settings_are_taken_from_a_client() -> None:
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


async def test_settings_are_taken_from_a_client_with_tls() -> None:
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


async def test_settings_are_taken_from_a_client_of_a_unix_socket() -> None:
    client = redis.Redis(unix_socket_path="/run/s", db=2)
    kind, settings = settings_of(endpoint_of(client))
    assert kind is UnixDomainSocketConnection
    assert (settings["path"], settings["db"]) == ("/run/s", 2)


@pytest.mark.parametrize("tls", [False, True])
async def test_settings_are_taken_from_a_client_of_sentinels(tls: bool) -> None:
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [("a", 1), ("b", 2)], sentinel_kwargs={"password": "theirs"}, password="pw"
    )
    endpoint = endpoint_of(sentinel.master_for("mymaster", db=3, ssl=tls))
    assert isinstance(endpoint, SentinelEndpoint)
    assert endpoint._sentinels == [("a", 1), ("b", 2)]
    assert endpoint._service == "mymaster"
    assert (endpoint._settings["password"], endpoint._settings["db"]) == ("pw", 3)
    assert endpoint._kind is (SSLConnection if tls else Connection)
    assert endpoint._sentinel_settings["password"] == "theirs"
    endpoint._kind(host="a", port=1, **endpoint._settings)


@pytest.mark.parametrize("tls", [False, True])
async def test_settings_are_taken_from_a_client_of_a_cluster(tls: bool) -> None:
    client = redis.RedisCluster(host="a", port=7, username="user", password="pw", ssl=tls)
    endpoint = endpoint_of(client)
    assert isinstance(endpoint, ClusterEndpoint)
    assert endpoint._nodes == [("a", 7)]
    assert (endpoint._settings["username"], endpoint._settings["password"]) == ("user", "pw")
    assert endpoint._tls is tls
    assert {"host", "port", "db"}.isdisjoint(endpoint._settings)


async def test_the_client_itself_is_not_used(namespace: str, own_server: Server) -> None:
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
