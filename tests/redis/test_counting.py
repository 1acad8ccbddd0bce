"""The cost of work, counted by the server in commands and connections, not in time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import Batch, Engine, RedisBroker
from aiospinach.brokers.records import NO_PARKING, ExchangeResult, Parking, Settlement, TickResult
from aiospinach.outcome import Action
from aiospinach.workers import listener

from ..conftest import Heard
from ..servers import Server
from ..waiting import until
from .conftest import Counts, key


class CountingBroker(RedisBroker):
    """Counts the calls of workers."""

    def __init__(self, url: str, *, lease: float = 60.0) -> None:
        super().__init__(url, lease=lease)
        self.calls: Counter[str] = Counter()

    async def exchange(
        self, queue: str, settled: Sequence[Settlement], want: int, parking: Parking = NO_PARKING
    ) -> ExchangeResult:
        self.calls["exchange"] += 1
        return await super().exchange(queue, settled, want, parking)

    async def tick(self, queue: str) -> TickResult:
        self.calls["tick"] += 1
        return await super().tick(queue)

    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        self.calls["wait"] += 1
        woken = await super().wait(queues, timeout)
        self.calls["woken"] += woken is not None
        return woken


async def stored(engine: Engine, number: int, task: str = "job") -> None:
    batch = Batch()
    for _ in range(number):
        batch.schedule(task)
    await engine.schedule_batch(batch)


@pytest.mark.large
async def test_a_large_batch_is_drained_with_few_calls_and_commands(
    namespace: str, own_server: Server, heard: Heard
) -> None:
    broker = CountingBroker(own_server.unix_url)
    async with Engine(broker, namespace) as engine:

        @engine.task(name="job")
        async def job() -> None:
            pass

        await stored(engine, 1000)
        with own_server.client() as client:
            counts = Counts(client)
            await engine.start_workers(100, stop_when_queue_empty=True)
            commands = counts.by_name()
    assert heard.count("job_finished") == 1000
    # Eleven to drain, one at the end to wake others, and one or two for a pending wake-up.
    assert broker.calls["exchange"] <= 14
    assert sum(commands.values()) <= 500, commands


@pytest.mark.parametrize("waiting", [0, 20_000])
async def test_the_cost_of_an_exchange_does_not_depend_on_the_queue_length(
    namespace: str, own_server: Server, waiting: int
) -> None:
    broker = RedisBroker(own_server.unix_url)
    async with Engine(broker, namespace) as engine:

        @engine.task(name="job")
        async def job() -> None:
            pass

        for _ in range(waiting // 10_000):
            await stored(engine, 10_000)
        await stored(engine, 10)
        await broker.exchange("default", [], 0)
        with own_server.client() as client:
            counts = Counts(client)
            assert len((await broker.exchange("default", [], 10)).leases) == 10
            assert sum(counts.by_name().values()) <= 13, counts.by_name()


async def test_an_exchange_of_32_jobs_takes_fifteen_commands(namespace: str, own_server: Server) -> None:
    broker = RedisBroker(own_server.unix_url)
    async with Engine(broker, namespace) as engine:

        @engine.task(name="job")
        async def job() -> None:
            pass

        await stored(engine, 100)
        first = await broker.exchange("default", [], 32)
        with own_server.client() as client:
            counts = Counts(client)
            done = [Settlement(lease, Action.DONE) for lease in first.leases]
            assert len((await broker.exchange("default", done, 32)).leases) == 32
            assert sum(counts.by_name().values()) <= 15, counts.by_name()


async def test_one_worker_drains_with_one_exchange_per_job(
    namespace: str, own_server: Server, heard: Heard
) -> None:
    broker = CountingBroker(own_server.unix_url)
    async with Engine(broker, namespace) as engine:

        @engine.task(name="job")
        async def job() -> None:
            await asyncio.sleep(0)

        await stored(engine, 200)
        await engine.start_workers(1, stop_when_queue_empty=True)
    assert heard.count("job_finished") == 200
    assert broker.calls["exchange"] <= 200 + 3


@pytest.mark.large
async def test_a_process_uses_four_connections_for_any_number_of_queues(
    namespace: str, own_server: Server, heard: Heard
) -> None:
    queues = [f"queue-{number}" for number in range(30)]
    async with Engine(RedisBroker(own_server.unix_url), namespace) as engine:
        for queue in queues:

            @engine.task(name=f"job-{queue}", queue=queue)
            async def job() -> None:
                pass

        with own_server.client() as client:
            await engine.start_workers(10, queues, block=False)
            most = 0
            for round_ in range(5):
                await asyncio.gather(*(engine.schedule(f"job-{queue}") for queue in queues * 4))
                finished = len(queues) * 4 * (round_ + 1)
                await until(lambda: heard.count("job_finished") == finished)  # noqa: B023
                most = max(most, len(client.client_list()) - 1)
            assert most <= 4
            await engine.stop_workers()
            await engine._broker.aclose()
            await until(lambda: len(client.client_list()) == 1)


async def test_scheduling_a_job_is_one_short_call_without_a_timer_of_its_own(
    namespace: str, own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    async with Engine(RedisBroker(own_server.unix_url), namespace) as engine:

        @engine.task(name="job")
        async def job(number: int) -> None: ...

        with own_server.client() as client:
            await job.schedule(0)
            call_at = loop.call_at

            def counting(at: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
                timers.append(at)
                return call_at(at, *args, **kwargs)

            monkeypatch.setattr(loop, "call_at", counting)
            before, counts = client.info("stats"), Counts(client)
            for number in range(1000):
                await job.schedule(number)
            after = client.info("stats")
            commands = counts.by_name()
    assert commands["evalsha"] == 1000
    assert sum(commands.values()) <= 9 * 1000 + 10, commands
    assert (after["total_net_input_bytes"] - before["total_net_input_bytes"]) / 1000 < 700
    assert len(timers) <= 5


async def test_concurrent_callers_share_round_trips(namespace: str, own_server: Server) -> None:
    async with Engine(RedisBroker(own_server.unix_url), namespace) as engine:

        @engine.task
        async def job(caller: int, number: int) -> None:
            pass

        async def caller(caller: int) -> list[str]:
            return [(await job.schedule(caller, number)).id for number in range(20)]

        with own_server.client() as client:
            await job.schedule(0, 0)
            counts = Counts(client)
            ids = await asyncio.gather(*(caller(number) for number in range(32)))
            commands = counts.by_name()
            assert len({job_id for mine in ids for job_id in mine}) == 640
            assert client.hlen(f"ais2:{{{namespace}:default}}:jobs") == 641
        # All 32 share one call, or those of the first caller take another one: there is never one per job.
        assert commands["evalsha"] <= 2 * 20 + 2
        assert commands.get("eval", 0) == 0


@pytest.mark.large
async def test_a_round_trip_has_a_thousand_jobs_and_a_megabyte_at_most(
    namespace: str, own_server: Server
) -> None:
    async with Engine(RedisBroker(own_server.unix_url), namespace) as engine:

        @engine.task
        async def job(text: str = "") -> None:
            pass

        with own_server.client() as client:
            await job.schedule()
            counts = Counts(client)
            await asyncio.gather(*(job.schedule() for _ in range(2500)))
            assert 3 <= counts.by_name()["evalsha"] <= 5
            counts.start()
            await asyncio.gather(*(job.schedule("x" * 200_000) for _ in range(20)))
            assert 4 <= counts.by_name()["evalsha"] <= 6


async def test_jobs_for_later_take_no_more_commands_than_others(namespace: str, own_server: Server) -> None:
    async with Engine(RedisBroker(own_server.unix_url), namespace) as engine:

        @engine.task
        async def job() -> None:
            pass

        batch = Batch()
        for number in range(1000):
            batch.schedule_at(job, datetime.now(UTC) + timedelta(hours=1, seconds=number))
        with own_server.client() as client:
            await job.schedule()
            counts = Counts(client)
            await engine.schedule_batch(batch)
            commands = counts.by_name()
            assert client.zcard(key(namespace, "future")) == 1000
    assert sum(commands.values()) <= 16, commands


async def test_an_idle_worker_waits_looks_and_ticks_once_per_period(
    namespace: str, own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LISTEN_FOR", 0.25)  # 5 s scaled down, like the lease from 60 s to 3 s
    broker = CountingBroker(own_server.unix_url, lease=3)
    async with Engine(broker, namespace) as engine:

        @engine.task
        async def job() -> None:
            pass

        await engine.start_workers(5, block=False)
        await until(lambda: broker.calls["wait"] >= 3)
        broker.calls.clear()
        await until(lambda: broker.calls["wait"] == 8)
        calls = Counter(broker.calls)
        await engine.stop_workers()
    assert calls["exchange"] <= 8 + 1
    # A renewal, in every third period, wakes the maintenance as well.
    assert calls["tick"] <= 8 + 1 + 3, calls


async def test_a_job_for_an_idle_worker_costs_one_wake_up_and_two_exchanges(
    namespace: str, own_server: Server, heard: Heard
) -> None:
    broker = CountingBroker(own_server.unix_url)
    async with Engine(broker, namespace) as engine:

        @engine.task
        async def job() -> None:
            pass

        with own_server.client() as client:
            await engine.start_workers(5, block=False)
            await job.schedule()
            await until(lambda: heard.count("job_finished") == 1)
            await until(lambda: client.info("clients")["blocked_clients"] == 1)
            broker.calls.clear()
            counts = Counts(client)
            for number in range(2, 52):
                await job.schedule()
                await until(lambda: heard.count("job_finished") == number)  # noqa: B023
                await until(lambda: client.info("clients")["blocked_clients"] == 1)
            commands = counts.by_name()
        calls = Counter(broker.calls)
        await engine.stop_workers()
    assert calls["woken"] == 50
    assert calls["exchange"] <= 2 * 50 + 1
    assert calls["tick"] <= 2, "a job to run at once causes no tick"
    assert commands["evalsha"] <= 3 * 50 + 4
    assert commands["blpop"] <= 50 + 2


@pytest.mark.large
async def test_a_job_wakes_one_of_a_hundred_idle_workers_which_cost_little(
    namespace: str, own_server: Server, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LISTEN_FOR", 1.0)  # 5 s scaled down, like the lease from 60 s to 12 s
    brokers = [CountingBroker(own_server.unix_url, lease=12) for _ in range(100)]
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(Engine(broker, namespace)) for broker in brokers]
        for engine in engines:

            @engine.task(name="job")
            async def job() -> None:
                pass

            await engine.start_workers(2, block=False)

        def total(name: str) -> int:
            return sum(broker.calls[name] for broker in brokers)

        with own_server.client() as client:
            await until(lambda: client.info("clients")["blocked_clients"] >= 90)
            await until(lambda: client.llen(f"ais2:{{{namespace}:default}}:wake") == 0)
            for number in range(1, 11):
                woken = total("woken")
                await engines[0].schedule("job")
                await until(lambda: heard.count("job_finished") == number)  # noqa: B023
                await until(lambda: client.llen(f"ais2:{{{namespace}:default}}:wake") == 0)
                assert total("woken") - woken == 1
            counts, waits = Counts(client), total("wait")
            await until(lambda: total("wait") - waits >= 300, timeout=30)
            commands = counts.by_name()
            # Each one waits, looks and ticks once in 5 s: together 60 calls a second.
            calls = commands["blpop"] + commands["evalsha"] + commands.get("eval", 0)
            assert calls <= 3 * (total("wait") - waits) + 100, commands
