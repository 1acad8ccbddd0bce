"""A Cluster with a master that is down or hangs: queues on the other masters are not affected."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from aiospinach import Engine, RedisBroker

from ..topologies.conftest import Cluster, slot_of, spread, wait_for
from ..waiting import until
from .conftest import Report, Size

LEASE = 4.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A Cluster for one test."""
    cluster = Cluster()
    try:
        wait_for(cluster.is_whole, "the Cluster is whole")
        yield cluster
    finally:
        cluster.close()


class Queues:
    """Workers of queues on all masters; those on the master to be harmed come first."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        names = spread(cluster, namespace)
        self.victim = cluster.owner(slot_of(cluster, namespace, names[0]))
        owners = {name: cluster.owner(slot_of(cluster, namespace, name)) for name in names}
        self.affected = [name for name in names if owners[name] is self.victim]
        self.unaffected = [name for name in names if owners[name] is not self.victim]
        self.ran: list[tuple[str, int]] = []
        self.cancelled: list[str] = []
        self.ticks = 0
        self.engine = Engine(RedisBroker(cluster.url, lease=LEASE, enqueue_timeout=30), namespace)
        for name in names:
            self._add(name)

        @self.engine.task(name="beat", queue=self.unaffected[0], periodicity=timedelta(seconds=1))
        async def beat() -> None:
            self.ticks += 1

    def _add(self, queue: str) -> None:
        @self.engine.task(name=f"run.{queue}", queue=queue, max_retries=1)
        async def run(number: int, seconds: float = 0.0) -> None:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                self.cancelled.append(queue)
                raise
            self.ran.append((queue, number))

    async def start(self) -> None:
        await self.engine.start_workers(50, [*self.affected, *self.unaffected], block=False)

    async def schedule(self, queue: str, number: int, seconds: float = 0.0) -> None:
        await self.engine.schedule(f"run.{queue}", number, seconds)


@pytest.mark.timeout(120)
async def test_a_master_that_is_down_stops_no_tick_or_job_of_another(
    cluster: Cluster, namespace: str, size: Size, report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    jobs = Queues(cluster, namespace)
    rounds = size(1, 4)
    async with jobs.engine:
        await jobs.start()
        for queue in (*jobs.affected, *jobs.unaffected):
            await jobs.schedule(queue, -1, 2 * LEASE * rounds)  # long enough for their leases to be renewed
        await until(lambda: jobs.ticks >= 1, "a tick")
        jobs.victim.kill()
        ticks, before = jobs.ticks, len(jobs.ran)
        for number in range(10 * rounds):
            await asyncio.gather(*(jobs.schedule(queue, number) for queue in jobs.unaffected))
        served = before + 10 * rounds * len(jobs.unaffected)
        await until(lambda: len(jobs.ran) >= served, "jobs of the others run", timeout=20)
        wanted = ticks + int(2 * LEASE * rounds)
        await until(lambda: jobs.ticks >= wanted, "their ticks fire", timeout=60, show=lambda: jobs.ticks)
        await until(
            lambda: {(queue, -1) for queue in jobs.unaffected} <= set(jobs.ran), "long jobs end", timeout=30
        )
        assert not set(jobs.cancelled) & set(jobs.unaffected), "a lease of another master was lost"
        jobs.victim.start()
        await jobs.engine.stop_workers()
    report(jobs=len(jobs.ran), ticks=jobs.ticks, cancelled_of_others=0)


@pytest.mark.timeout(120)
async def test_idle_workers_are_woken_while_another_master_hangs(
    cluster: Cluster, namespace: str, size: Size, report: Report
) -> None:
    jobs = Queues(cluster, namespace)
    count = size(5, 50)
    loop = asyncio.get_running_loop()
    longest = 0.0
    async with jobs.engine:
        await jobs.start()
        await jobs.schedule(jobs.unaffected[0], -1)
        await until(lambda: jobs.ran, "the workers work")
        jobs.victim.pause()
        try:
            for number in range(count):
                since = loop.time()
                await jobs.schedule(jobs.unaffected[number % len(jobs.unaffected)], number)
                # An idle worker looks for jobs after 5 s at most; a hanging call times out after 2 s.
                await until(lambda: (jobs.ran[-1][1]) == number, f"job {number} runs", timeout=8)  # noqa: B023
                longest = max(longest, loop.time() - since)
        finally:
            jobs.victim.resume()
        await jobs.engine.stop_workers()
    report(jobs=count, longest_ms=round(1000 * longest))


@pytest.mark.timeout(120)
async def test_workers_follow_a_failover_from_a_hanging_master(
    cluster: Cluster, namespace: str, size: Size, report: Report
) -> None:
    jobs = Queues(cluster, namespace)
    count = size(20, 500)
    replica = cluster.add_replica(jobs.victim)
    loop = asyncio.get_running_loop()
    try:
        async with jobs.engine:
            await jobs.start()
            for queue in (*jobs.affected, *jobs.unaffected):
                await jobs.schedule(queue, -1)
            await until(
                lambda: len(jobs.ran) == len(jobs.affected) + len(jobs.unaffected), "the workers work"
            )
            await until(lambda: cluster.is_copied(replica), "the replica has what its master has")
            jobs.victim.pause()
            try:
                since = loop.time()
                # The servers may fail to elect a master on a busy machine. How they elect is not tested here.
                with contextlib.suppress(AssertionError):
                    await until(lambda: cluster.is_master(replica), timeout=20)
                if not cluster.is_master(replica):
                    cluster.ask(replica, "CLUSTER FAILOVER", "TAKEOVER")
                await until(lambda: cluster.is_master(replica), "the replica is the master", timeout=30)
                elected = loop.time() - since
                for number in range(count):
                    await jobs.schedule(jobs.affected[number % len(jobs.affected)], number)
                scheduled = loop.time() - since - elected
                done = {(jobs.affected[number % len(jobs.affected)], number) for number in range(count)}
                await until(lambda: done <= set(jobs.ran), "all run on the new one", timeout=30)
                ran = loop.time() - since - elected
            finally:
                jobs.victim.resume()
            await jobs.engine.stop_workers()
    finally:
        replica.close()
    assert len(jobs.ran) == len(set(jobs.ran))
    report(
        jobs=count,
        elected_after=f"{elected:.1f} s",
        scheduled_after=f"{scheduled:.1f} s",
        ran_after=f"{ran:.1f} s",
    )
