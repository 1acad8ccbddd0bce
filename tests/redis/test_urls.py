"""URLs and clients tell a RedisBroker where to connect, and nothing connects before it is used."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import redis.asyncio as redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import Sentinel

from aiospinach import Engine, InvalidValue, RedisBroker
from aiospinach.brokers.connecting import ClusterPlace, SentinelPlace, ServerPlace, place_of

from ..brokers_under_test import shared_server
from ..servers import Server, free_port

HERE = {"host": "localhost", "port": 6379, "db": 0}


def settings_of(place: object) -> tuple[type[Any], dict[str, Any]]:
    assert isinstance(place, ServerPlace)
    return place._kind, dict(place._settings)


@pytest.mark.parametrize(
    ("url", "kind", "expected", "shown"),
    [
        ("redis://", Connection, HERE, "redis://localhost:6379/0"),
        ("redis://a:7/3", Connection, {"host": "a", "port": 7, "db": 3}, "redis://a:7/3"),
        ("redis://a?db=4", Connection, {"host": "a", "port": 6379, "db": 4}, "redis://a:6379/4"),
        (
            "redis://user:p%40ss@a",
            Connection,
            {"host": "a", "port": 6379, "db": 0, "username": "user", "password": "p@ss"},
            "redis://a:6379/0",
        ),
        ("redis://:pw@a", Connection, HERE | {"host": "a", "password": "pw"}, "redis://a:6379/0"),
        ("rediss://a:7", SSLConnection, {"host": "a", "port": 7, "db": 0}, "rediss://a:7/0"),
        (
            "rediss://a?ssl_ca_certs=/ca.pem&ssl_check_hostname=false&ssl_cert_reqs=none",
            SSLConnection,
            HERE
            | {"host": "a", "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False, "ssl_cert_reqs": "none"},
            "rediss://a:6379/0",
        ),
        ("unix:///run/s", UnixDomainSocketConnection, {"path": "/run/s", "db": 0}, "unix:///run/s"),
        (
            "unix://user:pw@/run/s?db=2",
            UnixDomainSocketConnection,
            {"path": "/run/s", "db": 2, "username": "user", "password": "pw"},
            "unix:///run/s",
        ),
    ],
)
def test_a_url_of_one_server_is_read(url: str, kind: type[Any], expected: dict[str, Any], shown: str) -> None:
    place = place_of(url)
    assert settings_of(place) == (kind, expected)
    assert str(place) == shown
    assert repr(RedisBroker(url)) == f"RedisBroker({shown!r})"


def test_a_url_of_sentinels_is_read() -> None:
    place = place_of("redis+sentinel://user:pw@a,b:7/mymaster/3")
    assert isinstance(place, SentinelPlace)
    assert place._sentinels == [("a", 26379), ("b", 7)]
    assert place._service == "mymaster"
    assert place._settings == {"username": "user", "password": "pw", "db": 3}
    assert str(place) == "redis+sentinel://a:26379,b:7/mymaster"


@pytest.mark.parametrize(("scheme", "tls"), [("redis+cluster", False), ("rediss+cluster", True)])
def test_a_url_of_a_cluster_is_read(scheme: str, tls: bool) -> None:
    place = place_of(f"{scheme}://user:pw@a,b:7")
    assert isinstance(place, ClusterPlace)
    assert place._nodes == [("a", 6379), ("b", 7)]
    assert place._settings == {"username": "user", "password": "pw"}
    assert place._tls is tls
    assert str(place) == f"{scheme}://a:6379,b:7"


@pytest.mark.parametrize("url", ["rediss://localhost", "rediss://localhost?ssl_ca_certs=/ca.pem"])
def test_tls_verifies_certificate_and_name_by_default(url: str) -> None:
    kind, settings = settings_of(place_of(url))
    connection = kind(**settings)
    assert connection.ssl_context.cert_reqs is ssl.CERT_REQUIRED
    assert connection.ssl_context.check_hostname is True


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "localhost:6379",
        "http://localhost",
        "redis://localhost:port",
        "redis://localhost:70000",
        "redis://localhost/name",
        "redis://localhost/-1",
        "redis://localhost/\N{SUPERSCRIPT TWO}",
        "redis://localhost/0/1",
        "redis://[::1",
        "redis://a,b",
        "rediss://localhost?ssl_unheard_of=1",
        "rediss://localhost?ssl_cert_reqs=maybe",
        "unix://",
        "unix://relative/path",
        "unix:///run/s?db=x",
        "redis+sentinel://localhost",
        "redis+sentinel://localhost/mymaster/x",
    ],
)
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidValue, match="RedisBroker"):
        RedisBroker(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:can/ary@localhost",
        "redis://:12/canary@localhost",
        "redis://:12#canary@localhost",
        "redis://:12?canary@localhost",
        "redis://user:canary@localhost:port",
        "redis://user:canary@localhost/canary",
        "http://user:canary@localhost",
        "redis+sentinel://user:canary@localhost",
        "rediss://user:canary@localhost?ssl_cert_reqs=canary",
        "rediss://user:canary@localhost?ssl_keyfile_password=canary",
    ],
)
def test_a_refusal_shows_no_password(url: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        RedisBroker(url)
    if not url.endswith("/canary"):  # a path with nothing wrong before it is no password
        assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("value", [None, 6379, b"redis://localhost", object(), RedisBroker])
def test_what_is_neither_url_nor_client_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue, match=f"not {type(value).__name__}"):
        RedisBroker(value)


@pytest.mark.parametrize(
    ("lease", "enqueue_timeout"), [(0, 10), (-1, 10), (float("nan"), 10), (60, -1), (60, float("inf"))]
)
def test_impossible_times_are_refused(lease: float, enqueue_timeout: float) -> None:
    with pytest.raises(InvalidValue, match="RedisBroker"):
        RedisBroker(lease=lease, enqueue_timeout=enqueue_timeout)


# Clients.


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
    assert settings_of(place_of(client)) == (Connection, expected)


async def test_a_client_with_tls_is_read() -> None:
    client = redis.Redis(host="a", ssl=True, ssl_ca_certs="/ca.pem", ssl_cert_reqs="none")
    kind, settings = settings_of(place_of(client))
    assert kind is SSLConnection
    assert settings["ssl_ca_certs"] == "/ca.pem"
    assert settings["ssl_cert_reqs"] == "none"
    assert kind(**settings).ssl_context.cert_reqs is ssl.CERT_NONE


async def test_a_client_of_a_socket_is_read() -> None:
    client = redis.Redis(unix_socket_path="/run/s", db=2)
    kind, settings = settings_of(place_of(client))
    assert kind is UnixDomainSocketConnection
    assert (settings["path"], settings["db"]) == ("/run/s", 2)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_client_from_sentinels_is_read(tls: bool) -> None:
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [("a", 1), ("b", 2)], sentinel_kwargs={"password": "theirs"}, password="pw"
    )
    place = place_of(sentinel.master_for("mymaster", db=3, ssl=tls))
    assert isinstance(place, SentinelPlace)
    assert place._sentinels == [("a", 1), ("b", 2)]
    assert place._service == "mymaster"
    assert (place._settings["password"], place._settings["db"]) == ("pw", 3)
    assert place._kind is (SSLConnection if tls else Connection)
    assert place._sentinel_settings["password"] == "theirs"
    place._kind(host="a", port=1, **place._settings)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_client_of_a_cluster_is_read(tls: bool) -> None:
    client = redis.RedisCluster(host="a", port=7, username="user", password="pw", ssl=tls)
    place = place_of(client)
    assert isinstance(place, ClusterPlace)
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


# Nothing connects early.


async def test_nothing_connects_before_it_is_used(namespace: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        listening.setblocking(False)
        broker = RedisBroker(f"redis://127.0.0.1:{port}")
        engine = Engine(broker, namespace)

        @engine.task
        def job() -> None:
            pass

        assert repr(engine)
        assert broker.now() > 0
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_a_broker_can_be_made_without_a_loop_and_a_server() -> None:
    assert repr(RedisBroker(f"redis://127.0.0.1:{free_port()}"))


@pytest.mark.parametrize("url", ["url", "unix_url"])
@pytest.mark.parametrize("db", [0, 3])
async def test_a_job_is_stored_where_the_url_leads(namespace: str, url: str, db: int) -> None:
    server = shared_server()
    where = (
        f"unix://{server.socket}?db={db}" if url == "unix_url" else f"redis://127.0.0.1:{server.port}/{db}"
    )
    async with Engine(RedisBroker(where), namespace) as engine:

        @engine.task
        def job() -> None:
            pass

        await job.schedule()
    async with redis.Redis(unix_socket_path=str(server.socket), db=db) as client:
        assert await client.hlen(f"ais1:{{{namespace}:default}}:jobs") == 1
