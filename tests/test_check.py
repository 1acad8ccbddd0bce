"""Damage in the store is found, and a queue in motion is not damaged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import Engine, MemoryBroker, RedisBroker
from aiospinach.brokers.records import Settlement
from aiospinach.outcome import Action

from .brokers_under_test import shared_server
from .waiting import until


@pytest.fixture
async def engine(namespace: str) -> AsyncIterator[Engine]:
    async with Engine(RedisBroker(shared_server().unix_url), namespace) as engine:

        @engine.task(queue="mail", name="send", max_retries=3)
        async def send(seconds: float) -> None:
            await asyncio.sleep(seconds)

        @engine.task(queue="mail", name="limited", max_concurrency=2)
        async def limited(seconds: float) -> None:
            await asyncio.sleep(seconds)

        @engine.task(queue="mail", name="fail")
        async def fail() -> None:
            raise ValueError

        yield engine
        await engine.stop_workers()


@pytest.fixture
def prefix(namespace: str) -> str:
    return f"ais2:{{{namespace}:mail}}:"


@pytest.fixture
async def plain() -> AsyncIterator[Any]:
    with shared_server().client() as client:
        yield client


async def fill(engine: Engine) -> None:
    """Running jobs with slots, one held back, one in line, one that waits, a dead one and a cancelled one.

    They are leased without workers, which would mend the queue.
    """
    broker, find = engine._broker, engine._tasks.find
    await broker.register("mail", {"limited": 2, "send": 0, "fail": 0}, {})
    await engine.schedule("fail")
    [lease] = (await broker.exchange("mail", [], 1)).leases
    await broker.exchange("mail", [Settlement(lease, Action.FAIL, detail=b"{}")], 0)
    for number in range(3):
        await engine.schedule(find("limited").options(id=f"limited-{number}"), 1.0)
    await engine.schedule(find("send").options(id="running"), 1.0)
    assert len((await broker.exchange("mail", [], 3)).leases) == 3
    await engine.schedule(find("send").options(id="ready"), 1.0)
    await engine.schedule(find("send").options(id="gone"), 1.0)
    await engine.schedule_at(find("send").options(id="later"), datetime.now(UTC) + timedelta(days=1), 1.0)
    await engine.cancel("gone")
    await engine.cancel("running")
    counts = (await engine.counts())["mail"]
    assert (counts.running, counts.ready, counts.waiting, counts.dead) == (3, 2, 1, 1)


async def found(engine: Engine) -> set[tuple[str, str]]:
    return {(each.kind, each.item) for each in await engine.check()}


async def test_a_sound_queue_has_no_findings(engine: Engine) -> None:
    await fill(engine)
    assert await engine.check() == []


async def test_each_damage_is_found(engine: Engine, plain: Any, prefix: str) -> None:
    await fill(engine)
    leases = [lease.decode() for lease in plain.zrange(prefix + "leases", 0, -1)]
    [lease] = [each for each in leases if each.startswith("limited-0:")]
    plain.lpush(prefix + "ready", "nobody")
    plain.zadd(prefix + "future", {"nobody-later": 1e13})
    plain.zadd(prefix + "leases", {"nobody-leased:s.1": 1e13})
    plain.rpush(prefix + "ready", "later")
    plain.zrem(prefix + "slots", f"limited\n{lease}")
    plain.zadd(prefix + "slots", {"limited\nold:s.2": 0})
    plain.srem(prefix + "open", "limited")
    plain.hdel(prefix + "control", " lanes", " cancels")
    plain.hset(prefix + "cancels", "nobody-marked", "gone")
    plain.zadd(prefix + "dead", {"no-record": 1e13})
    plain.hset(prefix + "deadjobs", "no-dead", "1")
    job = plain.hget(prefix + "jobs", "later")
    assert job is not None
    plain.hset(prefix + "jobs", "nowhere", job)
    assert await found(engine) == {
        ("no job", "nobody"),
        ("no job", "nobody-later"),
        ("no job", "nobody-leased"),
        ("two places", "later"),
        ("no place", "nowhere"),
        ("lease without slot", lease),
        ("slot without lease", "limited\nold:s.2"),
        ("unrecorded", "lanes"),
        ("unrecorded", "cancels"),
        ("stray mark", "nobody-marked"),
        ("dead without record", "no-record"),
        ("dead without record", "no-dead"),
    }
    for finding in await engine.check():
        assert finding.queue == "mail"
        assert finding.item.partition("\n")[0] in finding.sentence
    plain.delete(*plain.keys(prefix + "*"))


async def test_a_gate_that_is_closed_by_mistake_is_found(engine: Engine, plain: Any, prefix: str) -> None:
    await fill(engine)
    plain.hset(
        prefix + "control", "limited", plain.hget(prefix + "control", "limited").replace(b"2 ", b"9 ", 1)
    )
    plain.srem(prefix + "open", "limited")
    assert ("closed gate", "limited") in await found(engine)


async def test_pauses_that_are_not_recorded_are_found(engine: Engine, plain: Any, prefix: str) -> None:
    await engine.pause(queue="mail")
    assert await engine.check() == []
    plain.hdel(prefix + "control", " pauses")
    assert await found(engine) == {("unrecorded", "pauses")}


async def test_a_check_only_reads(engine: Engine, plain: Any, prefix: str) -> None:
    await engine.schedule(engine._tasks.find("send").options(id="ready"), 1.0)
    plain.lpush(prefix + "ready", "nobody")

    def dump() -> dict[bytes, bytes | None]:
        return {key: plain.dump(key) for key in sorted(plain.keys(prefix + "*"))}

    before = dump()
    assert await found(engine) == {("no job", "nobody")}
    assert dump() == before


async def test_ids_that_are_patterns_are_looked_up_as_they_are(
    engine: Engine, plain: Any, prefix: str
) -> None:
    await engine.schedule(engine._tasks.find("send").options(id="a[b]*?\\c"), 1.0)
    await engine.schedule(engine._tasks.find("send").options(id="*"), 1.0)
    assert await engine.check() == []
    plain.lrem(prefix + "ready", 0, "*")
    assert await found(engine) == {("no place", "*")}


async def test_more_than_a_page_is_looked_through(engine: Engine, plain: Any, prefix: str) -> None:
    ids = [f"job-{number}" for number in range(2500)]
    await asyncio.gather(*(engine.schedule(engine._tasks.find("send").options(id=each), 1.0) for each in ids))
    assert await engine.check() == []
    for each in ("job-3", "job-1234", "job-2499"):
        plain.lrem(prefix + "ready", 0, each)
    assert await found(engine) == {("no place", each) for each in ("job-3", "job-1234", "job-2499")}


@pytest.mark.large
async def test_a_queue_in_motion_is_not_damaged(engine: Engine) -> None:
    await engine.start_workers(50, block=False)
    is_over = asyncio.Event()

    async def load(number: int) -> None:
        while not is_over.is_set():
            await engine.schedule("send", 0.001)
            await engine.schedule("limited", 0.0)
            later = await engine.schedule_at("send", datetime.now(UTC) + timedelta(seconds=0.05), 0.0)
            if number % 3 == 0:
                await engine.cancel(later)

    loads = [asyncio.create_task(load(number)) for number in range(10)]
    for _ in range(15):
        assert await engine.check() == []
    is_over.set()
    await asyncio.gather(*loads)
    await until(lambda: engine.health().is_connected)


async def test_memory_has_no_findings(namespace: str) -> None:
    async with Engine(MemoryBroker(), namespace) as engine:
        assert await engine.check() == []
