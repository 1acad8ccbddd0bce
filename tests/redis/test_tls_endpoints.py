"""TLS to Sentinels and their master, and to the nodes of a Cluster."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.cluster import ClusterNode

from aiospinach import BrokerError, BrokerUnavailable, RedisBroker

from ..brokers_under_test import shared_server
from ..conftest import Heard
from ..servers import Server, free_port, server_binary
from .test_secrets import PASSWORD
from .test_tls import HOSTS, refusal_of, run_jobs
from .tls import Authority, TLSProxy


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


async def open_when_reachable(broker: RedisBroker, namespace: str) -> None:
    """Return when the broker can be opened."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await broker.open(namespace)
            except BrokerError:
                await asyncio.sleep(0.05)


@contextmanager
def sentinel_of(port: int, folder: Path) -> Iterator[int]:
    """A Sentinel that reports this port as the master; it cannot reach it without TLS, and waits."""
    own = free_port()
    file = folder / "sentinel.conf"
    file.write_text(
        f"port {own}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor jobs 127.0.0.1 {port} 1\n"
        "sentinel down-after-milliseconds jobs 600000\n"
    )
    process = subprocess.Popen(
        [server_binary(), str(file), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield own
    finally:
        process.kill()
        process.wait()


async def test_sentinels_and_their_master_are_reached_in_tls(
    namespace: str, heard: Heard, authority: Authority, tmp_path: Path
) -> None:
    context = authority.server(*HOSTS)
    async with TLSProxy(shared_server().port, context) as tls:
        with sentinel_of(tls.port, tmp_path) as port:
            async with TLSProxy(port, context) as sentinel:
                url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/jobs"
                broker = RedisBroker(f"{url}?ssl_ca_certs={authority.ca_certs}", enqueue_timeout=20)
                await open_when_reachable(broker, namespace)
                await run_jobs(broker, namespace, heard)
                assert sentinel.calls[b"SENTINEL"] >= 3  # each connection asks
                # no CLIENT SETINFO, which takes two calls; one call may be about maintenance notifications
                assert sentinel.calls[b"CLIENT"] <= sentinel.calls[b"SENTINEL"]
                with pytest.raises(BrokerError, match="in TLS"):  # the details depend on redis-py
                    await RedisBroker(url).open(namespace)
                with pytest.raises(BrokerUnavailable):
                    await RedisBroker(url.replace("rediss", "redis")).open(namespace)


@asynccontextmanager
async def cluster_in_tls(context: ssl.SSLContext) -> AsyncIterator[TLSProxy]:
    """A Cluster of one node, which announces the address of the proxy."""
    async with TLSProxy(free_port(), context) as tls:
        server = Server(
            *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
            *("--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(tls.port)),
        )
        server.port = tls._target
        try:
            with server.start().client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            yield tls
        finally:
            server.close()


async def test_the_nodes_of_a_cluster_are_reached_in_tls(
    namespace: str, heard: Heard, authority: Authority
) -> None:
    async with cluster_in_tls(authority.server(*HOSTS)) as tls:
        url = f"rediss+cluster://127.0.0.1:{tls.port}"
        broker = RedisBroker(f"{url}?ssl_ca_certs={authority.ca_certs}", enqueue_timeout=20)
        await open_when_reachable(broker, namespace)
        await run_jobs(broker, namespace, heard)
        assert tls.calls[b"BLPOP"] >= 10
        text = await refusal_of(RedisBroker(url.replace("//", f"//:{PASSWORD}@")), namespace)
        assert "certificate verify failed" in text

        def client(**settings: Any) -> redis.asyncio.RedisCluster:
            nodes = [ClusterNode("127.0.0.1", tls.port)]
            return redis.asyncio.RedisCluster(startup_nodes=nodes, ssl=True, **settings)

        broker = RedisBroker(client(ssl_ca_certs=str(authority.ca_certs)), enqueue_timeout=20)
        await broker.open(namespace)
        await broker.aclose()
        assert "certificate verify failed" in await refusal_of(RedisBroker(client()), namespace)
