"""Errors of servers: each message names the server and the remedy."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import DefaultParser

from aiospinach import BrokerError, BrokerUnavailable, Engine, JobStatus, RedisBroker
from aiospinach.brokers.redis.errors import to_broker_error
from aiospinach.brokers.redis.protocol import RespProtocol

from .. import asking
from ..brokers_under_test import shared_server
from ..conftest import Heard
from ..servers import Server, free_port
from ..waiting import until

LEAST = (
    "resetchannels -@all +@read +@write +@connection +eval +evalsha +script|load +time"
    " +ssubscribe +sunsubscribe +spublish -@dangerous +info"
    " ~ais2:{{{namespace}:* ~ais2:{{{namespace}}}:* &ais2:{{{namespace}:*}}:*"
)
"""The permissions that the documentation requires."""


@asynccontextmanager
async def server_of_version(version: str, name: str = "redis") -> AsyncIterator[str]:
    """The URL of a server that answers HELLO with this version, and all else with OK."""
    facts: list[str | int] = [
        "server",
        name,
        "version",
        version,
        "proto",
        3,
        "id",
        1,
        "mode",
        "standalone",
        "role",
        "master",
    ]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if b"HELLO" in data.upper():
                answer = f"%{len(facts) // 2}\r\n"
                for fact in facts:
                    answer += f":{fact}\r\n" if isinstance(fact, int) else f"${len(fact)}\r\n{fact}\r\n"
                writer.write(answer.encode())
            elif b"INFO" in data.upper():
                writer.write(b"$29\r\nmaxmemory_policy:noeviction\r\n\r\n")
            else:
                writer.write(b"+OK\r\n" * data.count(b"*"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()


@pytest.mark.parametrize("version", ["6.2.0", "6.0.16", "5.0"])
async def test_an_old_server_is_refused(namespace: str, version: str) -> None:
    async with server_of_version(version) as url:
        broker = RedisBroker(url)
        with pytest.raises(
            BrokerError, match=rf"is Redis {version}, and aiospinach needs Redis 7\.0"
        ) as caught:
            await broker.open(namespace)
        assert not isinstance(caught.value, BrokerUnavailable)
        assert url in str(caught.value)
        with pytest.raises(BrokerError, match="needs Redis"):  # every call is refused
            await broker.open(namespace)
        await broker.aclose()


@pytest.mark.parametrize(("version", "name"), [("7.0.0", "redis"), ("8.2.1", "redis"), ("7.2.4", "valkey")])
async def test_a_new_server_is_accepted(namespace: str, version: str, name: str) -> None:
    async with server_of_version(version, name) as url:
        broker = RedisBroker(url)
        await broker.open(namespace)
        await broker.aclose()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}/0", "redis+cluster://127.0.0.1:{}"])
async def test_the_error_for_a_refused_connection_names_address_and_remedy(namespace: str, url: str) -> None:
    url = url.format(free_port())
    engine = Engine(RedisBroker(url, enqueue_timeout=0.1), namespace)

    @engine.task
    def job() -> None:
        pass

    for call in (job.schedule, engine.start_workers, engine.__aenter__):
        with pytest.raises(BrokerUnavailable, match=rf"{re.escape(url)} does not .*is it running") as caught:
            await call()
        assert isinstance(caught.value.__cause__, Exception)


async def test_the_error_for_a_missing_socket_names_it(namespace: str) -> None:
    with pytest.raises(BrokerUnavailable, match="unix:///nowhere/s does not answer"):
        await RedisBroker("unix:///nowhere/s").open(namespace)


@pytest.mark.parametrize("user", ["", "nobody"])
async def test_the_error_for_a_wrong_password_names_the_remedy(namespace: str, user: str) -> None:
    server = Server("--requirepass", "right").start()
    try:
        for credentials in (f"{user}:wrong@", ""):
            broker = RedisBroker(f"redis://{credentials}127.0.0.1:{server.port}")
            with pytest.raises(BrokerError, match="check user, password and ACL") as caught:
                await broker.open(namespace)
            assert not isinstance(caught.value, BrokerUnavailable)
            assert "wrong" not in str(caught.value)
            await broker.aclose()
    finally:
        server.close()


async def test_the_error_for_a_missing_database_names_it(namespace: str, own_server: Server) -> None:
    broker = RedisBroker(f"redis://127.0.0.1:{own_server.port}/99")
    with pytest.raises(BrokerError, match=r"/99 refuses a call: .*out of range") as caught:
        await broker.open(namespace)
    assert not isinstance(caught.value, BrokerUnavailable)
    await broker.aclose()


@pytest.mark.parametrize("missing", ["-evalsha -eval", "-lrange", "-zadd", "-time", "-blpop"])
async def test_the_error_for_a_denied_command_is_clear_and_workers_survive_it(
    namespace: str, own_server: Server, heard: Heard, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    with own_server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all")
        broker = RedisBroker(f"redis://app:pw@127.0.0.1:{own_server.port}", lease=2)
        async with Engine(broker, namespace) as engine:

            @engine.task
            def job() -> None:
                pass

            async def use_it_all() -> None:
                await job.schedule()
                await broker.exchange("default", [], 1)
                await broker.tick("default")
                await broker.register("default", {}, {"beat": broker.now() + 60_000})

            await engine.start_workers(1, block=False)
            client.execute_command("ACL", "SETUSER", "app", *missing.split())
            if missing != "-blpop":
                with pytest.raises(BrokerError) as caught:
                    await use_it_all()
                assert not isinstance(caught.value, BrokerUnavailable)
                assert f"127.0.0.1:{own_server.port}" in str(caught.value)
            else:
                with pytest.raises(BrokerError, match="check user, password and ACL"):
                    await broker.wait(["default"], 0.01)
            client.execute_command("ACL", "SETUSER", "app", "+@all")
            await job.schedule()
            await until(lambda: heard.count("job_finished"), timeout=20)
            await engine.stop_workers()
    assert not [r for r in caplog.records if r.levelno == logging.CRITICAL]


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_an_eviction_policy_that_may_drop_jobs_is_logged_once(
    namespace: str, own_server: Server, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    with own_server.client() as client:
        client.config_set("maxmemory-policy", policy)
    broker = RedisBroker(own_server.unix_url)
    await broker.open(namespace)
    await broker.open(namespace)
    await broker.aclose()
    [record] = [r for r in caplog.records if r.name == "aiospinach.broker"]
    assert record.levelname == "WARNING"
    assert policy in record.getMessage()
    assert "noeviction" in record.getMessage()


async def test_nothing_is_logged_about_the_policy_where_info_is_denied(
    namespace: str, own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with own_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-info")
    broker = RedisBroker(f"redis://app:pw@127.0.0.1:{own_server.port}")
    await broker.open(namespace)
    await broker.aclose()
    assert [r for r in caplog.records if r.name == "aiospinach.broker"] == []


async def test_nothing_is_logged_about_the_right_policy(
    namespace: str, own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    broker = RedisBroker(own_server.unix_url)
    await broker.open(namespace)
    await broker.aclose()
    assert [r for r in caplog.records if r.name == "aiospinach.broker"] == []


async def test_a_user_with_the_documented_permissions_can_run_jobs(
    namespace: str, own_server: Server, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    with own_server.client() as client:
        rules = LEAST.format(namespace=namespace).split()
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", *rules)
        client.execute_command("ACL", "LOG", "RESET")
        broker = RedisBroker(f"redis://app:pw@127.0.0.1:{own_server.port}", lease=2)
        async with Engine(broker, namespace) as engine:
            renewed = asyncio.Event()

            @engine.task(max_retries=1, backoff=lambda attempt: 0.01)
            async def flaky(number: int) -> None:
                if number == 0 and heard.count("job_schedule_retry") == 0:
                    raise ValueError

            @engine.task(max_concurrency=1)
            async def limited() -> None:
                await renewed.wait()

            @engine.task
            async def failing() -> None:
                raise ValueError

            await engine.start_workers(4, block=False)
            for number in range(10):
                await flaky.schedule(number)
            await limited.schedule()
            dead = await failing.schedule()
            queued = await limited.schedule()
            await until(lambda: heard.count("job_finished") == 12)
            assert await engine.cancel(queued)
            await broker.renew("default", [])
            await broker.publish("default", "orders", b"unknown")
            await until(lambda: heard.count("job_failed"))
            assert [d.job.id async for d in engine.dead_jobs()] == [dead.id]
            assert await engine.requeue(dead)
            await until(lambda: heard.count("job_failed") == 2)
            assert await engine.discard(dead)
            renewed.set()
            await engine.stop_workers()
            counts = await asking.counts(broker, "default")
            assert (counts.ready, counts.running, counts.waiting, counts.dead) == (0, 0, 0, 0)
            await broker.flush("default")
        assert client.execute_command("ACL", "LOG") == []
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR and r.name != "aiospinach"]


async def test_a_user_without_a_right_on_channels_cancels_jobs_through_renewals(
    namespace: str, own_server: Server, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    with own_server.client() as client:
        rules = [rule for rule in LEAST.format(namespace=namespace).split() if rule[0] != "&"]
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", *rules)
        broker = RedisBroker(f"redis://app:pw@127.0.0.1:{own_server.port}", lease=1)
        other = RedisBroker(f"redis://app:pw@127.0.0.1:{own_server.port}", lease=1)
        await other.open(namespace)
        async with Engine(broker, namespace) as engine:

            @engine.task
            async def job() -> None:
                await asyncio.Event().wait()

            await engine.start_workers(1, block=False)
            scheduled = await job.schedule()
            await until(lambda: heard.count("job_started"))
            assert (await asking.cancel(other, "default", scheduled.id)).status is JobStatus.RUNNING
            await until(lambda: heard.count("job_cancelled"))
            await engine.stop_workers()
        await other.aclose()
    [warning] = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "&ais2:{<namespace>:*}:*" in warning


async def test_a_defect_is_raised_and_not_reported_as_an_unavailable_broker(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the call would be repeated until its timeout, and the defect hidden."""
    broker = RedisBroker(shared_server().unix_url, enqueue_timeout=0.5)
    async with Engine(broker, namespace) as engine:
        job = engine.task(name="job")(lambda: None)
        await job.schedule()

        def ask(protocol: RespProtocol, command: bytes, until: float) -> None:
            raise RecursionError("a defect")

        with monkeypatch.context() as patch:
            patch.setattr(RespProtocol, "ask", ask)
            with pytest.raises(RecursionError, match="a defect"):
                await job.schedule()


@pytest.mark.parametrize(
    ("error", "is_defect"),
    [
        (
            RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
            False,
        ),
        (RuntimeError("readuntil() called while another coroutine is already waiting"), True),
        (NotImplementedError(), True),
        (ConnectionResetError(), False),
    ],
)
def test_only_runtime_errors_of_closed_connections_are_broker_errors(
    error: Exception, is_defect: bool
) -> None:
    found = to_broker_error(error, "redis://here")
    assert (found is error) is is_defect
    assert isinstance(found, BrokerUnavailable) is not is_defect


async def test_redis_py_has_the_private_attributes_that_are_used() -> None:
    """`protocol.py` takes over redis-py's connections, and `let_go_of` closes Cluster clients node by node.

    If this fails, redis-py has changed: adapt `RespProtocol`, `let_go_of` and `ClusterTransport`, and then
    the upper bound in pyproject.toml.
    """
    connection = redis.asyncio.Connection(host="127.0.0.1", port=shared_server().port)
    await connection.connect()  # type: ignore[no-untyped-call]
    for name in ("_reader", "_writer"):
        assert getattr(connection, name, None) is not None, f"redis-py's connections have no {name} any more"
    assert connection._writer is not None
    assert connection._writer.transport.get_extra_info("socket").fileno() > 0
    for name in ("_connections", "_free"):
        assert name in ClusterNode.__slots__, f"redis-py's ClusterNode has no {name} any more"
    assert hasattr(DefaultParser, "parse_error"), "redis-py's parsers have no parse_error any more"
    await connection.disconnect()
