"""A worker of many queues costs no more than one of a single queue, in commands and in Python calls."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from aiospinach import Batch, Broker, Engine, RedisBroker
from aiospinach.brokers.records import Envelope, SweepResult
from aiospinach.brokers.reports import WorkerReport
from aiospinach.workers import listener

from ..brokers_under_test import BROKERS, MakeBroker
from ..servers import Server
from ..waiting import until
from .conftest import Counts, key
from .proxy import Proxy

JOBS = 60


class Queues:
    """An engine with one task in each of ``count`` queues."""

    def __init__(self, broker: Broker, namespace: str, count: int) -> None:
        self.names = [f"queue-{number}" for number in range(count)]
        self.engine = Engine(broker, namespace)
        self.done = 0
        for name in self.names:
            self.engine.task(name=f"job-{name}", queue=name)(self._body)

    async def _body(self) -> None:
        await asyncio.sleep(0)
        self.done += 1

    async def start(self, number: int = 32) -> None:
        await self.engine.start_workers(number, self.names, block=False)

    async def run(self, queue: str) -> None:
        """Schedule a job in a queue, and wait until it has run."""
        done = self.done
        await self.engine.schedule(f"job-{queue}")
        await until(lambda: self.done > done, "the job runs")


async def cost_of_a_trickle(server: Server, namespace: str, count: int) -> tuple[float, float, int]:
    """Scripts and commands per job, and new connections, of jobs scheduled one by one."""
    queues = Queues(RedisBroker(server.unix_url), f"{namespace}-{count}", count)
    with server.client() as client:

        def waits() -> bool:
            return bool(client.info("clients")["blocked_clients"] == 1)

        async with queues.engine:
            await queues.start()
            for name in queues.names[-3:]:
                await queues.run(name)
            await until(waits, "the worker waits")
            counts, before = Counts(client), client.info("stats")["total_connections_received"]
            for number in range(JOBS):
                await queues.run(queues.names[number % count])
                await until(waits, "the worker waits")
            commands = counts.by_name()
            made = client.info("stats")["total_connections_received"] - before
            await queues.engine.stop_workers()
    return commands["evalsha"] / JOBS, sum(commands.values()) / JOBS, made


async def test_the_cost_of_a_job_does_not_depend_on_the_number_of_queues(
    namespace: str, own_server: Server
) -> None:
    alone_scripts, alone_commands, made = await cost_of_a_trickle(own_server, namespace, 1)
    assert made == 0
    for count in (2, 10, 30):
        scripts, commands, made = await cost_of_a_trickle(own_server, namespace, count)
        assert made == 0, f"{made} connections for {JOBS} jobs of {count} queues"
        assert scripts <= 1.1 * alone_scripts, count
        assert commands <= 1.1 * alone_commands, count


@pytest.mark.parametrize("count", [1, 2, 10, 30])
async def test_a_worker_makes_no_new_connection_for_bursts_of_jobs(
    namespace: str, own_server: Server, count: int
) -> None:
    queues = Queues(RedisBroker(own_server.unix_url), namespace, count)
    with own_server.client() as client:
        async with queues.engine:
            await queues.start(number=2)  # so few that queues wait for slots as well
            await queues.run(queues.names[0])
            before = client.info("stats")["total_connections_received"]
            for burst in (1, 3, 10, 2, 30):
                done = queues.done + burst
                names = (queues.names[number % count] for number in range(burst))
                await asyncio.gather(*(queues.engine.schedule(f"job-{name}") for name in names))
                await until(lambda: queues.done == done, f"{burst} jobs ran")  # noqa: B023
            assert client.info("stats")["total_connections_received"] == before
            await queues.engine.stop_workers()


def counting_calls(calls: Counter[str]) -> Callable[..., None]:
    """A profiler that counts calls of Python and C functions."""

    def count(frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            calls["all"] += 1

    return count


@pytest.mark.parametrize("make", BROKERS)
async def test_the_python_calls_per_job_do_not_depend_on_the_number_of_queues(
    namespace: str, make: MakeBroker
) -> None:
    costs: dict[int, float] = {}
    for count in (1, 100):
        queues = Queues(make(), f"{namespace}-{count}", count)
        async with queues.engine:
            await queues.start(number=8)
            await queues.run(queues.names[-1])
            batch = Batch()
            for _ in range(500):
                batch.schedule(f"job-{queues.names[0]}")
            done = queues.done + 500
            calls: Counter[str] = Counter()
            sys.setprofile(counting_calls(calls))
            try:
                await queues.engine.schedule_batch(batch)
                while queues.done < done:
                    await asyncio.sleep(0.005)
            finally:
                sys.setprofile(None)
            await queues.engine.stop_workers()
        costs[count] = calls["all"] / 500
    assert costs[100] <= 1.5 * costs[1], costs


class SweepingBroker(RedisBroker):
    """Counts the calls of workers to each method."""

    def __init__(self, url: str, *, lease: float) -> None:
        super().__init__(url, lease=lease)
        self.calls: Counter[str] = Counter()

    async def sweep(self, queues: Sequence[str], *report: Any, **last: Any) -> list[SweepResult]:
        self.calls["sweep"] += 1
        return await super().sweep(queues, *report, **last)

    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        self.calls["wait"] += 1
        return await super().wait(queues, timeout)


@pytest.mark.parametrize("count", [1, 100])
async def test_an_idle_worker_makes_one_call_per_period_for_all_its_queues(
    namespace: str, own_server: Server, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(listener, "LISTEN_FOR", 0.25)  # 5 s scaled down, like the lease from 60 s to 3 s
    broker = SweepingBroker(own_server.unix_url, lease=3)
    queues = Queues(broker, namespace, count)
    async with queues.engine:
        await queues.start()
        await queues.run(queues.names[0])
        await until(lambda: broker.calls["sweep"] >= 2)
        with own_server.client() as client:
            counts, sweeps = Counts(client), broker.calls["sweep"]
            await until(lambda: broker.calls["sweep"] == sweeps + 8)
            commands = counts.by_name()
        await queues.engine.stop_workers()
    assert commands["evalsha"] <= 8 + 1, commands
    assert commands["blpop"] <= 8 + 2, commands


async def test_workers_of_a_thousand_queues_are_idle_after_registering_them(
    namespace: str, own_server: Server
) -> None:
    broker = SweepingBroker(own_server.unix_url, lease=60)
    queues = Queues(broker, namespace, 1000)
    async with queues.engine:
        with own_server.client() as client:
            counts = Counts(client)
            await queues.start()
            await until(lambda: client.info("clients")["blocked_clients"] == 1, "the worker waits")
            await queues.run(queues.names[-1])
            await until(lambda: client.info("clients")["blocked_clients"] == 1, "the worker waits")
            commands = counts.by_name()
        calls = Counter(broker.calls)
        await queues.engine.stop_workers()
    # One registration per queue, one sweep in four calls, and one look for each wake-up by registering.
    scripts = commands["evalsha"] + commands.get("eval", 0)
    assert scripts <= 1000 + 4 + 2 * calls["wait"] + 10, (scripts, calls)
    assert calls["sweep"] <= 2


async def test_an_idle_worker_finds_work_within_a_period_if_the_wake_up_is_lost(
    namespace: str, own_server: Server
) -> None:
    broker = SweepingBroker(
        own_server.unix_url, lease=3
    )  # it looks every 0.25 s; every 5 s with a lease of 60 s
    queues = Queues(broker, namespace, 2)
    with own_server.client() as client:

        def waiting(number: int) -> Callable[[], bool]:
            return lambda: client.info("clients")["blocked_clients"] == number

        async with queues.engine:
            await queues.start()
            for name in queues.names * 3:
                await until(waiting(1), "the worker waits")
                wake = f"ais2:{{{namespace}:{name}}}:wake"
                thief = asyncio.create_task(asyncio.to_thread(client.blpop, wake, 20))
                await until(waiting(2), "the thief waits behind it")
                waits = broker.calls["wait"]
                await broker.nudge(queues.names)
                await until(lambda: broker.calls["wait"] > waits, "the worker waits again")  # noqa: B023
                await until(waiting(2), "the worker waits behind the thief")
                sweeps = broker.calls["sweep"]
                await queues.run(name)
                assert await thief is not None, "the wake-up was lost"
                assert broker.calls["sweep"] <= sweeps + 3
            await queues.engine.stop_workers()


async def test_no_lease_is_lost_by_a_half_open_connection(
    namespace: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls of workers time out after a sixth of a lease, so that the next renewal is in time."""
    monkeypatch.setattr("aiospinach.brokers.redis.calls.SHORTEST_PATIENCE", 0.1)
    queues = Queues(RedisBroker(proxy.url, lease=3), namespace, 1)
    ran: list[str] = []

    @queues.engine.task(name="long", queue=queues.names[0])
    async def long() -> None:
        await asyncio.sleep(4)
        ran.append("to its end")

    async with queues.engine:
        await queues.start()
        await long.schedule()
        await until(lambda: proxy.calls[b"exchange"])
        await asyncio.sleep(0.1)
        proxy.make_half_open()
        await until(lambda: ran, timeout=20)
        await queues.engine.stop_workers()
    assert "lost its lease" not in caplog.text


async def test_a_damaged_queue_hides_no_other_from_a_sweep(namespace: str, own_server: Server) -> None:
    broker = RedisBroker(own_server.unix_url)
    await broker.open(namespace)
    for queue in ("spoilt", "well"):
        await broker.register(queue, {}, {})
    await broker.enqueue("well", [Envelope("a", "send", b"")])
    with own_server.client() as client:
        for name in ("ready", "leases", "future", "control", "looked"):
            spoilt = key(namespace, name, "spoilt")
            client.delete(spoilt)
            client.hset(spoilt, "of", "another type") if name != "control" else client.set(spoilt, "text")
            damaged, well = await broker.sweep(["spoilt", "well"], WorkerReport("worker"))
            assert damaged == SweepResult(True, 0.0), "its own calls report the damage"
            assert well == SweepResult(True, None)
            client.delete(spoilt)
            await broker.register("spoilt", {}, {})
    await broker.aclose()
