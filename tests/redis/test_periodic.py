"""Periodic tasks with a full Redis, and with nodes whose clocks differ."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from aiospinach import Engine, RedisBroker
from aiospinach.brokers.questions import Counts
from aiospinach.brokers.records import Envelope, Fired, Firing

from ..asking import counts
from ..brokers_under_test import shared_server
from ..conftest import Heard
from ..servers import Server
from ..waiting import until

HOUR = 3_600_000


async def test_a_full_redis_skips_ticks_and_returns_refused(own_server: Server, namespace: str) -> None:
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
    assert await counts(broker, "default") == Counts(0, 0, 0, 0)
    await broker.aclose()


async def test_ticks_follow_the_clock_of_their_queue(
    namespace: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a Cluster, the last answer may come from another node, whose clock is ahead."""
    broker = RedisBroker(shared_server().unix_url)
    async with Engine(broker, namespace) as engine:
        engine.task(name="beat", periodicity=timedelta(milliseconds=100))(lambda: None)
        await engine.start_workers(block=False)
        right = broker.now
        monkeypatch.setattr(broker, "now", lambda: right() + 60_000)
        await until(lambda: heard.count("job_scheduled") >= 4)
    dues = [kwargs["job"].at for name, kwargs in heard if name == "job_scheduled"]
    assert max(later - due for due, later in pairwise(dues)) < timedelta(seconds=60)
