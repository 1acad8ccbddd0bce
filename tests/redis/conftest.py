"""What the tests of RedisBroker share: servers, the counts that they keep, and their keys."""

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
"""SHA-1 of each script, and its name."""


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
    """A proxy before the shared server, which knows the scripts by their names."""
    async with Proxy(shared_server().port) as proxy:
        proxy.lose_answers(None, SCRIPTS)
        yield proxy


def key(namespace: str, name: str, queue: str = "default") -> str:
    """The key of a queue."""
    return f"ais2:{{{namespace}:{queue}}}:{name}"


def keys_of(client: redis.Redis, namespace: str) -> set[str]:
    """What follows the prefix in the keys of a namespace."""
    found: list[bytes] = list(client.scan_iter(f"ais2:{{{namespace}:*", count=10_000))
    return {name.decode().partition("}:")[2] for name in found}


def live(client: redis.Redis, namespace: str, queue: str = "default") -> int:
    """How many jobs of a queue have an envelope."""
    stored: int = client.hlen(key(namespace, "jobs", queue))
    return stored


def names_in(answer: Any) -> list[str]:
    """An answer of names as strings."""
    return [name.decode() for name in answer]


def every(number: int, *kinds: str) -> Loses:
    """Lose the answer of every so many calls of these kinds."""
    names = {kind.encode() for kind in kinds}
    return lambda name, count: name in names and count % number == 0


def settings_of(place: object) -> tuple[type[Any], dict[str, Any]]:
    """The class of the connections to one server, and what they are made with."""
    assert isinstance(place, ServerEndpoint)
    return place._kind, dict(place._settings)


class Counts:
    """How many commands a server carried out since ``start``, by name; inner ones of scripts as well."""

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
