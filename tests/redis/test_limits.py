"""Damaged or lost limits of a queue stop no worker, and affect no other task."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
import redis

from aiospinach import BrokerUnavailable, Engine, RedisBroker
from aiospinach.brokers.records import Envelope, Settlement, SweepResult
from aiospinach.brokers.redis import scripts
from aiospinach.brokers.reports import WorkerReport
from aiospinach.outcome import Action

from ..brokers_under_test import shared_server
from ..conftest import Heard
from ..waiting import until
from .conftest import key

STRANGE: list[tuple[bytes, bytes]] = [
    (b"other", b"many"),
    (b"other", b""),
    (b"other", b"-1"),
    (b"other", b"1.5"),
    (b"other", b"1_0"),
    (b"other", "\N{ARABIC-INDIC DIGIT THREE}".encode()),
    (b"other", b"9" * 5000),
    (b"\xff", b"1"),
]


class Limited:
    """An engine with a task limited to one job at a time, and a task without a limit."""

    def __init__(self, namespace: str) -> None:
        self.engine = Engine(RedisBroker(shared_server().unix_url, lease=2), namespace)
        self.running = self.most = 0

        @self.engine.task(max_concurrency=1)
        async def limited() -> None:
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.002)
            self.running -= 1

        @self.engine.task
        async def free() -> None:
            pass

        self.tasks = limited, free

    async def run(self, heard: Heard, count: int = 5) -> None:
        """Run ``count`` jobs of each task."""
        finished = heard.count("job_finished")
        for _ in range(count):
            for task in self.tasks:
                await task.schedule()
        await until(lambda: heard.count("job_finished") == finished + 2 * count)


def limits(plain: redis.Redis, control: str) -> dict[bytes, bytes]:
    entries: dict[Any, Any] = plain.hgetall(control)
    found = {task: entry.split()[0] for task, entry in entries.items() if task[:1] != b" "}
    return {task: limit for task, limit in found.items() if limit != b"0"}


@pytest.mark.parametrize(("name", "limit"), STRANGE, ids=lambda value: repr(value[:6]))
async def test_a_malformed_limit_limits_no_task(
    namespace: str, heard: Heard, plain: redis.Redis, name: bytes, limit: bytes
) -> None:
    plain.hset(key(namespace, "control"), name, limit)
    work = Limited(namespace)
    async with work.engine:
        for _ in range(2):
            await work.engine.start_workers(4, block=False)
            await work.run(heard)
            await work.engine.stop_workers()
    assert work.most == 1
    assert plain.hget(key(namespace, "control"), name) == limit


async def test_limits_damaged_while_workers_run_stop_no_worker(
    namespace: str, heard: Heard, plain: redis.Redis
) -> None:
    control = key(namespace, "control")
    work = Limited(namespace)
    limited, free = (task.name for task in work.tasks)
    async with work.engine:
        await work.engine.start_workers(4, block=False)
        await work.run(heard)
        plain.hset(control, mapping={free: "many", "other": "many"})
        await work.run(heard)
        assert work.most == 1
        plain.hset(control, limited, "many")
        await work.run(heard)
        await work.engine.stop_workers()
        await work.engine.start_workers(4, block=False)  # registers the right limits
        found: list[Any] = plain.hmget(control, limited, free, "other")
        assert [entry.split()[0] for entry in found] == [b"1", b"0", b"many"]
        work.most = 0
        await work.run(heard)
        assert work.most == 1
        await work.engine.stop_workers()


async def test_a_damaged_limit_applies_again_after_registration(namespace: str, plain: redis.Redis) -> None:
    first, second = (RedisBroker(shared_server().unix_url) for _ in range(2))
    await first.open(namespace)
    await second.open(namespace)
    await first.register("default", {"job": 1}, {})
    plain.hset(key(namespace, "control"), "job", "many")
    await first.enqueue("default", [Envelope(str(number), "job", b"[[],{}]") for number in range(9)])
    assert len((await first.exchange("default", [], 3)).leases) == 3  # the limit was lost
    await second.register("default", {"job": 1}, {})
    for broker in (first, second):
        assert (await broker.exchange("default", [], 3)).leases == []
        await broker.aclose()


@pytest.mark.parametrize("epoch", [b"", b"new", b"\xff"])
async def test_a_damaged_epoch_is_replaced(namespace: str, plain: redis.Redis, epoch: bytes) -> None:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    await broker.register("default", {"job": 1}, {})
    plain.hset(key(namespace, "control"), " epoch", epoch)
    await broker.register("default", {"job": 2}, {})
    found = plain.hget(key(namespace, "control"), " epoch")
    assert isinstance(found, bytes)
    assert found.isdigit()
    await broker.aclose()


async def test_malformed_limits_are_flushed_with_the_queue(namespace: str, plain: redis.Redis) -> None:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    plain.hset(key(namespace, "control"), b"\xff", "1")
    await broker.flush("default")
    assert not plain.exists(key(namespace, "control"))
    await broker.aclose()


async def test_a_slot_is_freed_although_the_limit_was_damaged_meanwhile(
    namespace: str, plain: redis.Redis
) -> None:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    await broker.register("default", {"job": 1}, {})
    await broker.enqueue("default", [Envelope("a", "job", b"[[],{}]")])
    (lease,) = (await broker.exchange("default", [], 1)).leases
    plain.hset(key(namespace, "control"), "job", "many")
    await broker.exchange("default", [Settlement(lease, Action.DONE)], 0)
    assert plain.zcard(key(namespace, "slots")) == 0
    await broker.aclose()


async def test_a_limit_missing_on_a_new_master_is_registered_again(
    namespace: str, plain: redis.Redis
) -> None:
    """A registration shortly before a failover is lost, while earlier ones are still there."""
    control, job = key(namespace, "control"), Envelope("a", "job", b"[[],{}]")
    first, second = (RedisBroker(shared_server().unix_url) for _ in range(2))
    for broker, other in ((first, 2), (second, 7)):
        await broker.open(namespace)
        await broker.register("default", {"job": 1, "other": other, "free": 0}, {})
        await asyncio.sleep(0.002)  # of two in one millisecond neither is later
    plain.hdel(control, "job")
    plain.hset(control, " epoch", 1)
    await first.enqueue("default", [msgspec.structs.replace(job, id=str(number)) for number in range(3)])
    assert len((await first.exchange("default", [], 3)).leases) == 1
    assert limits(plain, control) == {b"job": b"1", b"other": b"7"}, "no older limit is restored"
    assert (await first.tick("default")).is_forgetful, "periodic tasks may be lost as well"
    await first.register(
        "default", {"job": 1, "other": 2, "free": 0}, {}
    )  # as its maintenance does after that
    assert limits(plain, control)[b"other"] == b"7"
    assert not (await first.tick("default")).is_forgetful
    epoch = plain.hget(control, " epoch")
    for _ in range(3):
        for broker in (first, second):
            await broker.exchange("default", [], 1)
    assert plain.hget(control, " epoch") == epoch
    for broker in (first, second):
        await broker.aclose()


async def test_an_outdated_limit_on_a_new_master_is_registered_again(
    namespace: str, plain: redis.Redis
) -> None:
    """A limit changed shortly before a failover is lost, while the earlier one is still there."""
    control = key(namespace, "control")
    old, new = (RedisBroker(shared_server().unix_url) for _ in range(2))
    await old.open(namespace)
    await new.open(namespace)
    await old.register("default", {"job": 5, "beat": 0}, {})
    before: dict[Any, Any] = plain.hgetall(control)
    await new.register("default", {"job": 1, "beat": 0}, {"beat": new.now() + 60_000})
    plain.delete(control, key(namespace, "periodic"))
    plain.hset(control, mapping=before)
    await new.enqueue("default", [Envelope(str(number), "job", b"[[],{}]") for number in range(4)])
    assert len((await new.exchange("default", [], 4)).leases) == 1
    assert (await new.tick("default")).is_forgetful
    for _ in range(2):
        for broker in (old, new):
            assert (await broker.exchange("default", [], 4)).leases == []
    assert limits(plain, control) == {b"job": b"1"}, "no older limit is restored"
    for broker in (old, new):
        await broker.aclose()


async def test_a_periodic_task_missing_on_a_new_master_is_noticed(namespace: str, plain: redis.Redis) -> None:
    control = key(namespace, "control")
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    await broker.register("default", {"beat": 0}, {})
    before: dict[Any, Any] = plain.hgetall(control)
    await broker.register("default", {"beat": 0}, {"beat": broker.now() + 60_000})
    plain.delete(control, key(namespace, "periodic"))
    plain.hset(control, mapping=before)
    assert (await broker.sweep(["default"], WorkerReport("worker"))) == [SweepResult(True, 0.0)]
    await broker.exchange("default", [], 0)
    assert (await broker.tick("default")).is_forgetful
    await broker.register("default", {"beat": 0}, {"beat": broker.now() + 60_000})
    assert not (await broker.tick("default")).is_forgetful
    [swept] = await broker.sweep(["default"], WorkerReport("worker"))
    assert not swept.is_something_to_run
    await broker.aclose()


@pytest.mark.parametrize("how", ["refused", "cancelled"])
async def test_no_job_is_leased_before_lost_limits_are_registered_again(
    namespace: str, plain: redis.Redis, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    await broker.register("default", {"job": 1}, {"beat": broker.now() + 60_000})
    plain.delete(key(namespace, "control"), key(namespace, "periodic"))
    await broker.enqueue("default", [Envelope(str(number), "job", b"[[],{}]") for number in range(3)])
    transport = broker._calls.here().transport
    worker_call = transport.worker_call

    async def failing(*command: Any) -> Any:
        if command[1] == scripts.REGISTER.sha:
            raise BrokerUnavailable("cut before it was sent") if how == "refused" else asyncio.CancelledError
        return await worker_call(*command)

    asked: list[Settlement] = []
    monkeypatch.setattr(transport, "worker_call", failing)
    for _ in range(3):
        with pytest.raises((BrokerUnavailable, asyncio.CancelledError)):
            await broker.exchange("default", asked, 3)
        assert (await broker.tick("default")).is_forgetful
    monkeypatch.setattr(transport, "worker_call", worker_call)
    assert len((await broker.exchange("default", asked, 3)).leases) == 1
    assert limits(plain, key(namespace, "control")) == {b"job": b"1"}
    assert (await broker.tick("default")).is_forgetful, "periodic tasks are still lost"
    await broker.aclose()


async def test_another_registration_also_restores_limits_lost_meanwhile(
    namespace: str, plain: redis.Redis
) -> None:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    await broker.register("default", {"job": 1}, {})
    plain.delete(key(namespace, "control"))
    await broker.register("default", {"other": 2}, {})
    await broker.enqueue("default", [Envelope(str(number), "job", b"[[],{}]") for number in range(3)])
    assert len((await broker.exchange("default", [], 3)).leases) == 1
    await broker.aclose()


async def test_a_queue_without_tasks_has_nothing_to_run_after_its_data_was_lost(
    namespace: str, plain: redis.Redis
) -> None:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    await broker.register("default", {}, {})
    plain.delete(key(namespace, "control"))
    assert await broker.sweep(["default"], WorkerReport("worker")) == [SweepResult(True, 0.0)]
    await broker.exchange("default", [], 1)
    assert await broker.sweep(["default"], WorkerReport("worker")) == [SweepResult(False, None)]
    await broker.aclose()


async def test_an_unanswered_registration_hides_no_lost_limits(
    namespace: str, plain: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    await broker.register("default", {"job": 1}, {"beat": broker.now() + 60_000})
    plain.delete(key(namespace, "control"), key(namespace, "periodic"))
    run = scripts.Script.run

    async def lose_the_answer(script: scripts.Script, *args: Any) -> Any:
        await run(script, *args)
        raise BrokerUnavailable("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(scripts.Script, "run", lose_the_answer)
        with pytest.raises(BrokerUnavailable):
            await broker.register("default", {"other": 2}, {})
    await broker.register("default", {"other": 2}, {})
    assert limits(plain, key(namespace, "control")) == {b"job": b"1", b"other": b"2"}
    assert (await broker.tick("default")).is_forgetful, "the periodic task is still lost"
    await broker.aclose()
