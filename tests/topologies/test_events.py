"""Events on a Cluster, after a slot has moved, and for the user of the docs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from aiospinach import Engine, EventStream, RedisBroker, progress

from ..brokers_under_test import shared_server
from .conftest import Cluster, raw, slot_of, spread
from .test_cluster import move
from .test_least_privilege import rules_for

pytestmark = pytest.mark.large

ROWS = 1000
PATIENCE = 30.0


def engine_of(url: str, namespace: str, queues: Sequence[str]) -> Engine:
    """An engine with a task in each queue."""
    engine = Engine(RedisBroker(url, events=ROWS), namespace)
    for queue in queues:

        @engine.task(name=f"work-{queue}", queue=queue)
        async def work() -> None:
            progress(1)

    return engine


async def run_and_read(engine: Engine, stream: EventStream, queues: Sequence[str]) -> None:
    """Run a job in each queue, and read its events."""
    jobs = [await engine.schedule(f"work-{queue}") for queue in queues]
    seen: Counter[str] = Counter()
    async with asyncio.timeout(PATIENCE):
        while sum(seen.values()) < 3 * len(jobs):
            event = await anext(stream)
            seen[event.job_id] += event.name != "job_progress"
    assert seen == {job.id: 3 for job in jobs}


async def test_the_events_of_all_nodes_are_read_also_after_a_slot_has_moved(
    cluster: Cluster, namespace: str
) -> None:
    queues = spread(cluster, namespace)
    engine, reader = (engine_of(cluster.url, namespace, queues) for _ in range(2))
    async with engine, reader, reader.events() as stream:
        await engine.start_workers(10, block=False)
        await run_and_read(engine, stream, queues)
        await move(cluster, slot_of(cluster, namespace, queues[0]))
        await run_and_read(engine, stream, queues)


async def test_the_user_of_the_docs_may_read_events(namespace: str) -> None:
    server = shared_server()
    raw(server.port, "ACL", "SETUSER", namespace, *rules_for(namespace))
    try:
        url = server.url.replace("//", f"//{namespace}:secret@")
        engine = engine_of(url, namespace, ["one", "two"])
        async with engine, engine.events() as stream:
            await engine.start_workers(2, block=False)
            await run_and_read(engine, stream, ["one", "two"])
    finally:
        raw(server.port, "ACL", "DELUSER", namespace)


async def test_a_user_who_may_write_no_events_runs_jobs(namespace: str) -> None:
    server = shared_server()
    raw(server.port, "ACL", "SETUSER", namespace, *rules_for(namespace), "-xadd")
    try:
        url = server.url.replace("//", f"//{namespace}:secret@")
        engine = engine_of(url, namespace, ["one"])
        async with engine:
            for _ in range(3):
                await engine.schedule("work-one")
            await engine.start_workers(2, stop_when_queue_empty=True)
            assert (await engine.counts())["one"].ready == 0
    finally:
        raw(server.port, "ACL", "DELUSER", namespace)
