"""A store that lost a part: what lives runs again or is dead, and who waits for the end comes to it."""

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


class Shop:
    """Workers that hold jobs of each kind until they are let go, and some that wait in each way."""

    def __init__(self, namespace: str, *, lease: float = LEASE) -> None:
        self.engine = Engine(RedisBroker(shared_server().unix_url, lease=lease), namespace)
        self.client = shared_server().client()
        self.namespace = namespace
        self.begun: Counter[str] = Counter()
        self.ended: set[str] = set()
        self.goes_on = asyncio.Event()
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
            await self.goes_on.wait()
        self.ended.add(name)

    async def fill(self) -> None:
        """Have some of each task run, be held back, and wait for their time."""
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

    async def is_over(self) -> bool:
        """Nothing lives any more."""
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
async def test_whatever_is_lost_all_that_lives_runs_or_is_dead(namespace: str, part: str) -> None:
    shop = Shop(namespace)
    async with shop.engine:
        await shop.fill()
        shop.lose(part)
        shop.goes_on.set()
        assert await shop.is_over()
        dead = await shop.dead()
        everything = {f"{task}-{how}" for task in shop.tasks for how in ("runs", "queued", "waits")}
        if part != "jobs":  # what they were called with was lost as well
            assert shop.ended | dead == everything
            assert all(shop.begun[name] <= 1 for name in everything if name.startswith("once"))
            assert {name for name in everything if name.endswith("waits")} <= shop.ended
            assert all(name.startswith("once") for name in dead - shop.ended)
        await shop.engine.stop_workers()


@pytest.mark.parametrize("part", ["ready", "leases", "lanes", "open", "future"])
async def test_workers_that_stop_when_nothing_is_left_come_to_their_end(namespace: str, part: str) -> None:
    shop = Shop(namespace)
    async with shop.engine:
        await shop.fill()
        await shop.engine.stop_workers() if part in ("ready", "future") else None
        shop.lose(part)
        shop.goes_on.set()
        await shop.engine.stop_workers()
        async with asyncio.timeout(20):
            await shop.engine.start_workers(3, stop_when_queue_empty=True)


async def test_a_job_that_runs_is_cancelled_before_another_worker_gets_it(namespace: str) -> None:
    """Its lease was deleted, but as for any lease that is lost nobody gets it before the worker has heard."""
    shop = Shop(namespace, lease=1.2)
    running = 0
    most = 0

    @shop.engine.task(name="alone", max_retries=3, backoff=lambda _: 0)
    async def alone() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        shop.begun["alone"] += 1
        try:
            await shop.goes_on.wait()
        finally:
            running -= 1

    async with shop.engine:
        await alone.schedule()
        await shop.engine.start_workers(3, block=False)
        await until(lambda: shop.begun["alone"] == 1)
        shop.lose("leases")
        await until(lambda: shop.begun["alone"] == 2, timeout=20)
        shop.goes_on.set()
        assert await shop.is_over()
        await shop.engine.stop_workers()
    assert most == 1


async def test_a_store_that_was_restored_from_an_older_file_ends_all_that_it_has(
    namespace: str, plain: redis.Redis
) -> None:
    shop = Shop(namespace)
    async with shop.engine:
        await shop.fill()
        names = list(plain.scan_iter(f"ais2:{{{namespace}:*", count=10_000))
        file = {name: plain.dump(name) for name in names}
        shop.goes_on.set()
        assert await shop.is_over()
        later = await shop.tasks["again"].schedule("after the file was written")
        await until(lambda: "after the file was written" in shop.ended, show=lambda: later)
        for name in plain.scan_iter(f"ais2:{{{namespace}:*", count=10_000):
            plain.delete(name)
        for name, value in file.items():
            if value is not None:
                plain.restore(name, 0, value)
        assert live(plain, namespace) > 0
        assert await shop.is_over()
        await shop.engine.stop_workers()
        async with asyncio.timeout(20):
            await shop.engine.start_workers(3, stop_when_queue_empty=True)
