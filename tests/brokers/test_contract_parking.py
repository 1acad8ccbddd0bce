"""Jobs of tasks unknown to a worker are parked for workers that know them."""

from __future__ import annotations

import asyncio

import pytest

from aiospinach import JobStatus
from aiospinach.brokers.base import Broker
from aiospinach.brokers.questions import Counts, LookWorkers
from aiospinach.brokers.records import ExchangeResult, Parking, Settlement
from aiospinach.brokers.reports import LEVEL, WorkerReport
from aiospinach.outcome import Action

from .. import asking
from .conftest import drain_wake_ups, ids, put, put_and_take, settle, take, take_parked


async def take_without(broker: Broker, queue: str, *unknown: str, want: int = 10) -> ExchangeResult:
    """Lease jobs as a worker to which these tasks are unknown."""
    return await broker.exchange(queue, [], want, Parking(unknown=unknown))


async def parked(broker: Broker, queue: str) -> dict[str, int]:
    [swept] = await broker.sweep([queue], WorkerReport("worker"))
    return {task: jobs.since for task, jobs in swept.parked.items()}


async def test_all_jobs_of_an_unknown_task_are_parked_in_one_exchange(broker: Broker, queue: str) -> None:
    await put(broker, queue, *(f"u{number}" for number in range(300)), task="unknown")
    await put(broker, queue, "a", "b")
    before = broker.now()
    exchanged = await take_without(broker, queue, "unknown", want=1)
    assert ids(exchanged.leases) == ["a"]
    assert ids(await take(broker, queue, 5)) == ["b"]
    assert await asking.counts(broker, queue) == Counts(0, 2, 0, 0, parked=300)
    assert before <= (await parked(broker, queue))["unknown"] <= broker.now()


async def test_parked_jobs_are_leased_only_to_workers_that_want_them(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b", "c", task="unknown")
    await drain_wake_ups(broker, queue)
    exchanged = await take_without(broker, queue, "unknown")
    assert (list(exchanged.leases), exchanged.is_something_left) == ([], False)
    assert await broker.wait([queue], 0.01) is None
    assert await take(broker, queue) == []
    [swept] = await broker.sweep([queue], WorkerReport("worker"))
    assert (swept.is_something_to_run, swept.next_due) == (False, None)
    exchanged = await broker.exchange(queue, [], 2, Parking(wanted=["other", "unknown"]))
    assert ids(exchanged.leases) == ["a", "b"]
    assert exchanged.is_something_left
    exchanged = await broker.exchange(queue, [], 2, Parking(wanted=["other", "unknown"]))
    assert ids(exchanged.leases) == ["c"]
    assert not exchanged.is_something_left
    assert await parked(broker, queue) == {}


async def test_parked_jobs_come_before_others(broker: Broker, queue: str) -> None:
    await put(broker, queue, "old", task="unknown")
    await take_without(broker, queue, "unknown")
    await put(broker, queue, "new")
    assert ids(await take_parked(broker, queue, "unknown")) == ["old", "new"]


async def test_thousands_of_parked_jobs_are_leased_in_one_call(broker: Broker, queue: str) -> None:
    for first in range(0, 9000, 1000):
        await put(broker, queue, *(f"u{number}" for number in range(first, first + 1000)), task="unknown")
    while (await take_without(broker, queue, "unknown")).is_something_left:
        pass
    assert len(await take_parked(broker, queue, "unknown", want=10_000)) == 9000


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_limit_holds_for_parked_jobs(broker: Broker, queue: str, is_known: bool) -> None:
    await broker.register(queue, {"unknown": 2}, {})
    await put(broker, queue, *"abcd", task="unknown")
    if is_known:  # jobs held back by the limit are in its lane
        assert ids(await take(broker, queue)) == ["a", "b"]
        await put(broker, queue, "e")
        assert ids((await take_without(broker, queue, "unknown")).leases) == ["e"]
        return
    await take_without(broker, queue, "unknown")
    leases = await take_parked(broker, queue, "unknown")
    assert ids(leases) == ["a", "b"]
    exchanged = await broker.exchange(queue, [], 5, Parking(wanted=["unknown"]))
    assert (list(exchanged.leases), exchanged.is_something_left) == ([], False)
    done = [Settlement(lease, Action.DONE) for lease in leases]
    exchanged = await broker.exchange(queue, done, 5, Parking(wanted=["unknown"]))
    assert ids(exchanged.leases) == ["c", "d"]


async def test_jobs_held_back_by_a_limit_are_parked_if_their_task_is_unknown(
    broker: Broker, queue: str
) -> None:
    await broker.register(queue, {"unknown": 1}, {})
    await put(broker, queue, *"abc", task="unknown")
    [lease] = await take(broker, queue)
    assert await settle(broker, queue, lease, Action.DONE)
    exchanged = await take_without(broker, queue, "unknown")
    assert (list(exchanged.leases), exchanged.is_something_left) == ([], False)
    assert (await asking.counts(broker, queue)).parked == 2
    assert ids(await take_parked(broker, queue, "unknown")) == ["b"]


async def test_a_parked_job_can_be_cancelled_and_its_id_reused(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b", task="unknown")
    await take_without(broker, queue, "unknown")
    assert (await asking.cancel(broker, queue, "a")).status is JobStatus.WAITING
    assert (await asking.cancel(broker, queue, "a")).status is JobStatus.NOT_SET
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 0, parked=1)
    await put(broker, queue, "a", task="send")
    assert ids(await take_parked(broker, queue, "unknown")) == ["b", "a"]
    assert await parked(broker, queue) == {}


async def test_a_job_parked_again_keeps_its_position(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b", task="unknown")
    since = await take_parked(broker, queue), await parked(broker, queue)
    leases = {lease.job.id: lease for lease in since[0]}
    assert await settle(broker, queue, leases["a"], Action.PARK)
    first = (await parked(broker, queue))["unknown"]
    while broker.now() == first:
        await asyncio.sleep(0.001)
    assert await settle(broker, queue, leases["b"], Action.PARK)
    [a] = await take_parked(broker, queue, "unknown", want=1)
    assert a.job.id == "a"
    assert await settle(broker, queue, a, Action.PARK)
    assert (await parked(broker, queue))["unknown"] == first
    assert ids(await take_parked(broker, queue, "unknown")) == ["a", "b"]


async def test_consecutive_sweeps_return_all_of_many_unknown_tasks(broker: Broker, queue: str) -> None:
    tasks = {f"task-{number}" for number in range(250)}
    for task in tasks:
        await put(broker, queue, f"job of {task}".replace(" ", "-"), task=task)
    while (await take_without(broker, queue, *tasks)).is_something_left:
        pass
    seen: set[str] = set()
    for _ in range(3):
        seen.update(await parked(broker, queue))
    assert seen == tasks


async def test_a_sweep_returns_counts_and_owners_of_parked_tasks(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"mine": 0, "limited": 3}, {}, "web-1")
    await broker.register(queue, {"limited": 3}, {}, "web-2")
    for task in ("mine", "limited", "nobodys"):
        await put(broker, queue, f"{task}-1", f"{task}-2", task=task)
    await put(broker, queue, "mine-3", task="mine")
    await take_without(broker, queue, "mine", "limited", "nobodys")
    [swept] = await broker.sweep([queue], WorkerReport("worker"))
    parked_jobs = {task: (jobs.count, jobs.owner) for task, jobs in swept.parked.items()}
    assert parked_jobs == {"mine": (3, "web-1"), "limited": (2, "web-2"), "nobodys": (2, "")}


async def test_sweeping_workers_are_listed_in_the_queue(broker: Broker, queue: str, other_queue: str) -> None:
    assert await broker.look(queue, LookWorkers()) == []
    before = broker.now()
    await broker.sweep([queue, other_queue], WorkerReport("one"))
    await asyncio.to_thread(asyncio.run, broker.sweep([queue], WorkerReport("two")))
    await broker.sweep([queue], WorkerReport("one"))
    seen = {worker.name: worker for worker in await broker.look(queue, LookWorkers())}
    assert seen.keys() == {"one", "two"}
    assert {worker.level for worker in seen.values()} == {LEVEL}
    assert all(before <= worker.at <= broker.now() for worker in seen.values())
    assert [worker.name for worker in await broker.look(other_queue, LookWorkers())] == ["one"]


async def test_a_worker_that_looks_again_after_a_long_time_is_listed(broker: Broker, queue: str) -> None:
    await broker.sweep([queue], WorkerReport("one"))
    await asyncio.to_thread(asyncio.run, broker.sweep([queue], WorkerReport("two")))
    seen_at = broker.now()
    while broker.now() <= seen_at + 3000 * broker.lease:
        assert {worker.name for worker in await broker.look(queue, LookWorkers())} <= {"one", "two"}
        await asyncio.sleep(0.05)
    assert await broker.look(queue, LookWorkers()) == []
    await broker.sweep([queue], WorkerReport("one"))
    assert [worker.name for worker in await broker.look(queue, LookWorkers())] == ["one"]


async def test_a_worker_that_leaves_is_listed_no_longer(broker: Broker, queue: str) -> None:
    await broker.sweep([queue], WorkerReport("one"))
    await asyncio.to_thread(asyncio.run, broker.sweep([queue], WorkerReport("two")))
    await broker.sweep([queue], WorkerReport("one"), is_last=True)
    assert [worker.name for worker in await broker.look(queue, LookWorkers())] == ["two"]
    await broker.sweep([queue], WorkerReport("three"))
    assert {worker.name for worker in await broker.look(queue, LookWorkers())} == {"two", "three"}


async def test_a_job_cancelled_while_it_is_being_parked_ends(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", task="unknown")
    assert (await asking.cancel(broker, queue, "a")).status is JobStatus.RUNNING
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.PARK)], 0)
    assert list(exchanged.cancelled) == [lease.id]
    assert await asking.counts(broker, queue) == Counts(0, 0, 0, 0)
