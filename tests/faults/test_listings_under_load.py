"""Listings while jobs of all kinds come, move and end: no job twice, none that never was, none left out."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import Engine, Job, JobStatus, MemoryBroker, RedisBroker

from ..servers import Server
from .conftest import Report, Size

QUEUE = "mixed"
STATUSES = (None, JobStatus.QUEUED, JobStatus.WAITING, JobStatus.RUNNING, JobStatus.FAILED)
BACKLOG = 1500
"""With more jobs that are not dead, no new ones are stored for a while."""
STILL = 150
"""Jobs that wait for years, and nobody moves: each listing of waiting jobs has them."""


class Load:
    """Workers, and a random mixture of calls that store, move and end jobs."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        self.stored: set[str] = set()
        """The ids of all jobs, each noted before it is stored."""
        self.calls: Counter[str] = Counter()
        self.random = random.Random(seed)

        @engine.task(name="work", queue=QUEUE, max_retries=2, backoff=lambda attempt: 0.05)
        async def work(number: int) -> None:
            await asyncio.sleep(number % 5 / 1000)
            if number % 11 == 0:
                raise ValueError("tried again, and dead in the end")

        @engine.task(name="limited", queue=QUEUE, max_concurrency=2)
        async def limited(number: int) -> None:
            await asyncio.sleep(number % 3 / 1000)

        @engine.task(name="still", queue=QUEUE)
        async def still(number: int) -> None: ...

        self.still = still
        self.tasks = (work, limited)

    async def store(self, task: Any, at: datetime | None = None) -> None:
        number = len(self.stored)
        job_id = f"{task.name}-{number:07}"
        self.stored.add(job_id)
        await task.options(id=job_id).schedule_at(at or datetime.now(UTC), number)

    async def step(self) -> None:
        """Make one random call."""
        choice, engine = self.random, self.engine
        task = choice.choice(self.tasks)
        some_id = f"{task.name}-{choice.randrange(max(1, len(self.stored) - 2000), len(self.stored) + 1):07}"
        soon = datetime.now(UTC) + timedelta(seconds=choice.random())
        names = ("schedule", "later", "cancel", "move", "now", "requeue", "pause", "resume", "purge", "bury")
        [name] = choice.choices(names, (60, 20, 10, 10, 10, 5, 1, 3, 0.05, 0.3))
        self.calls[name] += 1
        if name == "schedule":
            await asyncio.gather(*(self.store(task) for _ in range(choice.randrange(1, 20))))
        elif name == "later":
            await asyncio.gather(*(self.store(task, soon) for _ in range(choice.randrange(1, 20))))
        elif name == "cancel":
            await engine.cancel(some_id, queue=QUEUE)
        elif name == "move":
            await engine.reschedule(some_id, soon, queue=QUEUE)
        elif name == "now":
            await engine.reschedule(some_id, None, queue=QUEUE)
        elif name == "requeue":
            await engine.requeue(some_id, queue=QUEUE)
        elif name == "pause":
            await engine.pause(task, for_=0.2)
        elif name == "resume":
            await engine.resume(task)
        elif name == "purge":
            await engine.cancel_all(queue=QUEUE, task=task)
        else:
            await engine.discard_dead(queue=QUEUE, task=task)

    async def run(self, until_moment: float) -> None:
        while time.monotonic() < until_moment:
            counts = (await self.engine.counts(queue=QUEUE))[QUEUE]
            if counts.ready + counts.waiting > BACKLOG:
                for task in self.tasks:
                    await self.engine.resume(task)
                await asyncio.sleep(0.05)
                continue
            for _ in range(20):
                await self.step()
                await asyncio.sleep(0)


class Lister:
    """Lists the jobs over and over, and checks each listing."""

    def __init__(self, engine: Engine, load: Load) -> None:
        self.engine = engine
        self.load = load
        self.listed = 0
        self.listings = 0

    async def run(self, until_moment: float) -> None:
        number = 0
        while time.monotonic() < until_moment or number < len(STATUSES):
            status = STATUSES[number % len(STATUSES)]
            self.check(status, [job async for job in self.engine.jobs(queue=QUEUE, status=status)])
            await self.check_page(status)
            number += 1
            await asyncio.sleep(0.02)  # in memory nothing else would run

    def check(self, status: JobStatus | None, jobs: list[Job]) -> None:
        ids = [job.id for job in jobs]
        assert [job_id for job_id, count in Counter(ids).items() if count > 1] == [], "a job came twice"
        assert set(ids) <= self.load.stored, "a job came that nobody stored"
        assert all(job.task_name == job.id.partition("-")[0] for job in jobs)
        assert status is None or all(job.status is status for job in jobs)
        if status in (None, JobStatus.WAITING):
            assert sum(job.task_name == "still" for job in jobs) == STILL, (
                "a job that did not move is left out"
            )
        self.listed += len(jobs)
        self.listings += 1

    async def check_page(self, status: JobStatus | None) -> None:
        page = await self.engine.page(queue=QUEUE, status=status, limit=1000)
        ids = [job.id for job in page.jobs]
        assert len(ids) == len(set(ids)), "a page has a job twice"
        assert set(ids) <= self.load.stored


@pytest.fixture(params=["memory", "redis"])
async def engines(
    request: pytest.FixtureRequest, namespace: str, server: Server
) -> AsyncIterator[tuple[Engine, Engine]]:
    """One engine that works, and one that lists: in memory, both are the same."""
    if request.param == "memory":
        async with Engine(MemoryBroker(), namespace) as engine:
            yield engine, engine
        return
    working, listing = Engine(RedisBroker(server.url), namespace), Engine(RedisBroker(server.url), namespace)
    async with working, listing:
        yield working, listing


@pytest.mark.timeout(900)
async def test_a_listing_beside_a_random_load_has_each_job_once(
    engines: tuple[Engine, Engine], size: Size, report: Report
) -> None:
    working, listing = engines
    load = Load(working, seed=size(1, 2))
    if listing is not working:
        Load(listing, seed=0)  # attaches the tasks
    for number in range(STILL):
        await load.store(load.still, datetime(2100, 1, 1, tzinfo=UTC) + timedelta(seconds=number))
    lister = Lister(listing, load)
    await working.start_workers(10, QUEUE, block=False)
    until_moment = time.monotonic() + size(3, 300)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(until_moment))
        group.create_task(lister.run(until_moment))
    for task in load.tasks:
        await working.resume(task)
    counts = (await working.counts(queue=QUEUE))[QUEUE]
    deadline = time.monotonic() + 60
    while (counts.ready, counts.running, counts.waiting) != (0, 0, STILL):
        assert time.monotonic() < deadline, f"jobs are stuck: {counts}"
        await asyncio.sleep(0.05)
        counts = (await working.counts(queue=QUEUE))[QUEUE]
    left = {job.id async for job in listing.jobs(queue=QUEUE)}
    assert len(left) == STILL + counts.dead
    await working.stop_workers()
    report(stored=len(load.stored), listings=lister.listings, listed=lister.listed, **load.calls)
