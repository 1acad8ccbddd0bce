"""Pauses in Redis: what is read of them, and how they outlive the loss of keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence

import pytest
import redis

from aiospinach import RedisBroker
from aiospinach.brokers.pauses import LookPauses, StoredPause
from aiospinach.brokers.records import Settlement
from aiospinach.brokers.reports import WorkerReport
from aiospinach.outcome import Action

from .. import asking
from ..brokers.conftest import drain_wake_ups, ids, put, put_and_take, take
from ..brokers_under_test import shared_server

QUEUE = "mail"


@pytest.fixture
async def broker(namespace: str) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    yield broker
    await broker.flush(QUEUE)
    await broker.aclose()


@pytest.fixture
def plain() -> Iterator[redis.Redis]:
    client = shared_server().client()
    yield client
    client.close()


def key(namespace: str, name: str) -> str:
    return f"ais2:{{{namespace}:{QUEUE}}}:{name}"


async def test_pauses_are_in_force_again_after_the_loss_of_control(
    broker: RedisBroker, plain: redis.Redis, namespace: str
) -> None:
    await broker.register(QUEUE, {"send": 0}, {})
    await asking.pause(broker, QUEUE, "send")
    await put(broker, QUEUE, "a")
    assert await take(broker, QUEUE) == []
    plain.delete(key(namespace, "control"))
    assert await take(broker, QUEUE) == [], "nothing is leased until the queue is registered again"
    assert plain.hexists(key(namespace, "control"), " pauses")
    assert await take(broker, QUEUE) == []
    assert await asking.resume(broker, QUEUE, "send")
    assert ids(await take(broker, QUEUE)) == ["a"]


async def test_a_mark_without_pauses_is_removed(
    broker: RedisBroker, plain: redis.Redis, namespace: str
) -> None:
    await broker.register(QUEUE, {"send": 0}, {})
    await put(broker, QUEUE, "a")
    await asking.pause(broker, QUEUE, "send")
    assert await take(broker, QUEUE) == []
    plain.delete(key(namespace, "pauses"))
    [swept] = await broker.sweep([QUEUE], WorkerReport("worker"))
    assert swept.next_due == 0
    await broker.tick(QUEUE)
    assert not plain.hexists(key(namespace, "control"), " pauses")
    broker._queue(QUEUE).next_orphan_check = 0
    await broker.sweep([QUEUE], WorkerReport("worker"))
    await broker.tick(QUEUE)
    assert ids(await take(broker, QUEUE)) == ["a"], "the gate is found closed, and opened"


async def test_a_paused_lane_is_no_sign_of_orphans(broker: RedisBroker) -> None:
    await put(broker, QUEUE, "a")
    await asking.pause(broker, QUEUE, "send")
    assert await take(broker, QUEUE) == []
    await broker.sweep([QUEUE], WorkerReport("worker"))
    assert not broker._queue(QUEUE).has_orphans


async def test_an_empty_store_has_no_pauses(broker: RedisBroker, plain: redis.Redis, namespace: str) -> None:
    await broker.register(QUEUE, {"send": 0}, {})
    await asking.pause(broker, QUEUE)
    for name in plain.keys(key(namespace, "*")):
        plain.delete(name)
    await put(broker, QUEUE, "a")
    leases = await take(broker, QUEUE) or await take(broker, QUEUE)
    assert ids(leases) == ["a"]


async def test_damaged_pauses_are_listed_and_ended(
    broker: RedisBroker, plain: redis.Redis, namespace: str
) -> None:
    await asking.pause(broker, QUEUE, "send")
    plain.hset(key(namespace, "pauses"), "send", b"\xff soon")
    pauses: Sequence[StoredPause] = await broker.look(QUEUE, LookPauses())
    assert [(pause.task, pause.until, pause.since) for pause in pauses] == [("send", 0, 0)]
    await broker.tick(QUEUE)
    await broker.sweep([QUEUE], WorkerReport("worker"))
    await put(broker, QUEUE, "a")
    assert await take(broker, QUEUE) == []
    assert await asking.resume(broker, QUEUE, "send")
    assert ids(await take(broker, QUEUE)) == ["a"]


@pytest.mark.parametrize("name", ["pauses", "cancels", "dedup:1", "future", "lanes"])
async def test_a_key_of_a_wrong_type_changes_no_job(
    broker: RedisBroker, plain: redis.Redis, namespace: str, name: str
) -> None:
    lease = await put_and_take(broker, QUEUE, "runs", max_retries=1)
    await put(broker, QUEUE, "a")
    plain.set(key(namespace, name), "text")
    before = plain.hgetall(key(namespace, "jobs")), plain.lrange(key(namespace, "ready"), 0, -1)
    calls: list[Awaitable[object]] = []
    if name == "pauses":
        settled = [Settlement(lease, Action.RETRY, 1.0, pause="web-1 429")]
        calls += (asking.pause(broker, QUEUE), broker.exchange(QUEUE, settled, 1))
    else:
        calls += (asking.cancel_all(broker, QUEUE), asking.cancel_all(broker, QUEUE, "send"))
    for call in calls:
        with pytest.raises(Exception, match="WRONGTYPE"):
            await call
    assert (plain.hgetall(key(namespace, "jobs")), plain.lrange(key(namespace, "ready"), 0, -1)) == before
    plain.delete(key(namespace, name))
    await drain_wake_ups(broker, QUEUE)


async def test_an_unused_pause_costs_no_command(broker: RedisBroker, plain: redis.Redis) -> None:
    await put(broker, QUEUE, "a")
    await broker.exchange(QUEUE, [], 0)
    plain.config_resetstat()
    await take(broker, QUEUE)
    commands = plain.info("commandstats")
    assert "cmdstat_hexists" not in commands
    assert "cmdstat_hgetall" not in commands
