"""Results on a Cluster, behind Sentinels, and for the user of docs/production.md."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from anyio import to_thread

from aiospinach import BrokerError, Engine, Job, RedisBroker

from ..brokers_under_test import shared_server
from ..waiting import until
from .conftest import Cluster, Watched, raw, slot_of, spread
from .test_cluster import move
from .test_least_privilege import rules_for
from .test_sentinel import by_url, fail_over

pytestmark = pytest.mark.large

PATIENCE = 30.0


class Echoes:
    """An engine with a task for each queue, whose jobs return their number when they may."""

    def __init__(self, broker: RedisBroker, namespace: str, queues: Sequence[str]) -> None:
        self.engine = Engine(broker, namespace)
        self.queues = queues
        self.may_end = asyncio.Event()
        for queue in queues:
            self.engine.task(name=f"echo.{queue}", queue=queue, result_ttl=60, max_retries=9)(self.echo)

    async def echo(self, number: int) -> int:
        await self.may_end.wait()
        return number

    async def schedule(self, count: int) -> list[Job[int]]:
        names = [f"echo.{self.queues[number % len(self.queues)]}" for number in range(count)]
        return [await self.engine.schedule(name, number) for number, name in enumerate(names)]

    async def awaited(self, jobs: Sequence[Job[int]]) -> asyncio.Task[list[int]]:
        """A task that awaits the results; its hubs have read the jobs."""
        results = asyncio.create_task(self.engine.results(jobs, timeout=PATIENCE))

        def seen() -> int:
            hubs = [hub for each in self.engine._hubs._by_loop.values() for hub in each.values()]
            return sum(wait.is_read for hub in hubs for waits in hub._waits.values() for wait in waits)

        await until(lambda: seen() == len(jobs), "all jobs are waited for", show=seen)
        return results


async def test_results_come_from_every_server_of_a_cluster_and_from_a_moved_slot(
    cluster: Cluster, namespace: str
) -> None:
    queues = spread(cluster, namespace, 6)
    echoes = Echoes(RedisBroker(cluster.url, lease=12, enqueue_timeout=30), namespace, queues)
    async with echoes.engine:
        await echoes.engine.start_workers(60, queues, block=False)
        jobs = await echoes.schedule(60)
        results = await echoes.awaited(jobs)
        await move(cluster, slot_of(cluster, namespace, queues[0]))
        echoes.may_end.set()
        assert await results == list(range(60))
        assert await echoes.engine.results(jobs, timeout=PATIENCE) == list(range(60))


async def test_results_outlive_a_failover(watched: Watched, namespace: str) -> None:
    echoes = Echoes(by_url(watched), namespace, ["one", "two"])
    before = watched.master
    async with echoes.engine:
        await echoes.engine.start_workers(40, block=False)
        jobs = await echoes.schedule(40)
        results = await echoes.awaited(jobs)
        echoes.may_end.set()
        await to_thread.run_sync(fail_over, watched)
        await until(lambda: watched.master is not before, "the other is the master", timeout=20)
        assert await results == list(range(40))
        assert await echoes.engine.results(jobs, timeout=PATIENCE) == list(range(40))


async def test_the_user_of_the_docs_may_await_results(namespace: str) -> None:
    server = shared_server()
    raw(server.port, "ACL", "SETUSER", namespace, *rules_for(namespace))
    try:
        url = server.url.replace("//", f"//{namespace}:secret@")
        echoes = Echoes(RedisBroker(url), namespace, ["one"])
        async with echoes.engine:
            await echoes.engine.start_workers(5, block=False)
            jobs = await echoes.schedule(5)
            results = await echoes.awaited(jobs)
            echoes.may_end.set()
            async with asyncio.timeout(3):  # sooner than the next read of all jobs: messages arrive
                assert await results == list(range(5))
    finally:
        raw(server.port, "ACL", "DELUSER", namespace)


async def test_without_the_right_to_channels_jobs_are_settled_and_waits_are_refused(namespace: str) -> None:
    server = shared_server()
    rules = [rule for rule in rules_for(namespace) if not rule.startswith("&")]
    raw(server.port, "ACL", "SETUSER", namespace, *rules)
    try:
        url = server.url.replace("//", f"//{namespace}:secret@")
        worker = Echoes(RedisBroker(url), namespace, ["one"])
        waiter = Echoes(RedisBroker(server.url), namespace, ["one"])
        worker.may_end.set()
        async with worker.engine, waiter.engine:
            await worker.engine.start_workers(5, block=False)
            [job] = await worker.schedule(1)
            assert await waiter.engine.result(job, timeout=PATIENCE) == 0
            with pytest.raises(BrokerError, match="channels"):
                await worker.engine.result(job, timeout=PATIENCE)
    finally:
        raw(server.port, "ACL", "DELUSER", namespace)
