"""Pauses of tasks and of the whole queue, on every broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from aiospinach.brokers.base import Broker
from aiospinach.brokers.pauses import WHOLE_QUEUE, LookPauses, StoredPause
from aiospinach.brokers.records import Envelope, Fired, Firing, Parking, Settlement
from aiospinach.brokers.reports import WorkerReport
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from .. import asking
from .conftest import drain_wake_ups, ids, put, put_and_take, settle, take, take_parked

LATER = 60_000
WORKER = "web-1-5-abc"


async def pause_of(broker: Broker, queue: str) -> StoredPause:
    """The only pause of the queue."""
    pauses: Sequence[StoredPause] = await broker.look(queue, LookPauses())
    assert len(pauses) == 1
    return pauses[0]


async def test_jobs_of_a_paused_task_do_not_start(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b")
    await put(broker, queue, "c", task="other")
    await asking.pause(broker, queue, "send")
    exchanged = await broker.exchange(queue, [], 10)
    assert ids(exchanged.leases) == ["c"]
    assert not exchanged.is_something_left
    await put(broker, queue, "d")
    assert await take(broker, queue) == []


async def test_a_paused_queue_leases_nothing(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a")
    await put(broker, queue, "b", task="other")
    await asking.pause(broker, queue)
    exchanged = await broker.exchange(queue, [], 10)
    assert (list(exchanged.leases), exchanged.is_something_left) == ([], False)
    assert not (await broker.exchange(queue, [], 0)).is_something_left
    assert await asking.resume(broker, queue)
    assert ids(await take(broker, queue)) == ["a", "b"]


@pytest.mark.parametrize("name", ["send", WHOLE_QUEUE])
async def test_all_jobs_keep_their_order(broker: Broker, queue: str, name: str) -> None:
    await put(broker, queue, *"abc")
    await asking.pause(broker, queue, name)
    assert await take(broker, queue, 2) == []
    await put(broker, queue, *"def")
    assert await take(broker, queue, 2) == []
    assert await asking.resume(broker, queue, name)
    await put(broker, queue, *"gh")
    leased = [ids(await take(broker, queue, 2)) for _ in range(4)]
    assert leased == [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]]


async def test_a_paused_queue_keeps_the_order_of_all_its_tasks(broker: Broker, queue: str) -> None:
    for name, task in (("a", "send"), ("b", "other"), ("c", "send"), ("d", "other")):
        await put(broker, queue, name, task=task)
    await asking.pause(broker, queue)
    assert await take(broker, queue) == []
    await asking.resume(broker, queue)
    assert ids(await take(broker, queue)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("name", ["send", WHOLE_QUEUE])
async def test_a_resume_wakes_a_worker(broker: Broker, queue: str, name: str) -> None:
    await put(broker, queue, "a")
    await asking.pause(broker, queue, name)
    assert await take(broker, queue) == []
    await drain_wake_ups(broker, queue)
    waiting = asyncio.ensure_future(broker.wait([queue], 10))
    await asyncio.sleep(0)
    assert await asking.resume(broker, queue, name)
    assert await waiting == queue
    assert ids(await take(broker, queue)) == ["a"]


@pytest.mark.parametrize("name", ["send", WHOLE_QUEUE])
async def test_paused_jobs_wake_no_worker(broker: Broker, queue: str, name: str) -> None:
    await put(broker, queue, "a", "b")
    await asking.pause(broker, queue, name)
    assert await take(broker, queue, 1) == []
    await drain_wake_ups(broker, queue)
    await broker.exchange(queue, [], 0)
    await broker.tick(queue)
    assert await broker.wait([queue], 0.02) is None
    [swept] = await broker.sweep([queue], WorkerReport("worker"))
    assert not swept.is_something_to_run


async def test_running_jobs_of_a_paused_task_are_settled(broker: Broker, queue: str) -> None:
    done = await put_and_take(broker, queue, "done", max_retries=1)
    again = await put_and_take(broker, queue, "again", max_retries=1)
    back = await put_and_take(broker, queue, "back", max_retries=1)
    await put(broker, queue, "new")
    await asking.pause(broker, queue, "send")
    assert list((await broker.renew(queue, [done.id])).cancelled) == []
    assert await settle(broker, queue, done, Action.DONE)
    assert await settle(broker, queue, again, Action.RETRY)
    assert await settle(broker, queue, back, Action.RELEASE)
    assert await take(broker, queue) == []
    await asking.resume(broker, queue, "send")
    assert ids(await take(broker, queue)) == ["back", "new", "again"]


async def test_a_pause_ends_by_a_tick(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a")
    until = broker.now() + 50
    await asking.pause(broker, queue, "send", until=until)
    assert await take(broker, queue) == []
    next_due = (await broker.tick(queue)).next_due
    assert next_due is None or next_due <= 0.05
    [swept] = await broker.sweep([queue], WorkerReport("worker"))
    assert swept.next_due is not None
    assert swept.next_due <= 0.05
    await drain_wake_ups(broker, queue)
    while broker.now() < until:
        await asyncio.sleep(0.005)
    assert await take(broker, queue) == [], "until a tick ends the pause"
    [seen] = await broker.overview([queue])
    for counts in (await asking.counts(broker, queue), seen.counts):
        assert (counts.ready, counts.paused, counts.paused_tasks) == (1, False, ()), "also before that"
    await broker.tick(queue)
    assert await broker.wait([queue], 10) == queue
    assert ids(await take(broker, queue)) == ["a"]
    assert not await asking.resume(broker, queue, "send")


async def test_a_pause_of_a_queue_that_is_over_is_not_counted(broker: Broker, queue: str) -> None:
    until = broker.now() + 50
    await asking.pause(broker, queue, until=until)
    await asking.pause(broker, queue, "send", until=until + LATER)
    while broker.now() < until:
        await asyncio.sleep(0.005)
    [seen] = await broker.overview([queue])
    for counts in (await asking.counts(broker, queue), seen.counts):
        assert (counts.paused, tuple(counts.paused_tasks)) == (False, ("send",))


async def test_a_pause_with_an_end_has_a_worker_tick(broker: Broker, queue: str) -> None:
    await drain_wake_ups(broker, queue)
    await asking.pause(broker, queue, until=broker.now() + LATER)
    assert await broker.wait([queue], 10) == queue
    assert (await broker.exchange(queue, [], 1)).has_earlier_due
    next_due = (await broker.tick(queue)).next_due
    assert next_due is not None
    assert next_due <= LATER / 1000


async def test_pauses_are_listed(broker: Broker, queue: str) -> None:
    assert not await broker.look(queue, LookPauses())
    before = broker.now()
    await asking.pause(broker, queue, "send", until=before + LATER, by="web-1", reason="down, since 3 h")
    await asking.pause(broker, queue, by="cli", reason="")
    pauses: Sequence[StoredPause] = await broker.look(queue, LookPauses())
    whole, one = pauses
    assert (whole.task, whole.until, whole.by, whole.reason) == (WHOLE_QUEUE, 0, "cli", "")
    assert (one.task, one.until, one.by) == ("send", before + LATER, "web-1")
    assert one.reason == "down, since 3 h"
    assert before <= one.since <= broker.now()
    counts = await asking.counts(broker, queue)
    assert (counts.paused, tuple(counts.paused_tasks)) == (True, ("send",))


async def test_a_pause_is_replaced_and_keeps_its_beginning(broker: Broker, queue: str) -> None:
    await asking.pause(broker, queue, "send", until=broker.now() + LATER)
    first = await pause_of(broker, queue)
    while broker.now() == first.since:
        await asyncio.sleep(0.001)
    await asking.pause(broker, queue, "send", reason="for ever")
    second = await pause_of(broker, queue)
    assert (second.since, second.until, second.reason) == (first.since, 0, "for ever")


async def test_a_resume_without_a_pause_changes_nothing(broker: Broker, queue: str) -> None:
    assert not await asking.resume(broker, queue)
    assert not await asking.resume(broker, queue, "send")
    await asking.pause(broker, queue, "send")
    assert not await asking.resume(broker, queue)
    await put(broker, queue, "a")
    assert await take(broker, queue) == []


async def test_pauses_of_queue_and_task_end_apart(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a")
    await put(broker, queue, "b", task="other")
    await asking.pause(broker, queue, "send")
    assert ids(await take(broker, queue, 1)) == ["b"]
    await asking.pause(broker, queue)
    assert await asking.resume(broker, queue, "send")
    assert await take(broker, queue) == []
    assert await asking.resume(broker, queue)
    assert ids(await take(broker, queue)) == ["a"]


async def test_a_limit_holds_after_a_pause(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 2}, {})
    await put(broker, queue, *"abcd")
    first, _ = await take(broker, queue)
    await asking.pause(broker, queue, "send")
    assert await settle(broker, queue, first, Action.DONE)
    assert await take(broker, queue) == []
    await asking.resume(broker, queue, "send")
    assert ids(await take(broker, queue)) == ["c"]


@pytest.mark.parametrize("name", ["send", WHOLE_QUEUE])
async def test_parked_jobs_of_a_paused_task_wait(broker: Broker, queue: str, name: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    await settle(broker, queue, lease, Action.PARK)
    await asking.pause(broker, queue, name)
    exchanged = await broker.exchange(queue, [], 10, Parking(wanted=["send"]))
    assert (list(exchanged.leases), exchanged.is_something_left) == ([], False)
    await asking.resume(broker, queue, name)
    assert ids(await take_parked(broker, queue, "send")) == ["a"]


@pytest.mark.parametrize("name", ["nightly", WHOLE_QUEUE])
async def test_ticks_of_a_paused_task_are_skipped(broker: Broker, queue: str, name: str) -> None:
    await broker.register(queue, {}, {"nightly": 1})

    async def tick(due: int) -> Fired:
        job = Envelope(f"nightly@{due}", "nightly", b"[[],{}]", due)
        [fired] = await broker.fire(queue, [Firing("nightly", due, due + 1, job)])
        return fired

    await asking.pause(broker, queue, name)
    assert [await tick(due) for due in (1, 1, 2)] == [Fired.PAUSED, Fired.TAKEN, Fired.PAUSED]
    await asking.resume(broker, queue, name)
    assert await take(broker, queue) == [], "they are not piled up"
    assert await tick(3) is Fired.MOVED
    assert ids(await take(broker, queue)) == ["nightly@3"]


async def test_a_tick_that_is_skipped_anyway_is_moved_in_a_pause(broker: Broker, queue: str) -> None:
    await broker.register(queue, {}, {"nightly": 1})
    await asking.pause(broker, queue)
    assert await broker.fire(queue, [Firing("nightly", 1, 2)]) == [Fired.MOVED]


async def test_a_job_that_pauses_its_task_keeps_its_turn(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"abc", max_retries=1)
    await put(broker, queue, "x", task="other")
    (lease,) = await take(broker, queue, 1)
    settled = [Settlement(lease, Action.RETRY, 0.05, pause=f"{WORKER} 429: slow down")]
    exchanged = await broker.exchange(queue, settled, 10)
    assert ids(exchanged.leases) == ["x"]
    assert not exchanged.is_something_left
    paused = await pause_of(broker, queue)
    assert (paused.task, paused.by, paused.reason) == ("send", WORKER, "429: slow down")
    while broker.now() < paused.until:
        await asyncio.sleep(0.005)
    await broker.tick(queue)
    leases = await take(broker, queue)
    assert ids(leases) == ["a", "b", "c"]
    assert leases[0].job.retries == 1


async def test_a_job_that_pauses_its_task_is_first_even_if_no_other_waits(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    await broker.exchange(queue, [Settlement(lease, Action.RETRY, 60.0, pause=WORKER)], 0)
    await put(broker, queue, "b")
    assert await take(broker, queue) == []
    assert await asking.resume(broker, queue, "send")
    assert ids(await take(broker, queue)) == ["a", "b"]


async def test_a_job_that_fails_may_pause_its_task(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    await put(broker, queue, "b")
    await broker.exchange(queue, [Settlement(lease, Action.FAIL, 60.0, b"{}", pause=WORKER)], 10)
    assert [dead.job.id for dead in await asking.dead(broker, queue)] == ["a"]
    assert await take(broker, queue) == []
    assert (await asking.counts(broker, queue)).ready == 1


async def test_a_cancelled_job_may_pause_its_task(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    await asking.cancel(broker, queue, "a")
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.RETRY, 60.0, pause=WORKER)], 0)
    assert list(exchanged.cancelled) == [lease.id]
    assert (await asking.counts(broker, queue)).paused_tasks


@pytest.mark.parametrize("known", [0, 1200])
async def test_a_job_does_not_shorten_a_pause(broker: Broker, queue: str, known: int) -> None:
    until = broker.now() + known * 1000 if known else 0
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    await asking.pause(broker, queue, "send", until=until, by="person")
    await broker.exchange(queue, [Settlement(lease, Action.RETRY, 600.0, pause=WORKER)], 0)
    paused = await pause_of(broker, queue)
    assert (paused.until, paused.by) == (until, "person")


async def test_a_job_prolongs_a_pause(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    await asking.pause(broker, queue, "send", until=broker.now() + 1000)
    await broker.exchange(queue, [Settlement(lease, Action.RETRY, 600.0, pause=WORKER)], 0)
    paused = await pause_of(broker, queue)
    assert paused.until > broker.now() + 500_000
    assert paused.by == WORKER


async def test_a_fenced_job_pauses_nothing(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a", max_retries=1)
    assert await settle(broker, queue, lease, Action.DONE)
    exchanged = await broker.exchange(queue, [Settlement(lease, Action.RETRY, 60.0, pause=WORKER)], 0)
    assert list(exchanged.fenced) == [lease.id]
    assert not await broker.look(queue, LookPauses())


async def test_a_paused_job_can_be_cancelled(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b")
    await asking.pause(broker, queue, "send")
    assert await take(broker, queue) == []
    assert (await asking.cancel(broker, queue, "a")).status is JobStatus.QUEUED
    await asking.resume(broker, queue, "send")
    assert ids(await take(broker, queue)) == ["b"]


async def test_a_flush_ends_all_pauses(broker: Broker, queue: str) -> None:
    await asking.pause(broker, queue)
    await broker.flush(queue)
    await put(broker, queue, "a")
    assert ids(await take(broker, queue)) == ["a"]


async def test_another_queue_goes_on(broker: Broker, queue: str, other_queue: str) -> None:
    await asking.pause(broker, queue)
    await put(broker, other_queue, "a")
    assert ids(await take(broker, other_queue)) == ["a"]
