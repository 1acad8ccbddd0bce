"""A half-open connection is noticed and replaced."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    TryAgainError,
)

from aiospinach import BrokerError, BrokerUnavailable, Engine, JobStatus, RedisBroker
from aiospinach.brokers.redis.cluster_transport import ClusterTransport
from aiospinach.brokers.redis.connection import ServerConnection
from aiospinach.brokers.redis.endpoints import endpoint_of
from aiospinach.brokers.redis.errors import to_broker_error
from aiospinach.brokers.redis.protocol import RespProtocol
from aiospinach.brokers.redis.transports import DirectTransport, Transport

from ..servers import Server, free_port
from ..waiting import until
from .conftest import SCRIPTS, live
from .proxy import Proxy

IN_TIME = 2.0


@asynccontextmanager
async def cluster_behind_a_proxy() -> AsyncIterator[tuple[Proxy, Server]]:
    """A Cluster of one node, which announces the address of the proxy."""
    async with Proxy(free_port()) as proxy:
        server = Server(
            *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
            *("--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(proxy.port)),
        )
        server.port = proxy._target
        proxy.lose_answers(None, SCRIPTS)
        try:
            with server.start().client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
                await until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
            yield proxy, server
        finally:
            server.close()


def engine_on(url: str, namespace: str) -> Engine:
    engine = Engine(RedisBroker(url, enqueue_timeout=IN_TIME), namespace)
    engine.task(name="job")(lambda: None)
    return engine


async def test_schedule_uses_another_connection_in_time(
    namespace: str, proxy: Proxy, plain: redis.Redis
) -> None:
    async with engine_on(proxy.url, namespace) as engine:
        await engine.schedule("job")
        for number in range(2):
            proxy.make_half_open()
            assert (await engine.schedule("job")).status is JobStatus.QUEUED
            assert live(plain, namespace) == number + 2


async def test_schedule_on_a_cluster_uses_another_connection_in_time(namespace: str) -> None:
    async with (
        cluster_behind_a_proxy() as (proxy, server),
        engine_on(f"redis+cluster://127.0.0.1:{proxy.port}", namespace) as engine,
    ):
        await engine.schedule("job")
        await asyncio.gather(*(engine.cancel(str(number)) for number in range(5)))  # opens a connection each
        proxy.make_half_open()
        assert (await engine.schedule("job")).status is JobStatus.QUEUED
        with server.client() as client:
            assert live(client, namespace) == 2


async def test_the_first_call_of_a_process_uses_another_connection_in_time(
    namespace: str, proxy: Proxy
) -> None:
    engine = engine_on(proxy.url, namespace)
    proxy.is_black_hole = True
    call = asyncio.create_task(engine.schedule("job"))
    await until(lambda: proxy.calls[b"PING"])
    proxy.make_half_open()
    proxy.is_black_hole = False
    assert (await call).status is JobStatus.QUEUED
    async with engine:
        pass


# Idle connections.


async def cancel_over_half_open_connections(engine: Engine, proxy: Proxy) -> None:
    """Make calls that are not repeated, since their answers would differ."""
    async with engine:
        job = await engine.schedule("job")
        for _ in range(3):
            proxy.make_half_open()
            assert await engine.cancel("another") is JobStatus.NOT_SET
        assert await engine.cancel(job) is JobStatus.QUEUED


@pytest.fixture
def idle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every connection count as idle."""
    monkeypatch.setattr("aiospinach.brokers.redis.endpoints.IDLE_AFTER", -1.0)


@pytest.mark.usefixtures("idle_at_once")
async def test_an_idle_connection_is_checked_before_use(namespace: str, proxy: Proxy) -> None:
    await cancel_over_half_open_connections(engine_on(proxy.url, namespace), proxy)


@pytest.mark.usefixtures("idle_at_once")
async def test_idle_connections_to_a_cluster_are_replaced(namespace: str) -> None:
    async with cluster_behind_a_proxy() as (proxy, _):
        engine = engine_on(f"redis+cluster://127.0.0.1:{proxy.port}", namespace)
        await cancel_over_half_open_connections(engine, proxy)


async def test_concurrent_callers_check_an_idle_connection_once(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[RespProtocol] = []
    is_alive = RespProtocol.is_alive

    async def check(protocol: RespProtocol, within: float) -> bool:
        checks.append(protocol)
        return await is_alive(protocol, within)

    monkeypatch.setattr(RespProtocol, "is_alive", check)
    connection = connection_to(proxy.url)
    await connection.call("PING", timeout=5)
    connection._trusted_until = 0.0
    proxy.make_half_open()
    answers = await asyncio.gather(*(connection.call("ECHO", str(n), timeout=9) for n in range(20)))
    assert answers == [str(number).encode() for number in range(20)]
    assert len(checks) == 1
    await connection.aclose()


@pytest.mark.parametrize(("setting", "pings"), [("?health_check_interval=0", 0), ("", 0), ("idle", 3)])
async def test_a_connection_in_use_is_not_checked(
    proxy: Proxy, setting: str, pings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting == "idle":
        monkeypatch.setattr("aiospinach.brokers.redis.endpoints.IDLE_AFTER", -1.0)
    connection = connection_to(proxy.url + setting.removeprefix("idle"))
    await connection.call("ECHO", "a", timeout=5)
    before = proxy.calls[b"PING"]
    for _ in range(3):
        await connection.call("ECHO", "a", timeout=5)
    assert proxy.calls[b"PING"] - before == pings
    await connection.aclose()


async def test_an_idle_connection_is_kept_if_the_check_is_refused(own_server: Server) -> None:
    connection = connection_to(own_server.url)
    await connection.call("ECHO", "a", timeout=5)
    protocol, connection._trusted_until = connection._protocol, 0.0
    with own_server.client() as client:
        client.execute_command("ACL SETUSER default -ping")
    assert await connection.call("ECHO", "a", timeout=5) == b"a"
    assert connection._protocol is protocol
    await connection.aclose()


# Keepalive.


def connection_to(url: str) -> ServerConnection:
    transport = endpoint_of(url).transport()
    assert isinstance(transport, DirectTransport)
    return transport._work


@pytest.mark.parametrize(("setting", "is_on"), [("", True), ("?socket_keepalive=false", False)])
async def test_keepalive_is_set_on_connections(own_server: Server, setting: str, is_on: bool) -> None:
    connection = connection_to(own_server.url + setting)
    await connection.call("PING", timeout=5)
    assert connection._protocol is not None
    found = connection._protocol._transport.get_extra_info("socket")
    assert bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is is_on
    if is_on and hasattr(socket, "TCP_KEEPIDLE"):
        names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [found.getsockopt(socket.IPPROTO_TCP, name) for name in names] == [30, 10, 3]
    await connection.aclose()


async def test_keepalive_is_set_on_connections_to_a_cluster(namespace: str) -> None:
    async with cluster_behind_a_proxy() as (proxy, _):
        transport: Transport = endpoint_of(f"redis+cluster://127.0.0.1:{proxy.port}").transport()
        assert isinstance(transport, ClusterTransport)
        await transport.producer_call("TIME")
        sockets = [
            connection._writer.get_extra_info("socket")  # type: ignore[union-attr]
            for connection in transport._connections_of(transport._client)
            if connection.is_connected
        ]
        assert sockets
        assert all(each.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for each in sockets)
        if hasattr(socket, "TCP_KEEPINTVL"):
            assert {each.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) for each in sockets} == {10}
        await transport.aclose()


# URLs of nodes of a Cluster.


async def test_the_url_of_a_cluster_node_is_refused_with_the_one_to_use(namespace: str) -> None:
    async with cluster_behind_a_proxy() as (proxy, _):
        url = f"redis+cluster://127.0.0.1:{proxy.port}"
        engine = engine_on(proxy.url, namespace)
        for call in (engine.schedule("job"), engine.cancel("a"), engine.start_workers()):
            with pytest.raises(BrokerError, match=re.escape(url)) as caught:
                await call
            assert not isinstance(caught.value, BrokerUnavailable), "a retry does not help"
        await engine._broker.aclose()


@pytest.mark.parametrize(
    "error",
    [
        MovedError("1234 10.0.0.7:6379"),
        AskError("1234 10.0.0.7:6379"),
        ClusterCrossSlotError("Keys in request don't hash to the same slot"),
        ClusterDownError("Hash slot not served"),
        TryAgainError("Multiple keys request during rehashing of slot"),
    ],
)
@pytest.mark.parametrize(
    ("endpoint", "to_use"),
    [
        ("redis://here:7/0", "use redis+cluster://here:7"),
        ("rediss://here:7/0", "use rediss+cluster://here:7"),
        ("unix:///run/s", "use redis+cluster://host:6379"),
    ],
)
def test_errors_of_cluster_nodes_are_recognized(error: Exception, endpoint: str, to_use: str) -> None:
    found = to_broker_error(error, endpoint)
    assert isinstance(found, BrokerError)
    assert not isinstance(found, BrokerUnavailable)
    assert str(found).endswith(to_use)
    if not isinstance(error, ClusterCrossSlotError):
        assert isinstance(to_broker_error(error, "redis+cluster://here:7"), BrokerUnavailable)


def test_the_error_of_a_replica_without_a_master_is_not_one_of_a_cluster() -> None:
    assert isinstance(
        to_broker_error(MasterDownError("Link with MASTER is down"), "redis://a:7/0"), BrokerUnavailable
    )
