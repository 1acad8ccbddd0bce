"""TLS: certificates are verified by default, and errors say what is wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from aiospinach import BrokerError, BrokerUnavailable, Engine, RedisBroker

from ..brokers_under_test import shared_server
from ..conftest import Heard
from ..waiting import until
from .test_secrets import PASSWORD, shown_by
from .tls import Authority, TLSProxy

HOSTS = ("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that the server's certificate is not from."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
async def tls(authority: Authority) -> AsyncIterator[TLSProxy]:
    """A TLS proxy in front of the shared server, with a certificate for its hosts."""
    async with TLSProxy(shared_server().port, authority.server(*HOSTS)) as proxy:
        yield proxy


async def run_jobs(broker: RedisBroker, namespace: str, heard: Heard) -> None:
    """Run jobs that were scheduled before the workers started, and jobs that wake them."""
    ran: Counter[int] = Counter()
    async with Engine(broker, namespace) as engine:

        @engine.task
        async def job(number: int) -> None:
            ran[number] += 1

        async def ran_all() -> None:
            await until(lambda: len(ran) == len(scheduled), show=lambda: ran)

        scheduled = [await job.schedule(number) for number in range(20)]
        await engine.start_workers(3, block=False)
        await ran_all()
        for number in range(20, 30):
            scheduled.append(await job.schedule(number))
            await ran_all()
        await until(lambda: heard.count("job_finished") == 30)
        await engine.stop_workers()
        await engine._broker.flush("default")
    assert ran == dict.fromkeys(range(30), 1)


async def refusal_of(broker: RedisBroker, namespace: str) -> str:
    """The message of the error that every call raises at once."""
    engine = Engine(broker, namespace)

    @engine.task
    def job() -> None:
        pass

    messages = set()
    for call in (engine.__aenter__, job.schedule, engine.start_workers):
        with pytest.raises(BrokerError) as caught:
            await asyncio.wait_for(call(), 5)
        assert type(caught.value) is BrokerError
        assert PASSWORD not in shown_by(caught.value)
        messages.add(str(caught.value))
    await broker.aclose()
    [text] = messages
    assert "ssl_ca_certs" in text
    return text


# Verification.


@pytest.mark.parametrize("host", HOSTS)
async def test_jobs_run_end_to_end(
    namespace: str, heard: Heard, authority: Authority, tls: TLSProxy, host: str
) -> None:
    broker = RedisBroker(f"rediss://{host}:{tls.port}?ssl_ca_certs={authority.ca_certs}")
    await run_jobs(broker, namespace, heard)
    assert tls.calls[b"BLPOP"] >= 10  # the proxy decrypted the calls


async def test_broken_connections_are_replaced_in_tls(
    namespace: str, heard: Heard, authority: Authority, tls: TLSProxy
) -> None:
    ran: Counter[int] = Counter()
    async with Engine(RedisBroker(f"{tls.url}?ssl_ca_certs={authority.ca_certs}"), namespace) as engine:

        @engine.task
        async def job(number: int) -> None:
            ran[number] += 1

        await engine.start_workers(3, block=False)
        await job.schedule(0)
        await until(lambda: ran[0])
        tls.cut()
        await job.schedule(1)
        await until(lambda: ran[1])
        await engine.stop_workers()
    assert ran == {0: 1, 1: 1}


async def test_a_certificate_of_an_unknown_ca_is_refused(
    namespace: str, stranger: Authority, tls: TLSProxy
) -> None:
    for query in ("", f"?ssl_ca_certs={stranger.ca_certs}"):
        url = f"rediss://user:{PASSWORD}@127.0.0.1:{tls.port}{query}"
        text = await refusal_of(RedisBroker(url), namespace)
        assert f"Redis at rediss://127.0.0.1:{tls.port}/0 cannot be reached in TLS" in text
        assert "certificate verify failed: unable to get local issuer certificate" in text
    assert not tls.calls


async def test_a_certificate_for_another_host_is_refused(namespace: str, authority: Authority) -> None:
    async with TLSProxy(shared_server().port, authority.server("redis.test.invalid")) as tls:
        url = f"rediss://user:{PASSWORD}@127.0.0.1:{tls.port}?ssl_ca_certs={authority.ca_certs}"
        text = await refusal_of(RedisBroker(url), namespace)
        assert "certificate is not valid for '127.0.0.1'" in text
        assert not tls.calls


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_the_error_for_an_unreadable_ca_file_says_why(
    namespace: str, tls: TLSProxy, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    text = await refusal_of(RedisBroker(f"{tls.url}?ssl_ca_certs={file}"), namespace)
    assert ("No such file" if content is None else "no certificate") in text


async def test_the_error_for_a_server_without_tls_mentions_tls(namespace: str) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(BrokerUnavailable, match="is it running in TLS"):
        await RedisBroker(f"rediss://127.0.0.1:{port}").open(namespace)
    server.close()


# Settings.


async def test_a_server_below_the_required_tls_version_is_refused(
    namespace: str, authority: Authority
) -> None:
    context = authority.server(*HOSTS)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with TLSProxy(shared_server().port, context) as tls:
        settings = f"ssl_ca_certs={authority.ca_certs}&ssl_min_version="
        broker = RedisBroker(f"{tls.url}?{settings}TLSv1.2")
        await broker.open(namespace)
        await broker.aclose()
        tls.calls.clear()
        with pytest.raises(BrokerUnavailable, match="is it running in TLS"):
            await RedisBroker(f"{tls.url}?{settings}TLSv1.3").open(namespace)
        assert not tls.calls


async def test_the_check_of_the_host_name_can_be_disabled(
    namespace: str, heard: Heard, authority: Authority, stranger: Authority
) -> None:
    context = authority.server("redis.test.invalid")
    async with TLSProxy(shared_server().port, context) as tls:
        settings = "ssl_check_hostname=false&ssl_ca_certs="
        await run_jobs(RedisBroker(f"{tls.url}?{settings}{authority.ca_certs}"), namespace, heard)
        text = await refusal_of(RedisBroker(f"{tls.url}?{settings}{stranger.ca_certs}"), namespace)
        assert "unable to get local issuer certificate" in text


async def test_the_verification_can_be_disabled(namespace: str, heard: Heard, authority: Authority) -> None:
    async with TLSProxy(shared_server().port, authority.server("redis.test.invalid")) as tls:
        await run_jobs(RedisBroker(f"{tls.url}?ssl_cert_reqs=none"), namespace, heard)


# Certificates of clients.


@contextmanager
def alerting(context: ssl.SSLContext) -> Iterator[int]:
    """A port where OpenSSL sends an alert with the reason of a refusal, as in Redis; asyncio sends none."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as tls:
                with contextlib.suppress(OSError):
                    tls.do_handshake()
                # Closing with unread data would reset the connection before the alert is received.
                with contextlib.suppress(OSError):
                    while socket.socket.recv(tls, 1 << 16):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_certificate_is_sent(
    namespace: str, heard: Heard, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.server(*HOSTS, asks_clients=True)
    context.maximum_version = version
    certificate, key = authority.client()
    async with TLSProxy(shared_server().port, context) as tls:
        settings = f"ssl_ca_certs={authority.ca_certs}&ssl_certfile={certificate}&ssl_keyfile={key}"
        await run_jobs(RedisBroker(f"{tls.url}?{settings}"), namespace, heard)
        with pytest.raises(BrokerUnavailable):
            await RedisBroker(f"{tls.url}?ssl_ca_certs={authority.ca_certs}").open(namespace)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_error_for_a_refused_client_certificate_says_so(
    namespace: str, authority: Authority, stranger: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.server(*HOSTS, asks_clients=True)
    context.maximum_version = version
    certificate, key = stranger.client()
    with alerting(context) as port:
        url = f"rediss://user:{PASSWORD}@127.0.0.1:{port}?ssl_ca_certs={authority.ca_certs}"
        text = await refusal_of(RedisBroker(f"{url}&ssl_certfile={certificate}&ssl_keyfile={key}"), namespace)
        assert "unknown ca" in text
        if version is ssl.TLSVersion.TLSv1_3:  # earlier versions do not report the reason
            assert "certificate required" in await refusal_of(RedisBroker(url), namespace)


# Clients of redis-py.


async def test_a_client_passed_in_keeps_its_tls_settings(
    namespace: str, heard: Heard, authority: Authority, tls: TLSProxy
) -> None:
    def client(**settings: Any) -> redis.asyncio.Redis:
        return redis.asyncio.Redis(
            host="127.0.0.1", port=tls.port, ssl=True, password=PASSWORD if not settings else None, **settings
        )

    await run_jobs(RedisBroker(client(ssl_ca_certs=str(authority.ca_certs))), namespace, heard)
    text = await refusal_of(RedisBroker(client()), namespace)
    assert "certificate verify failed" in text
