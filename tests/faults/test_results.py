"""Results under faults: each arrives, soon, and is that of the run that counts."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiospinach import Batch, Engine, Job, RedisBroker
from aiospinach.brokers.results import channel_of

from ..redis.conftest import SCRIPTS
from ..redis.proxy import Proxy
from ..servers import Server, kill_with_parent
from ..waiting import until
from .conftest import Report, Size
from .network import Network
from .result_worker import tasks

ROOT = Path(__file__).parents[2]
CUT_EVERY = 2.0
LATEST = 6.0


async def test_results_arrive_soon_although_replies_are_dropped_and_subscriptions_are_cut(
    server: Server, namespace: str, size: Size, report: Report
) -> None:
    count, seconds = 1000, size(8, 40)
    ended: dict[int, float] = {}
    arrived: dict[int, float] = {}
    chance = random.Random(7)

    async with (
        Proxy(server.port) as proxy,
        Engine(RedisBroker(proxy.url, enqueue_timeout=10), namespace) as engine,
        Engine(RedisBroker(server.url), namespace) as workers,
    ):

        async def body(number: int, pause: float) -> str:
            await asyncio.sleep(pause)
            ended[number] = time.monotonic()
            return f"result {number}"

        for each in (engine, workers):
            each.task(name="echo", result_ttl=60)(body)
        await workers.start_workers(count, block=False)
        proxy.lose_answers(lambda name, number: chance.random() < 0.05, SCRIPTS)

        async def run(number: int) -> str:
            job = await engine.schedule("echo", number, chance.random() * seconds)
            result: str = await engine.result(job, timeout=90)
            arrived[number] = time.monotonic()
            return result

        async def cut() -> int:
            cuts = 0
            with server.client() as client:
                while True:
                    await asyncio.sleep(CUT_EVERY)
                    cuts += client.client_kill_filter(_type="pubsub")

        cutting = asyncio.create_task(cut())
        results = await asyncio.gather(*map(run, range(count)))
        cutting.cancel()
        proxy.lose_answers(None)
    late = [arrived[number] - ended[number] for number in range(count)]
    report(results=count, latest=f"{max(late):.2f} s", dropped=sum(proxy.lost.values()))
    assert results == [f"result {number}" for number in range(count)]
    assert proxy.lost[b"results"] > 0
    assert max(late) < LATEST


async def test_the_result_is_that_of_the_second_run_if_the_first_was_killed_before_its_settlement(
    server: Server, namespace: str
) -> None:
    command = [sys.executable, "-m", "tests.faults.result_worker", server.url, namespace]
    workers = [
        subprocess.Popen(command, cwd=ROOT, preexec_fn=kill_with_parent(), stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    try:
        async with Engine(RedisBroker(server.url), namespace) as engine:
            engine.attach_tasks(tasks)
            job = await engine.schedule("kept")
            pid, crashes = await engine.result(job, timeout=60)
        killed = [worker for worker in workers if worker.poll() is not None]
        assert len(killed) == 1
        assert crashes == 1
        assert pid in {worker.pid for worker in workers} - {killed[0].pid}
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


async def test_the_result_of_a_zombie_is_refused(server: Server, namespace: str) -> None:
    may_end = asyncio.Event()
    async with (
        Network(server.port) as network,
        Engine(RedisBroker(network.url, lease=1), namespace) as zombie,
        Engine(RedisBroker(server.url, lease=1), namespace) as engine,
    ):

        def declare(engine: Engine, name: str) -> None:
            @engine.task(name="work", result_ttl=60, max_retries=5)
            async def work() -> str:
                if engine is zombie:
                    network.partition()
                    while not may_end.is_set():
                        with contextlib.suppress(asyncio.CancelledError):  # its lease is about to end
                            await may_end.wait()
                return name

        declare(zombie, "zombie")
        declare(engine, "second")
        job = await engine.schedule("work")
        await zombie.start_workers(1, block=False)
        await until(lambda: not network._is_connected.is_set(), "the first run has begun")
        await engine.start_workers(1, block=False)
        assert await engine.result(job, timeout=30) == "second"
        may_end.set()
        await asyncio.sleep(0)
        network.heal()
        await zombie.stop_workers()
        assert await engine.result(job, timeout=10) == "second"


async def test_ten_thousand_waits_have_one_connection_more(server: Server, namespace: str) -> None:
    count = 10_000
    async with Engine(RedisBroker(server.url), namespace) as engine:

        @engine.task(result_ttl=60)
        async def work(number: int) -> int:
            return number

        later = datetime.now(UTC) + timedelta(hours=1)
        batch = Batch()
        for number in range(count):
            batch.schedule_at(work, later, number)
        jobs: list[Job[int]] = await engine.schedule_batch(batch)
        with server.client() as client:
            before = len(client.client_list())
            waits = [asyncio.create_task(engine.result(job)) for job in jobs]

            def subscribed() -> int:
                return sum(int(each["ssub"]) for each in client.client_list())

            await until(lambda: subscribed() == count, "all are subscribed", timeout=60)
            assert len(client.client_list()) == before + 1
            assert (
                sum(
                    client.execute_command(
                        "PUBSUB",
                        "SHARDNUMSUB",
                        *(f"ais2:{{{namespace}:default}}:{channel_of(job.id)}" for job in jobs[:3]),
                    )[1::2]
                )
                == 3
            )
            for job in jobs[:5]:
                await engine.cancel(job)
            ends = await asyncio.gather(*waits[:5], return_exceptions=True)
            assert {type(end).__name__ for end in ends} == {"ResultCancelled"}
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
            await until(lambda: len(client.client_list()) == before, "the connection is closed", timeout=20)
