"""URLs of a RedisBroker, and that it connects only when it is used."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import redis.asyncio as redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from aiospinach import Engine, InvalidValue, RedisBroker
from aiospinach.brokers.redis.endpoints import ClusterEndpoint, SentinelEndpoint, endpoint_of

from ..brokers_under_test import shared_server
from ..servers import free_port
from .conftest import settings_of

HERE = {"host": "localhost", "port": 6379, "db": 0}


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
        (
            "rediss://a:7",
            SSLConnection,
            {"host": "a", "port": 7, "db": 0, "ssl_check_hostname": True},
            "rediss://a:7/0",
        ),
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
def test_a_url_of_one_server_is_parsed(
    url: str, kind: type[Any], expected: dict[str, Any], shown: str
) -> None:
    endpoint = endpoint_of(url)
    assert settings_of(endpoint) == (kind, expected)
    assert str(endpoint) == shown
    assert repr(RedisBroker(url)) == f"RedisBroker({shown!r})"


def test_a_broker_without_a_url_takes_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOSPINACH_URL", "redis://user:pw@a:7/3")
    broker = RedisBroker()
    assert repr(broker) == "RedisBroker('redis://a:7/3')"
    assert not broker._calls.endpoint.is_named
    named = RedisBroker("redis://b")
    assert repr(named) == "RedisBroker('redis://b:6379/0')"
    assert named._calls.endpoint.is_named


@pytest.mark.parametrize("value", [None, ""])
def test_a_broker_without_any_url_is_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("AIOSPINACH_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("AIOSPINACH_URL", value)
    assert repr(RedisBroker()) == "RedisBroker('redis://localhost:6379/0')"


def test_a_wrong_url_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOSPINACH_URL", "http://:canary@a")
    with pytest.raises(InvalidValue, match=r"'http' is no known scheme.* AIOSPINACH_URL") as caught:
        RedisBroker()
    assert "canary" not in str(caught.value)


def test_a_url_of_sentinels_is_parsed() -> None:
    endpoint = endpoint_of("redis+sentinel://user:pw@a,b:7/mymaster/3")
    assert isinstance(endpoint, SentinelEndpoint)
    assert endpoint._sentinels == [("a", 26379), ("b", 7)]
    assert endpoint._service == "mymaster"
    assert endpoint._settings == {"username": "user", "password": "pw", "db": 3}
    assert str(endpoint) == "redis+sentinel://a:26379,b:7/mymaster"


@pytest.mark.parametrize(("scheme", "tls"), [("redis+cluster", False), ("rediss+cluster", True)])
def test_a_url_of_a_cluster_is_parsed(scheme: str, tls: bool) -> None:
    endpoint = endpoint_of(f"{scheme}://user:pw@a,b:7")
    assert isinstance(endpoint, ClusterEndpoint)
    assert endpoint._nodes == [("a", 6379), ("b", 7)]
    verified = {"ssl_check_hostname": True} if tls else {}
    assert endpoint._settings == {"username": "user", "password": "pw"} | verified
    assert endpoint._tls is tls
    assert str(endpoint) == f"{scheme}://a:6379,b:7"


@pytest.mark.parametrize("url", ["rediss://localhost", "rediss://localhost?ssl_ca_certs=/ca.pem"])
def test_tls_verifies_certificate_and_name_by_default(url: str) -> None:
    kind, settings = settings_of(endpoint_of(url))
    connection = kind(**settings)
    assert connection.ssl_context.cert_reqs is ssl.CERT_REQUIRED
    assert connection.ssl_context.check_hostname is True


@pytest.mark.parametrize("scheme", ["rediss://a", "rediss+sentinel://a/mymaster", "rediss+cluster://a"])
@pytest.mark.parametrize("spelling", ["TLSv1_2", "TLSv1.2", "TLSv1_3", "TLSv1.3"])
def test_the_minimum_version_of_tls_is_parsed(scheme: str, spelling: str) -> None:
    endpoint: Any = endpoint_of(f"{scheme}?ssl_min_version={spelling}")
    version = ssl.TLSVersion.TLSv1_2 if spelling.endswith("2") else ssl.TLSVersion.TLSv1_3
    assert endpoint._settings["ssl_min_version"] is version
    assert SSLConnection(**endpoint._settings).ssl_context.get().minimum_version is version


@pytest.mark.parametrize("version", ["1.2", "TLSv1", "TLSv1_1", "TLSv1_4", "tlsv1_2", "SSLv3", "771"])
def test_another_version_of_tls_is_refused(version: str) -> None:
    with pytest.raises(InvalidValue, match=r"TLSv1_2, TLSv1\.2, TLSv1_3 or TLSv1\.3"):
        RedisBroker(f"rediss://localhost?ssl_min_version={version}")


@pytest.mark.parametrize("name", ["ssl_include_verify_flags", "ssl_exclude_verify_flags"])
def test_a_setting_that_only_clients_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match=f"{name} .*pass a client of redis.asyncio"):
        RedisBroker(f"rediss://localhost?{name}=VERIFY_X509_STRICT")


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
def test_the_error_for_a_bad_url_shows_no_password(url: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        RedisBroker(url)
    if not url.endswith("/canary"):  # an invalid path after a valid host cannot be a password
        assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


# Settings in URLs.


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("username=u&password=p%40", {"username": "u", "password": "p@"}),
        ("client_name=shop", {"client_name": "shop"}),
        ("socket_keepalive=False", {"socket_keepalive": False}),
        ("socket_keepalive=1", {"socket_keepalive": True}),
        ("health_check_interval=60", {"health_check_interval": 60}),
    ],
)
@pytest.mark.parametrize(
    "url", ["redis://a", "rediss://a", "redis+sentinel://a/mymaster", "redis+cluster://a"]
)
def test_settings_in_a_url_are_used(url: str, setting: str, expected: dict[str, Any]) -> None:
    endpoint: Any = endpoint_of(f"{url}?{setting}")
    assert expected.items() <= endpoint._settings.items()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://a?socket_timeout=5", "enqueue_timeout="),
        ("redis://a?socket_connect_timeout=5", "enqueue_timeout="),
        ("redis+cluster://a?timeout=5", "enqueue_timeout="),
        ("redis://a?max_connections=5", "'max_connections'.*it takes.*health_check_interval"),
        ("redis://a?decode_responses=1", "'decode_responses'"),
        ("unix:///run/s?socket_keepalive=1", "'socket_keepalive'"),
        ("redis://a?sentinel_password=canary", "'sentinel_password'"),
        ("redis://a?health_check_interval=often", "whole number of seconds"),
        ("redis://a?health_check_interval=-1", "whole number of seconds"),
        ("redis://a?socket_keepalive=maybe", "true, 1, yes, false, 0, no"),
        ("rediss://a?ssl_check_hostname=maybe", "true, 1, yes, false, 0, no"),
        ("redis://a?ssl_ca_certs=/ca.pem", "begin it with rediss"),
        ("redis+sentinel://a/mymaster?ssl_ca_certs=/ca.pem", "begin it with rediss"),
        ("unix:///run/s?ssl_ca_certs=/ca.pem", "begin it with rediss"),
        ("redis+cluster://a/3", "database 0 alone"),
        ("redis+cluster://a?db=3", "database 0 alone"),
        ("redis://a/3?db=4", "two databases"),
        ("redis://a?db=3&db=4", "'db' twice"),
        ("redis://u:canary@a?password=canary", "password twice"),
        ("redis://u@a?username=v", "username twice"),
        ("rediss://a?ssl_cert_reqs=canary", "required, optional, none.*CERT_REQUIRED"),
    ],
)
def test_an_invalid_setting_in_a_url_is_refused_with_the_remedy(url: str, message: str) -> None:
    with pytest.raises(InvalidValue, match=message) as caught:
        RedisBroker(url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["rediss://a", "rediss+sentinel://a/mymaster", "rediss+cluster://a"])
@pytest.mark.parametrize("word", ["none", "optional", "required"])
@pytest.mark.parametrize("spelling", ["{}", "CERT_{}", "ssl.CERT_{}"])
def test_the_verification_can_be_spelled_as_in_celery_and_heroku(
    scheme: str, word: str, spelling: str
) -> None:
    for spelled in (spelling.format(word.upper()), spelling.format(word), spelling.format(word.title())):
        endpoint: Any = endpoint_of(f"{scheme}?ssl_cert_reqs={spelled}")
        assert endpoint._settings["ssl_cert_reqs"] == word


@pytest.mark.parametrize("value", [None, 6379, b"redis://localhost", object(), RedisBroker])
def test_a_value_that_is_neither_url_nor_client_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue, match=f"not {type(value).__name__}"):
        RedisBroker(value)


@pytest.mark.parametrize(
    ("lease", "enqueue_timeout"),
    [(0, 10), (-1, 10), (float("nan"), 10), (60, 0), (60, -1), (60, float("inf"))],
)
def test_invalid_times_are_refused(lease: float, enqueue_timeout: float) -> None:
    with pytest.raises(InvalidValue, match="RedisBroker"):
        RedisBroker(lease=lease, enqueue_timeout=enqueue_timeout)


# Connecting.


async def test_a_broker_does_not_connect_before_it_is_used(namespace: str) -> None:
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


def test_a_broker_can_be_created_without_a_loop_and_a_server() -> None:
    assert repr(RedisBroker(f"redis://127.0.0.1:{free_port()}"))


@pytest.mark.parametrize("url", ["url", "unix_url"])
@pytest.mark.parametrize("db", [0, 3])
async def test_a_job_is_stored_in_the_database_of_the_url(namespace: str, url: str, db: int) -> None:
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
        assert await client.hlen(f"ais2:{{{namespace}:default}}:jobs") == 1
