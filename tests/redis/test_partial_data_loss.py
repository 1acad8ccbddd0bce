"""After losing one of its keys: live jobs run again or are dead, and workers end when the queue is empty."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from aiospinach import Engine, RedisBroker

from ..brokers_under_test import shared_server
from ..waiting import until
from .conftest import key, live

LEASE = 0.6
PARTS = [
    "ready",
    "leases",
    "lanes",
    "open",
    "slots",
    "future",
    "control",
    "cancels",
    "jobs",
    "wake",
    "looked",
]


class Workload:
    """Running, queued, held back and waiting jobs of several tasks; bodies end when ``may_end`` is set."""

    def __init__(self, namespace: str, *, lease: float = LEASE) -> None:
        self.engine = Engine(RedisBroker(shared_server().unix_url, lease=lease), namespace)
        self.client = shared_server().client()
        self.namespace = namespace
        self.begun: Counter[str] = Counter()
        self.ended: set[str] = set()
        self.may_end = asyncio.Event()
        engine = self.engine

        @engine.task(name="again", max_retries=9, backoff=lambda _: 0)
        async def again(name: str) -> None:
            await self.run(name)

        @engine.task(name="once")
        async def once(name: str) -> None:
            await self.run(name)

        @engine.task(name="one", max_retries=9, max_concurrency=1, backoff=lambda _: 0)
        async def one(name: str) -> None:
            await self.run(name)

        self.tasks = {"again": again, "once": once, "one": one}

    async def run(self, name: str) -> None:
        self.begun[name] += 1
        if not name.endswith("waits"):
            await self.may_end.wait()
        self.ended.add(name)

    async def fill(self) -> None:
        """Have jobs of each task running, queued and waiting."""
        soon = datetime.now(UTC) + timedelta(seconds=2)
        for name, task in self.tasks.items():
            await task.schedule(f"{name}-runs")
        await self.engine.start_workers(4, block=False)
        await until(lambda: sum(self.begun.values()) == 3, show=lambda: self.begun)
        await self.tasks["one"].schedule("one-queued")
        await until(lambda: self.client.zcard(key(self.namespace, "lanes")))
        for name in ("again", "once"):
            await self.tasks[name].schedule(f"{name}-queued")
        await until(lambda: sum(self.begun.values()) == 4, show=lambda: self.begun)
        for name, task in self.tasks.items():
            await task.schedule_at(soon, f"{name}-waits")

    def lose(self, part: str) -> None:
        self.client.delete(key(self.namespace, part))

    async def dead(self) -> set[str]:
        return {dead.job.args[0] async for dead in self.engine.dead_jobs() if dead.job.args}

    async def drained(self) -> bool:
        """Wait until no job is live."""
        await until(lambda: not live(self.client, self.namespace), timeout=20, show=self.keys)
        return True

    def keys(self) -> dict[str, Any]:
        names = ("ready", "lanes", "leases", "slots", "future")
        return {
            name: self.client.zrange(key(self.namespace, name), 0, -1)
            if name != "ready"
            else self.client.lrange(key(self.namespace, name), 0, -1)
            for name in names
        } | {"jobs": self.client.hkeys(key(self.namespace, "jobs"))}


@pytest.mark.parametrize("part", PARTS)
async def test_every_live_job_runs_or_is_dead_after_a_key_was_lost(namespace: str, part: str) -> None:
    workload = Workload(namespace)
    async with workload.engine:
        await workload.fill()
        workload.lose(part)
        workload.may_end.set()
        assert await workload.drained()
        dead = await workload.dead()
        everything = {f"{task}-{how}" for task in workload.tasks for how in ("runs", "queued", "waits")}
        if part != "jobs":  # otherwise the arguments were lost as well
            assert workload.ended | dead == everything
            assert all(workload.begun[name] <= 1 for name in everything if name.startswith("once"))
            assert {name for name in everything if name.endswith("waits")} <= workload.ended
            assert all(name.startswith("once") for name in dead - workload.ended)
        await workload.engine.stop_workers()


@pytest.mark.parametrize("part", ["ready", "leases", "lanes", "open", "future"])
async def test_workers_that_stop_when_the_queue_is_empty_end_after_a_key_was_lost(
    namespace: str, part: str
) -> None:
    workload = Workload(namespace)
    async with workload.engine:
        await workload.fill()
        await workload.engine.stop_workers() if part in ("ready", "future") else None
        workload.lose(part)
        workload.may_end.set()
        await workload.engine.stop_workers()
        async with asyncio.timeout(20):
            await workload.engine.start_workers(3, stop_when_queue_empty=True)


async def test_a_running_job_whose_lease_was_deleted_is_cancelled_before_it_runs_again(
    namespace: str,
) -> None:
    """The lease was deleted; the job is leased again only after the worker has noticed that."""
    workload = Workload(namespace, lease=1.2)
    running = 0
    most = 0

    @workload.engine.task(name="alone", max_retries=3, backoff=lambda _: 0)
    async def alone() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        workload.begun["alone"] += 1
        try:
            await workload.may_end.wait()
        finally:
            running -= 1

    async with workload.engine:
        await alone.schedule()
        await workload.engine.start_workers(3, block=False)
        await until(lambda: workload.begun["alone"] == 1)
        workload.lose("leases")
        await until(lambda: workload.begun["alone"] == 2, timeout=20)
        workload.may_end.set()
        assert await workload.drained()
        await workload.engine.stop_workers()
    assert most == 1


async def test_all_jobs_of_a_store_restored_from_an_older_file_end(
    namespace: str, plain: redis.Redis
) -> None:
    workload = Workload(namespace)
    async with workload.engine:
        await workload.fill()
        names = list(plain.scan_iter(f"ais2:{{{namespace}:*", count=10_000))
        file = {name: plain.dump(name) for name in names}
        workload.may_end.set()
        assert await workload.drained()
        later = await workload.tasks["again"].schedule("after the file was written")
        await until(lambda: "after the file was written" in workload.ended, show=lambda: later)
        for name in plain.scan_iter(f"ais2:{{{namespace}:*", count=10_000):
            plain.delete(name)
        for name, value in file.items():
            if value is not None:
                plain.restore(name, 0, value)
        assert live(plain, namespace) > 0
        assert await workload.drained()
        await workload.engine.stop_workers()
        async with asyncio.timeout(20):
            await workload.engine.start_workers(3, stop_when_queue_empty=True)
