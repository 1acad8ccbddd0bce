"""A connection that was dropped without a word on its way is noticed, and another takes its place."""

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
    """A Cluster of one node, which tells clients to come to the proxy."""
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


async def test_what_is_scheduled_goes_over_another_connection_in_time(
    namespace: str, proxy: Proxy, plain: redis.Redis
) -> None:
    async with engine_on(proxy.url, namespace) as engine:
        await engine.schedule("job")
        for number in range(2):
            proxy.swallow()
            assert (await engine.schedule("job")).status is JobStatus.QUEUED
            assert live(plain, namespace) == number + 2


async def test_what_is_scheduled_on_a_cluster_goes_over_another_connection_in_time(namespace: str) -> None:
    async with (
        cluster_behind_a_proxy() as (proxy, server),
        engine_on(f"redis+cluster://127.0.0.1:{proxy.port}", namespace) as engine,
    ):
        await engine.schedule("job")
        await asyncio.gather(*(engine.cancel(str(number)) for number in range(5)))  # a connection for each
        proxy.swallow()
        assert (await engine.schedule("job")).status is JobStatus.QUEUED
        with server.client() as client:
            assert live(client, namespace) == 2


async def test_the_first_call_of_a_process_goes_over_another_connection_in_time(
    namespace: str, proxy: Proxy
) -> None:
    engine = engine_on(proxy.url, namespace)
    proxy.is_black_hole = True
    call = asyncio.create_task(engine.schedule("job"))
    await until(lambda: proxy.calls[b"PING"])
    proxy.swallow()
    proxy.is_black_hole = False
    assert (await call).status is JobStatus.QUEUED
    async with engine:
        pass


# What was idle.


async def order_over_dropped_connections(engine: Engine, proxy: Proxy) -> None:
    """Calls that are not repeated, since their answer would differ then."""
    async with engine:
        job = await engine.schedule("job")
        for _ in range(3):
            proxy.swallow()
            assert await engine.cancel("another") is JobStatus.NOT_SET
        assert await engine.cancel(job) is JobStatus.QUEUED


@pytest.fixture
def idle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection counts as idle."""
    monkeypatch.setattr("aiospinach.brokers.redis.endpoints.IDLE_AFTER", -1.0)


@pytest.mark.usefixtures("idle_at_once")
async def test_a_connection_that_was_idle_is_looked_at_before_it_is_used(
    namespace: str, proxy: Proxy
) -> None:
    await order_over_dropped_connections(engine_on(proxy.url, namespace), proxy)


@pytest.mark.usefixtures("idle_at_once")
async def test_connections_to_a_cluster_that_were_idle_are_made_anew(namespace: str) -> None:
    async with cluster_behind_a_proxy() as (proxy, _):
        engine = engine_on(f"redis+cluster://127.0.0.1:{proxy.port}", namespace)
        await order_over_dropped_connections(engine, proxy)


async def test_many_callers_who_find_a_connection_idle_look_once(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[RespProtocol] = []
    is_alive = RespProtocol.is_alive

    async def look(protocol: RespProtocol, within: float) -> bool:
        looks.append(protocol)
        return await is_alive(protocol, within)

    monkeypatch.setattr(RespProtocol, "is_alive", look)
    channel = channel_to(proxy.url)
    await channel.call("PING", timeout=5)
    channel._trusted_until = 0.0
    proxy.swallow()
    answers = await asyncio.gather(*(channel.call("ECHO", str(n), timeout=9) for n in range(20)))
    assert answers == [str(number).encode() for number in range(20)]
    assert len(looks) == 1
    await channel.aclose()


@pytest.mark.parametrize(("setting", "pings"), [("?health_check_interval=0", 0), ("", 0), ("idle", 3)])
async def test_a_connection_in_use_costs_no_look(
    proxy: Proxy, setting: str, pings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting == "idle":
        monkeypatch.setattr("aiospinach.brokers.redis.endpoints.IDLE_AFTER", -1.0)
    channel = channel_to(proxy.url + setting.removeprefix("idle"))
    await channel.call("ECHO", "a", timeout=5)
    before = proxy.calls[b"PING"]
    for _ in range(3):
        await channel.call("ECHO", "a", timeout=5)
    assert proxy.calls[b"PING"] - before == pings
    await channel.aclose()


async def test_an_idle_server_that_refuses_the_look_lives(own_server: Server) -> None:
    channel = channel_to(own_server.url)
    await channel.call("ECHO", "a", timeout=5)
    protocol, channel._trusted_until = channel._protocol, 0.0
    with own_server.client() as client:
        client.execute_command("ACL SETUSER default -ping")
    assert await channel.call("ECHO", "a", timeout=5) == b"a"
    assert channel._protocol is protocol
    await channel.aclose()


# Keepalive.


def channel_to(url: str) -> ServerConnection:
    transport = endpoint_of(url).transport()
    assert isinstance(transport, DirectTransport)
    return transport._work


@pytest.mark.parametrize(("setting", "is_on"), [("", True), ("?socket_keepalive=false", False)])
async def test_the_system_watches_connections_that_nobody_uses(
    own_server: Server, setting: str, is_on: bool
) -> None:
    channel = channel_to(own_server.url + setting)
    await channel.call("PING", timeout=5)
    assert channel._protocol is not None
    found = channel._protocol._transport.get_extra_info("socket")
    assert bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is is_on
    if is_on and hasattr(socket, "TCP_KEEPIDLE"):
        names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [found.getsockopt(socket.IPPROTO_TCP, name) for name in names] == [30, 10, 3]
    await channel.aclose()


async def test_it_watches_those_to_a_cluster(namespace: str) -> None:
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


# A node of a Cluster is no server of its own.


async def test_the_url_of_a_node_of_a_cluster_is_refused_with_the_one_to_use(namespace: str) -> None:
    async with cluster_behind_a_proxy() as (proxy, _):
        url = f"redis+cluster://127.0.0.1:{proxy.port}"
        engine = engine_on(proxy.url, namespace)
        for call in (engine.schedule("job"), engine.cancel("a"), engine.start_workers()):
            with pytest.raises(BrokerError, match=re.escape(url)) as caught:
                await call
            assert not isinstance(caught.value, BrokerUnavailable), "trying again does not help"
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
    ("place", "to_use"),
    [
        ("redis://here:7/0", "use redis+cluster://here:7"),
        ("rediss://here:7/0", "use rediss+cluster://here:7"),
        ("unix:///run/s", "use redis+cluster://host:6379"),
    ],
)
def test_what_only_nodes_of_a_cluster_say_is_understood(error: Exception, place: str, to_use: str) -> None:
    found = to_broker_error(error, place)
    assert isinstance(found, BrokerError)
    assert not isinstance(found, BrokerUnavailable)
    assert str(found).endswith(to_use)
    if not isinstance(error, ClusterCrossSlotError):
        assert isinstance(to_broker_error(error, "redis+cluster://here:7"), BrokerUnavailable)


def test_a_replica_without_a_master_is_no_node_of_a_cluster() -> None:
    assert isinstance(
        to_broker_error(MasterDownError("Link with MASTER is down"), "redis://a:7/0"), BrokerUnavailable
    )
