"""Each call handles a bounded number of jobs, and the next one continues where it ended."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from aiospinach import Batch, Engine, RedisBroker
from aiospinach.brokers.base import Broker
from aiospinach.brokers.records import Envelope, ExchangeResult, Fired, Firing, Settlement
from aiospinach.brokers.redis.scripts import Script, Send
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from .. import asking
from ..brokers_under_test import shared_server
from ..waiting import until
from .conftest import key

IDS_AT_LEAST = 1000
"""To find a job, an exchange looks at this many ids at least, and at twice as many at most."""


async def exchange_until_empty(broker: Broker, want: int) -> list[ExchangeResult]:
    """Exchange as long as something is left, as a worker does."""
    exchanges = [await broker.exchange("default", [], want)]
    while exchanges[-1].is_something_left and not exchanges[-1].leases:
        exchanges.append(await broker.exchange("default", [], want))
    return exchanges


@pytest.mark.large
async def test_an_earlier_queue_comes_first_for_any_number_of_slots(namespace: str) -> None:
    ran: Counter[str] = Counter()
    end = asyncio.Event()
    async with Engine(RedisBroker(shared_server().unix_url), namespace) as engine:
        for queue in ("first", "second"):

            @engine.task(name=queue, queue=queue)
            async def job(queue: str) -> None:
                ran[queue] += 1
                await end.wait()

        for queue, count in (("second", 100), ("first", 7000)):
            batch = Batch()
            for _ in range(count):
                batch.schedule(queue, queue)
            await engine.schedule_batch(batch)
        await engine.start_workers(7000, ["first", "second"], block=False)
        try:
            await until(lambda: ran.total() >= 7000, show=lambda: ran)
            assert ran == {"first": 7000}
        finally:
            end.set()
        await until(lambda: ran["second"] == 100)
        await engine.stop_workers()


async def test_jobs_behind_many_of_a_saturated_task_are_found(namespace: str, plain: redis.Redis) -> None:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    await broker.register("default", {"limited": 1}, {})
    blocked = [Envelope(f"blocked-{number}", "limited", b"") for number in range(4 * IDS_AT_LEAST)]
    await broker.enqueue("default", blocked)
    await broker.enqueue("default", [Envelope("free", "job", b"")])
    assert len((await broker.exchange("default", [], 1)).leases) == 1
    exchanges = await exchange_until_empty(broker, 1)
    assert [lease.job.id for lease in exchanges[-1].leases] == ["free"]
    assert 2 <= len(exchanges) <= 4
    last = await broker.exchange("default", [], 1)
    assert (list(last.leases), last.is_something_left) == ([], False), "no job in the lane may run"
    assert plain.zcard(key(namespace, "lanes")) == len(blocked) - 1
    await broker.flush("default")
    await broker.aclose()


async def test_jobs_behind_many_cancelled_ones_in_a_lane_are_found(
    namespace: str, plain: redis.Redis
) -> None:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    await broker.register("default", {"limited": 1}, {})
    jobs = [Envelope(f"job-{number}", "limited", b"") for number in range(4 * IDS_AT_LEAST)]
    await broker.enqueue("default", jobs)
    assert len((await broker.exchange("default", [], 1)).leases) == 1
    while plain.llen(key(namespace, "ready")):
        assert list((await broker.exchange("default", [], 1)).leases) == []
    for job in jobs[1:-1]:
        assert (await asking.cancel(broker, "default", job.id)).status is JobStatus.QUEUED
    await broker.register("default", {"limited": 2}, {})
    exchanges = await exchange_until_empty(broker, 1)
    assert [lease.job.id for lease in exchanges[-1].leases] == [jobs[-1].id]
    assert 2 <= len(exchanges) <= 4
    assert plain.hlen(key(namespace, "jobs")) == 2
    assert not plain.exists(key(namespace, "cancels"))
    await broker.flush("default")
    await broker.aclose()


async def test_calls_have_a_bounded_number_of_leases_ticks_and_dead_jobs(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, list[int]] = defaultdict(list)
    listed: list[int] = []
    run = Script.run

    async def record_and_run(
        script: Script, send: Send, keys: Sequence[str], arguments: Sequence[Any]
    ) -> Any:
        sent[script.name].append(len(arguments))
        answer = await run(script, send, keys, arguments)
        if script.name == "look":
            listed.append(len(answer[2]) // 3)
        return answer

    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    await broker.enqueue("default", [Envelope(f"job-{number}", "job", b"") for number in range(1000)])
    leases = (await broker.exchange("default", [], 1000)).leases
    died = [Settlement(lease, Action.FAIL) for lease in leases[:250]]
    await broker.exchange("default", died, 0)
    now = broker.now()
    await broker.register("default", {}, {f"task-{number}": now for number in range(1200)})
    monkeypatch.setattr(Script, "run", record_and_run)
    live = [lease.id for lease in leases[250:]]
    renewed = await broker.renew("default", [*live, *(f"gone-{number}:x.1" for number in range(2000))])
    assert (len(renewed.lost), len(sent["renew"]), max(sent["renew"])) == (2000, 3, 1001)
    fired = await broker.fire("default", [Firing(f"task-{number}", now, now + 1) for number in range(1200)])
    assert (set(fired), len(sent["fire"]), max(sent["fire"])) == ({Fired.MOVED}, 3, 1 + 6 * 500)
    assert len({dead.job.id for dead in await asking.dead(broker, "default", limit=1000)}) == 250
    assert listed == [100, 100, 50]
    await broker.flush("default")
    await broker.aclose()
