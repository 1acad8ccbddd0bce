"""Threads with their own event loops share an engine."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator

import pytest
import redis

from aiospinach import Engine, RedisBroker

from ..servers import Server
from ..waiting import until
from .conftest import key, keys_of

THREADS = 8


@pytest.fixture
def fast_switches() -> Iterator[None]:
    """Makes threads switch as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("fast_switches")
async def test_consecutive_loops_in_several_threads_lose_no_job_and_leave_little_data(
    own_server: Server, namespace: str
) -> None:
    """The engine is not entered: connections are closed with their loops. Answers of calls are kept per
    process, and not per loop."""
    engine, errors, loops = Engine(RedisBroker(own_server.url), namespace), list[BaseException](), 60

    @engine.task
    async def job() -> None:
        pass

    def schedule() -> None:
        for _ in range(loops):
            try:
                asyncio.run(engine.schedule(job))
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=schedule) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    with own_server.client() as client:
        await until(lambda: not any(thread.is_alive() for thread in threads), timeout=50)
        assert errors == []
        assert client.llen(key(namespace, "ready")) == THREADS * loops
        [answers] = [name for name in keys_of(client, namespace) if name.startswith("answers:")]
        assert client.hlen(key(namespace, answers)) <= THREADS
        await until(lambda: connected(client) == 1, "this client is left", show=lambda: connected(client))


def connected(client: redis.Redis) -> int:
    count: int = client.info("clients")["connected_clients"]
    return count
