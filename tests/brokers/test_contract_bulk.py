"""Cancelling, requeueing and discarding many jobs, on every broker."""

from __future__ import annotations

import pytest

from aiospinach import RedisBroker
from aiospinach.brokers.base import Broker
from aiospinach.brokers.bulk import CancelSome
from aiospinach.brokers.questions import Counts
from aiospinach.brokers.records import Envelope, Settlement
from aiospinach.outcome import Action

from .. import asking
from .conftest import (
    fire,
    ids,
    job,
    make_dead,
    put,
    put_and_take,
    settle,
    take,
    take_parked,
    take_when_due,
)

LATER = 60_000
NOTHING = Counts(0, 0, 0, 0)
EXHAUSTED = b'{"reason":"exhausted","error":"x"}'
LOST = b'{"reason":"lost","error":"exhausted"}'


async def fill(broker: Broker, queue: str, task: str = "send") -> None:
    """Jobs of a task in each place: running, in line, behind a limit, waiting, as a retry and parked."""
    await broker.register(queue, {task: 3}, {})
    for place in ("parked", "retried"):
        lease = await put_and_take(broker, queue, f"{task}-{place}", task=task, max_retries=1)
        action = Action.PARK if place == "parked" else Action.RETRY
        assert await settle(broker, queue, lease, action, 60.0)
    await put(broker, queue, *(f"{task}-runs-{number}" for number in range(3)), task=task)
    assert len(await take(broker, queue)) == 3
    await put(broker, queue, f"{task}-held", task=task)
    assert await take(broker, queue) == []
    await put(broker, queue, f"{task}-later", task=task, at=broker.now() + LATER)
    await put(broker, queue, f"{task}-queued", task=task)


async def test_all_jobs_but_running_ones_are_cancelled(broker: Broker, queue: str) -> None:
    await fill(broker, queue)
    assert await asking.counts(broker, queue) == Counts(ready=2, running=3, waiting=2, dead=0, parked=1)
    assert sum(await asking.cancel_all(broker, queue)) == 5
    assert await asking.counts(broker, queue) == Counts(ready=0, running=3, waiting=0, dead=0)
    assert sum(await asking.cancel_all(broker, queue)) == 0
    assert await take_parked(broker, queue, "send") == []


async def test_the_jobs_of_one_task_are_cancelled(broker: Broker, queue: str) -> None:
    await fill(broker, queue)
    await fill(broker, queue, "other")
    assert sum(await asking.cancel_all(broker, queue, "other")) == 5
    assert await asking.counts(broker, queue) == Counts(ready=2, running=6, waiting=2, dead=0, parked=1)
    assert sum(await asking.cancel_all(broker, queue, "oth")) == 0
    await broker.register(queue, {"send": 0, "other": 0}, {})
    assert sorted(ids(await take(broker, queue))) == ["send-held", "send-queued"]
    assert ids(await take_parked(broker, queue, "send", "other")) == ["send-parked"]
    assert await take(broker, queue) == []


async def test_running_jobs_are_not_harmed(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    await asking.cancel_all(broker, queue)
    await asking.cancel_all(broker, queue, "send")
    assert list((await broker.renew(queue, [lease.id])).cancelled) == []
    assert await settle(broker, queue, lease, Action.RETRY)
    assert ids(await take(broker, queue)) == ["a"]


@pytest.mark.parametrize("task", ["", "send"])
async def test_many_jobs_are_cancelled_in_parts(broker: Broker, queue: str, task: str) -> None:
    await put(broker, queue, *(f"queued-{number}" for number in range(1100)))
    await put(broker, queue, *(f"later-{number}" for number in range(1100)), at=broker.now() + LATER)
    await put(broker, queue, *(f"other-{number}" for number in range(0 if task == "" else 50)), task="other")
    counts = await asking.cancel_all(broker, queue, task)
    assert sum(counts) == 2200
    assert max(counts) <= 500
    assert await asking.counts(broker, queue) == Counts(0 if task == "" else 50, 0, 0, 0)
    left = await broker.exchange(queue, [], 100)  # an exchange looks at a limited number of cancelled jobs
    assert left.is_something_left == (len(left.leases) < (0 if task == "" else 50))
    assert len(left.leases) + len(await take(broker, queue, 100)) == (0 if task == "" else 50)


@pytest.mark.parametrize("task", ["", "send"])
async def test_jobs_that_come_meanwhile_keep_no_earlier_one(broker: Broker, queue: str, task: str) -> None:
    await put(broker, queue, *(f"early-{number}" for number in range(1600)))
    cancelled, part = 0, await broker.steer(queue, CancelSome(task))
    for call in range(100):
        cancelled += part.count
        if part.cursor is None:
            break
        await put(broker, queue, *(f"late-{call}-{number}" for number in range((300, 700, 1500)[call % 3])))
        part = await broker.steer(queue, CancelSome(task, cursor=part.cursor))
    assert part.cursor is None, "the jobs that come meanwhile keep the calls going"
    assert cancelled >= 1600
    left: list[str] = []
    while leases := await take(broker, queue, 1000):
        left += ids(leases)
    assert [name for name in left if name.startswith("early")] == []


@pytest.mark.parametrize("task", ["", "send"])
async def test_large_jobs_are_cancelled_in_smaller_parts(broker: Broker, queue: str, task: str) -> None:
    await broker.register(queue, {"send": 1}, {})
    await put(broker, queue, "runs")
    await take(broker, queue)
    large = b"x" * 100_000
    await put(broker, queue, *(f"held-{number}" for number in range(5)), body=large)
    assert await take(broker, queue) == []
    await put(broker, queue, *(f"queued-{number}" for number in range(5)), body=large)
    await put(broker, queue, *(f"later-{number}" for number in range(5)), body=large, at=broker.now() + LATER)
    await put(broker, queue, "other-1", task="other", body=large, at=broker.now() + LATER - 1)
    await put(broker, queue, "other-2", task="other", body=large)
    counts = await asking.cancel_all(broker, queue, task)
    assert sum(counts) == (15 if task else 17)
    if isinstance(broker, RedisBroker):
        assert max(counts) <= 3
    left = Counts(1, 1, 1, 0) if task else Counts(0, 1, 0, 0)
    assert await asking.counts(broker, queue) == left


@pytest.mark.parametrize("task", ["", "send"])
async def test_the_ids_of_cancelled_jobs_are_free_at_once(broker: Broker, queue: str, task: str) -> None:
    await put(broker, queue, "a", "b", named=True)
    await put(broker, queue, "c", named=True, at=broker.now() + LATER)
    assert sum(await asking.cancel_all(broker, queue, task)) == 3
    again = [job(name, named=True, body=b"again") for name in "abc"]
    assert await broker.enqueue(queue, again) == [True] * 3
    leases = await take(broker, queue)
    assert sorted(ids(leases)) == ["a", "b", "c"]
    assert {bytes(lease.job.body) for lease in leases} == {b"again"}
    assert await take(broker, queue) == []


@pytest.mark.parametrize("task", ["", "send"])
async def test_moved_and_cancelled_jobs_leave_nothing(broker: Broker, queue: str, task: str) -> None:
    await put(broker, queue, *"abc")
    await asking.reschedule(broker, queue, "a", broker.now() + LATER)
    await asking.cancel(broker, queue, "b")
    assert sum(await asking.cancel_all(broker, queue, task)) == 2
    await put(broker, queue, "d")
    assert ids(await take(broker, queue)) == ["d"]
    assert await asking.counts(broker, queue) == Counts(0, 1, 0, 0)


async def test_the_cancelled_jobs_are_returned_if_asked_for(broker: Broker, queue: str) -> None:
    due = broker.now() + LATER
    await put(broker, queue, "a", at=due)
    await put(broker, queue, "b", task="other")
    jobs: list[Envelope] = []
    cursor: tuple[str | bytes | int, ...] | None = ()
    while cursor is not None:
        result = await broker.steer(queue, CancelSome("send", with_jobs=True, cursor=cursor))
        cursor = result.cursor
        jobs += result.jobs
    assert jobs == [job("a", at=due)]


async def test_periodic_tasks_go_on(broker: Broker, queue: str) -> None:
    await broker.register(queue, {}, {"nightly": 1})
    await asking.cancel_all(broker, queue)
    await asking.cancel_all(broker, queue, "nightly")
    assert await fire(broker, queue, "nightly", 1, 2, job("nightly@1", task="nightly"))


async def test_jobs_of_a_paused_queue_are_cancelled(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a")
    await asking.pause(broker, queue, "send")
    assert await take(broker, queue) == []
    assert sum(await asking.cancel_all(broker, queue, "send")) == 1
    await asking.resume(broker, queue, "send")
    assert await take(broker, queue) == []
    await put(broker, queue, "b")
    assert ids(await take(broker, queue)) == ["b"]


async def test_other_queues_are_not_harmed(broker: Broker, queue: str, other_queue: str) -> None:
    await put(broker, queue, "a")
    await put(broker, other_queue, "a")
    await put(broker, other_queue, "b", at=broker.now() + 50)
    await asking.cancel_all(broker, queue)
    await asking.steer_dead(broker, queue, is_to_run=False)
    assert ids(await take(broker, other_queue)) == ["a"]
    assert ids(await take_when_due(broker, other_queue)) == ["b"]


async def die(broker: Broker, queue: str, name: str, detail: bytes, **fields: object) -> None:
    lease = await put_and_take(broker, queue, name, **fields)
    assert await settle(broker, queue, lease, Action.FAIL, detail=detail)


@pytest.mark.parametrize("is_to_run", [True, False])
async def test_dead_jobs_are_chosen_by_task_and_reason(broker: Broker, queue: str, is_to_run: bool) -> None:
    await die(broker, queue, "a", EXHAUSTED)
    await die(broker, queue, "b", LOST)
    await die(broker, queue, "c", EXHAUSTED, task="other")
    await die(broker, queue, "d", EXHAUSTED)

    async def steer(task: str, reason: str) -> str:
        before = {one.job.id for one in await asking.dead(broker, queue)}
        [result] = await asking.steer_dead(broker, queue, is_to_run=is_to_run, task=task, reason=reason)
        gone = sorted(before - {one.job.id for one in await asking.dead(broker, queue)})
        assert result.count == len(gone)
        assert ids(await take(broker, queue)) == (gone if is_to_run else [])
        return "".join(gone)

    assert await steer("unknown", "exhausted") == ""
    assert await steer("send", "exhausted") == "ad"
    assert await steer("", "exhauste") == ""
    assert await steer("", "lost") == "b"
    assert await steer("", "") == "c"


async def test_all_dead_jobs_are_requeued_in_their_order(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, *"cab")
    [result] = await asking.steer_dead(broker, queue, is_to_run=True)
    assert (result.count, result.bare) == (3, 0)
    assert await broker.wait([queue], 10) == queue
    leases = await take(broker, queue)
    assert ids(leases) == ["c", "a", "b"]
    assert await asking.counts(broker, queue) == Counts(0, 3, 0, 0)
    assert {lease.job.retries for lease in leases} == {0}


async def test_all_dead_jobs_are_discarded(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, *"cab")
    [result] = await asking.steer_dead(broker, queue, is_to_run=False)
    assert result.count == 3
    assert await asking.counts(broker, queue) == NOTHING
    assert [result.count for result in await asking.steer_dead(broker, queue, is_to_run=False)] == [0]


@pytest.mark.parametrize("is_to_run", [True, False])
async def test_many_dead_jobs_are_steered_in_parts(broker: Broker, queue: str, is_to_run: bool) -> None:
    for task, count in (("send", 1200), ("other", 30)):
        await put(broker, queue, *(f"{task}-{number}" for number in range(count)), task=task)
        leases = await take(broker, queue, count)
        await broker.exchange(queue, [Settlement(each, Action.FAIL, detail=LOST) for each in leases], 0)
    results = await asking.steer_dead(broker, queue, is_to_run=is_to_run, task="send", reason="lost")
    assert sum(result.count for result in results) == 1200
    assert await asking.counts(broker, queue) == Counts(1200 if is_to_run else 0, 0, 0, 30)


@pytest.mark.parametrize("is_to_run", [True, False])
async def test_large_dead_jobs_are_steered_in_smaller_parts(
    broker: Broker, queue: str, is_to_run: bool
) -> None:
    names = [f"job-{number}" for number in range(10)]
    await put(broker, queue, *names, body=b"x" * 100_000)
    leases = await take(broker, queue)
    await broker.exchange(queue, [Settlement(each, Action.FAIL, detail=LOST) for each in leases], 0)
    results = await asking.steer_dead(broker, queue, is_to_run=is_to_run)
    assert sum(result.count for result in results) == 10
    if isinstance(broker, RedisBroker):
        assert max(result.count for result in results) <= 3
    assert ids(await take(broker, queue)) == (names if is_to_run else [])


async def test_jobs_without_their_arguments_stay_dead(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "bare", body=b"[[1],{}]")
    await broker.exchange(queue, [Settlement(lease, Action.FAIL, detail=LOST, is_bare=True)], 0)
    await die(broker, queue, "a", LOST)
    [result] = await asking.steer_dead(broker, queue, is_to_run=True)
    assert (result.count, result.bare) == (1, 1)
    assert ids(await take(broker, queue)) == ["a"]
    [result] = await asking.steer_dead(broker, queue, is_to_run=False)
    assert (result.count, result.bare) == (1, 0)


async def test_a_dead_job_whose_id_is_in_use_stays_dead(broker: Broker, queue: str) -> None:
    await die(broker, queue, "a", LOST)
    await put(broker, queue, "a")
    [result] = await asking.steer_dead(broker, queue, is_to_run=True)
    assert result.count == 0
    assert await asking.counts(broker, queue) == Counts(1, 0, 0, 1)
