"""Jobs of tasks unknown to one worker reach another one; jobs of another release wait for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis

from aiospinach import Engine, JobStatus, RedisBroker, current_job
from aiospinach.brokers.questions import LookWorkers
from aiospinach.brokers.records import NO_PARKING, Envelope, ExchangeResult, Parking, Settlement

from .. import asking
from ..brokers_under_test import shared_server
from ..conftest import Heard
from ..servers import Server
from ..waiting import until
from .conftest import key

LEASE = 2.4
"""With it, workers look at their queues every 0.2 s."""


class CountingBroker(RedisBroker):
    """Counts exchanges, and the jobs that they lease."""

    def __init__(self, url: str, *, lease: float) -> None:
        super().__init__(url, lease=lease)
        self.counted: Counter[str] = Counter()

    async def exchange(
        self, queue: str, settled: Sequence[Settlement], want: int, parking: Parking = NO_PARKING
    ) -> ExchangeResult:
        exchanged = await super().exchange(queue, settled, want, parking)
        self.counted.update(exchanges=1, leases=len(exchanged.leases))
        return exchanged


async def last_look(broker: RedisBroker) -> int:
    [worker] = await broker.look("default", LookWorkers())
    return worker.at


@pytest.mark.parametrize("other_workers", [1, 3])
async def test_an_unknown_job_is_not_leased_to_the_same_worker_again(
    namespace: str, own_server: Server, heard: Heard, other_workers: int
) -> None:
    were_parked: list[bool] = []
    async with AsyncExitStack() as stack:
        client = stack.enter_context(own_server.client())
        brokers: list[CountingBroker] = []

        async def worker() -> Engine:
            before = client.info("clients")["blocked_clients"]
            brokers.append(CountingBroker(own_server.unix_url, lease=LEASE))
            engine = await stack.enter_async_context(Engine(brokers[-1], namespace))
            if before == other_workers:

                @engine.task(name="added")
                async def added() -> None:
                    job = current_job()
                    assert job is not None
                    were_parked.append(job.parked_at is not None)

            await engine.start_workers(2, block=False)
            await until(lambda: client.info("clients")["blocked_clients"] == before + 1)
            return engine

        engines = [
            await worker() for _ in range(other_workers + 1)
        ]  # workers that wait longest are woken first
        number, rounds_left = 0, 10
        while rounds_left:
            number += 1
            await engines[-1].schedule("added")
            await until(lambda: len(were_parked) == number, "it runs", timeout=10)  # noqa: B023
            await until(lambda: client.info("clients")["blocked_clients"] == other_workers + 1)
            leases = [broker.counted["leases"] for broker in brokers[:-1]]
            if min(leases) > 0 or number > 100:  # each of the others has met the task
                rounds_left -= 1
        assert leases == [1] * other_workers, "the other jobs are parked by the first exchange"
    assert any(were_parked)


async def test_parked_jobs_cost_nothing(namespace: str, plain: redis.Redis, heard: Heard) -> None:
    count = 20_000
    broker = CountingBroker(shared_server().unix_url, lease=LEASE)
    async with Engine(broker, namespace) as engine:

        @engine.task(name="known")
        async def known() -> None:
            pass

        jobs = [Envelope(f"u{number}", "unknown", b"[[],{}]") for number in range(count)]
        await broker.enqueue("default", jobs)
        await engine.start_workers(5, block=False)
        await until(lambda: plain.zlexcount(key(namespace, "lanes"), "-", "+") == count, timeout=20)
        assert broker.counted["leases"] <= 5, "one exchange finds that the task is unknown"
        assert broker.counted["exchanges"] <= count / 1000 + 5, "many are parked in one call"
        looked_at = await last_look(broker)
        before = 0
        async with asyncio.timeout(10):
            while (now := await last_look(broker)) < looked_at + 800:
                if now == looked_at:  # the last exchange may still be under way
                    before = broker.counted["exchanges"]
                await asyncio.sleep(0.01)
        assert broker.counted["exchanges"] == before, "it looks, and makes no exchange"
        for _ in range(100):
            await known.schedule()
        await until(lambda: heard.count("job_finished") == 100)
        assert broker.counted["leases"] <= 105

        @engine.task(name="unknown")
        async def unknown() -> None:
            pass

        await until(lambda: heard.count("job_finished") == count + 100, timeout=60)
    assert plain.exists(key(namespace, "lanes")) == 0
    assert plain.hexists(key(namespace, "control"), " lanes") == 0


async def test_a_job_of_another_release_waits_and_one_that_it_parked_runs(
    namespace: str, plain: redis.Redis, heard: Heard
) -> None:
    broker = RedisBroker(shared_server().unix_url, lease=LEASE)
    async with Engine(broker, namespace) as engine:

        @engine.task(name="job")
        async def job() -> None:
            pass

        later, ours = b"3 job, and what we do not know", b"2 job 0 0 -\n0 0 0 0 - - - -\n[[],{}]"
        plain.hset(key(namespace, "jobs"), mapping={"later": later, "ours": ours})
        plain.rpush(key(namespace, "ready"), "later")
        plain.zadd(key(namespace, "lanes"), {"?/2\n01700000000000\nours": 0})
        plain.hset(key(namespace, "control"), " lanes", 1)
        await engine.start_workers(5, block=False)
        await until(lambda: heard.count("job_finished") == 1)
        assert heard.last("job_finished")["job"].id == "ours"
        await until(lambda: plain.llen(key(namespace, "ready")) == 0)
        assert (await asking.counts(broker, "default")).parked == 1
        assert await engine.cancel("later", queue="default") is JobStatus.NOT_SET
        entry: Any
        [entry] = plain.zrange(key(namespace, "lanes"), 0, -1)
        gate, since, job_id = entry.split(b"\n")
        assert (gate, job_id) == (b"?/3", b"later")
        assert abs(int(since) - broker.now()) < 60_000
        assert plain.hget(key(namespace, "jobs"), "later") == later, "it is not changed"
    await broker.flush("default")
