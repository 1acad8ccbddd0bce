"""Periodic tasks on a Redis that is full."""

from __future__ import annotations

from aiospinach import RedisBroker
from aiospinach.brokers.base import Counts, Envelope, Fired, Firing

from ..servers import Server

HOUR = 3_600_000


async def test_a_full_redis_skips_ticks_and_says_so(own_server: Server, namespace: str) -> None:
    broker = RedisBroker(own_server.unix_url)
    await broker.open(namespace)
    due = broker.now() - 1
    names = [f"task-{number}" for number in range(600)]
    await broker.register("default", {}, dict.fromkeys(names, due))
    firings = [
        Firing(name, due, due + HOUR, Envelope(f"{name}@{due}", name, b"[[],{}]", due)) for name in names
    ]
    firings[0] = Firing(names[0], due, due + HOUR)
    with own_server.client() as client:
        client.config_set("maxmemory", "1")
        expected = [Fired.MOVED, *[Fired.REFUSED] * 599]
        assert await broker.fire("default", firings) == expected
        assert await broker.fire("default", firings) == [Fired.TAKEN] * 600
        client.config_set("maxmemory", "0")
    assert list((await broker.tick("default")).periodic) == []
    assert await broker.counts("default") == Counts(0, 0, 0, 0)
    await broker.aclose()
