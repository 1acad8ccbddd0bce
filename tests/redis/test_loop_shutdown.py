"""Scheduling with ``asyncio.run``: connections are closed with the loop, not by garbage collection."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aiospinach import Engine, RedisBroker
from aiospinach.brokers.redis.loop_session import LoopSession

from ..brokers_under_test import shared_server
from ..servers import Server, free_port
from .tls import Authority, TLSProxy

LOOPS = 20


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Assert that garbage collection finds no open connection."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(each.message) for each in caught if issubclass(each.category, ResourceWarning)] == []


def engine_on(url: str, namespace: str) -> Engine:
    engine = Engine(RedisBroker(url), namespace)
    engine.task(name="job")(lambda: None)
    return engine


def in_loops(*calls: Coroutine[Any, Any, Any]) -> None:
    for call in calls:
        asyncio.run(call)


@pytest.mark.parametrize("url", ["url", "unix_url"])
def test_a_connection_is_closed_with_its_loop(namespace: str, url: str) -> None:
    with nothing_left_open():
        engine = engine_on(getattr(shared_server(), url), namespace)
        in_loops(*(engine.schedule("job") for _ in range(LOOPS)))


async def test_a_tls_connection_is_closed_with_its_loop_without_waiting_for_the_server(
    namespace: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    async with TLSProxy(shared_server().port, authority.server("127.0.0.1")) as tls:
        with nothing_left_open():
            engine = engine_on(f"{tls.url}?ssl_ca_certs={authority.ca_certs}", namespace)
            await asyncio.to_thread(in_loops, *(engine.schedule("job") for _ in range(LOOPS)))


def test_the_session_of_a_loop_is_freed_with_it(namespace: str) -> None:
    """Connections are not part of reference cycles, which only a collection would free."""
    engine = engine_on(shared_server().url, namespace)
    gc.collect()
    gc.disable()
    try:
        in_loops(*(engine.schedule("job") for _ in range(3)))
        assert [each for each in gc.get_objects() if type(each) is LoopSession] == []
    finally:
        gc.enable()


@pytest.fixture
def lone_node() -> Iterator[Server]:
    """A Cluster of one node."""
    server = Server("--cluster-enabled", "yes", "--cluster-port", str(free_port())).start()
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        deadline = time.monotonic() + 10
        while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    yield server
    server.close()


async def schedule_and_cancel(engine: Engine, steps: int) -> None:
    """Schedule a job, and cancel the call after some steps of the loop."""
    call = asyncio.create_task(engine.schedule("job"))
    for _ in range(steps):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.sleep(0)


@pytest.mark.parametrize("is_cluster", [True, False])
def test_a_loop_that_ends_while_connecting_leaves_no_connection_open(
    namespace: str, lone_node: Server, is_cluster: bool
) -> None:
    url = f"redis+cluster://127.0.0.1:{lone_node.port}" if is_cluster else shared_server().url
    with nothing_left_open():
        engine = engine_on(url, namespace)
        in_loops(*(schedule_and_cancel(engine, steps) for steps in range(LOOPS)))


async def cancelled_workers(engine: Engine) -> None:
    """Workers whose task is cancelled once they have started."""
    workers = asyncio.create_task(engine.start_workers())
    while not engine.health().is_connected:
        await asyncio.sleep(0.01)
    workers.cancel()
    await asyncio.wait([workers])


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_workers_leave_no_connection_behind(namespace: str, is_cancelled: bool) -> None:
    """``asyncio.run(engine.start_workers())`` closes what it has opened."""
    with nothing_left_open():
        engine = engine_on(shared_server().url, namespace)
        in_loops(engine.schedule("job"))
        in_loops(
            cancelled_workers(engine) if is_cancelled else engine.start_workers(stop_when_queue_empty=True)
        )
