"""Fixtures and helpers for RedisBroker: servers, proxies, keys, and counts of commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from aiospinach.brokers.redis import scripts
from aiospinach.brokers.redis.endpoints import ServerEndpoint
from aiospinach.brokers.redis.scripts import Script

from ..brokers_under_test import shared_server
from ..servers import Server
from .proxy import Loses, Proxy

SCRIPTS: dict[str, str] = {
    script.sha: script.name for script in vars(scripts).values() if isinstance(script, Script)
}
"""Names of scripts by SHA-1."""


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that no other test uses."""
    server = Server().start()
    yield server
    server.close()


@pytest.fixture
def plain() -> Iterator[redis.Redis]:
    """A plain client of the shared server."""
    with shared_server().client() as client:
        yield client


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy in front of the shared server, which counts scripts by name."""
    async with Proxy(shared_server().port) as proxy:
        proxy.lose_answers(None, SCRIPTS)
        yield proxy


def key(namespace: str, name: str, queue: str = "default") -> str:
    """The full name of a queue's key."""
    return f"ais2:{{{namespace}:{queue}}}:{name}"


def keys_of(client: redis.Redis, namespace: str) -> set[str]:
    """The keys of the queues of a namespace, without their prefixes."""
    found: list[bytes] = list(client.scan_iter(f"ais2:{{{namespace}:?*}}:*", count=10_000))
    return {name.decode().partition("}:")[2] for name in found}


def live(client: redis.Redis, namespace: str, queue: str = "default") -> int:
    """The number of live jobs of a queue."""
    stored: int = client.hlen(key(namespace, "jobs", queue))
    return stored


def names_in(answer: Any) -> list[str]:
    """Decode an answer that is a list of names."""
    return [name.decode() for name in answer]


def every(number: int, *kinds: str) -> Loses:
    """Lose the answer of every n-th call of these kinds."""
    names = {kind.encode() for kind in kinds}
    return lambda name, count: name in names and count % number == 0


def settings_of(endpoint: object) -> tuple[type[Any], dict[str, Any]]:
    """The class and the settings of connections to one server."""
    assert isinstance(endpoint, ServerEndpoint)
    return endpoint._kind, dict(endpoint._settings)


class Counts:
    """Counts the commands of a server since ``start``, by name, including those inside of scripts."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.start()

    def start(self) -> None:
        self._client.config_resetstat()

    def by_name(self) -> dict[str, int]:
        stats: dict[str, dict[str, Any]] = self._client.info("commandstats")
        own = {"config|resetstat", "info", "scan", "client|list"}
        return {
            name.removeprefix("cmdstat_"): int(values["calls"])
            for name, values in stats.items()
            if name.removeprefix("cmdstat_") not in own
        }
