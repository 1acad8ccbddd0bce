"""Waiting for work: a job wakes one worker, and no wake-up is lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import pytest

from aiospinach.brokers.base import Broker
from aiospinach.outcome import Action

from ..asking import cancel, requeue
from .conftest import (
    drain_wake_ups,
    fire,
    ids,
    job,
    make_dead,
    put,
    put_and_take,
    settle,
    take,
    take_when_expired,
)

MINUTE = 60_000


async def start_waiting(broker: Broker, *queues: str, timeout: float = 5) -> asyncio.Task[str | None]:
    """Start a wait in a task. A wake-up that is sent before it waits is kept for it."""
    task = asyncio.create_task(broker.wait(queues, timeout))
    await asyncio.sleep(0.01)
    return task


async def test_a_wait_without_work_ends_with_its_timeout(broker: Broker, queue: str) -> None:
    began = time.monotonic()
    assert await broker.wait([queue], 0.1) is None
    assert time.monotonic() - began >= 0.09


async def test_a_wait_with_a_timeout_of_zero_returns_at_once(broker: Broker, queue: str) -> None:
    assert await broker.wait([queue], 0) is None
    await put(broker, queue, "a")
    assert await broker.wait([queue], 0) == queue


async def _enqueue(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a")


async def _fire(broker: Broker, queue: str) -> None:
    due = broker.now() - 5
    await broker.register(queue, {}, {"hourly": due})
    assert await fire(broker, queue, "hourly", due, due + MINUTE, job("hourly@1"))


async def _requeue(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, "a")
    await drain_wake_ups(broker, queue)
    assert await requeue(broker, queue, "a")


async def _retry(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    await drain_wake_ups(broker, queue)
    assert await settle(broker, queue, lease, Action.RETRY)


async def _release(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    await drain_wake_ups(broker, queue)
    assert await settle(broker, queue, lease, Action.RELEASE)


async def _become_due(broker: Broker, queue: str) -> None:
    due = broker.now() + 300
    await put(broker, queue, "a", at=due)
    await drain_wake_ups(broker, queue)
    while broker.now() <= due:
        await asyncio.sleep(0.005)
    await broker.tick(queue)


async def _recover(broker: Broker, queue: str) -> None:
    await put_and_take(broker, queue, "a")
    await drain_wake_ups(broker, queue)
    (found,) = await take_when_expired(broker, queue)
    assert await settle(broker, queue, found, Action.RETRY)


async def _leave_some(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b")
    await drain_wake_ups(broker, queue)
    assert len(await take(broker, queue, 1)) == 1


CAUSES = [_enqueue, _fire, _requeue, _retry, _release, _become_due, _recover, _leave_some]


@pytest.mark.parametrize("cause", CAUSES)
async def test_a_wake_up_is_kept_for_the_next_wait(
    broker: Broker, queue: str, cause: Callable[[Broker, str], Awaitable[None]]
) -> None:
    await cause(broker, queue)
    assert await broker.wait([queue], 5) == queue
    assert len(await take(broker, queue)) == 1
    assert await broker.wait([queue], 0.05) is None


@pytest.mark.parametrize("cause", [_enqueue, _fire])
async def test_new_work_wakes_a_waiter(
    broker: Broker, queue: str, cause: Callable[[Broker, str], Awaitable[None]]
) -> None:
    waiting = await start_waiting(broker, queue)
    await cause(broker, queue)
    assert await waiting == queue


async def test_a_requeued_job_wakes_a_waiter(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, "a")
    await drain_wake_ups(broker, queue)
    waiting = await start_waiting(broker, queue)
    assert await requeue(broker, queue, "a")
    assert await waiting == queue


@pytest.mark.parametrize("action", [Action.RETRY, Action.RELEASE])
async def test_a_retried_or_released_job_wakes_a_waiter(broker: Broker, queue: str, action: Action) -> None:
    lease = await put_and_take(broker, queue, "a")
    await drain_wake_ups(broker, queue)
    waiting = await start_waiting(broker, queue)
    assert await settle(broker, queue, lease, action)
    assert await waiting == queue


async def test_one_job_wakes_exactly_one_of_several_waiters(broker: Broker, queue: str) -> None:
    waiting = [await start_waiting(broker, queue, timeout=0.4) for _ in range(5)]
    await put(broker, queue, "a")
    answers = await asyncio.gather(*waiting)
    assert sorted(answers, key=str) == [None] * 4 + [queue]


async def test_a_worker_that_leaves_jobs_wakes_the_next_worker(broker: Broker, queue: str) -> None:
    taken: list[str] = []

    async def work() -> None:
        assert await broker.wait([queue], 5) == queue
        taken.extend(ids(await take(broker, queue, 1)))

    workers = [asyncio.create_task(work()) for _ in range(5)]
    await asyncio.sleep(0.01)
    await put(broker, queue, *"abcde")
    await asyncio.gather(*workers)
    assert sorted(taken) == list("abcde")


async def test_a_job_that_is_due_earlier_wakes_a_waiter(broker: Broker, queue: str) -> None:
    now = broker.now()
    for minutes in (9, 6, 3):
        waiting = await start_waiting(broker, queue)
        await put(broker, queue, f"in {minutes}", at=now + minutes * MINUTE)
        assert await waiting == queue
        assert (await broker.tick(queue)).next_due == pytest.approx(60 * minutes, abs=5)


async def test_a_retry_that_is_due_earlier_wakes_a_waiter(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    await drain_wake_ups(broker, queue)
    waiting = await start_waiting(broker, queue)
    assert await settle(broker, queue, lease, Action.RETRY, 30.0)
    assert await waiting == queue


async def test_a_parked_job_wakes_no_waiter(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    await drain_wake_ups(broker, queue)
    waiting = await start_waiting(broker, queue, timeout=0.1)
    assert await settle(broker, queue, lease, Action.PARK)
    assert await waiting is None


async def test_a_job_that_is_due_later_wakes_no_waiter(broker: Broker, queue: str) -> None:
    now = broker.now()
    await put(broker, queue, "first", at=now + MINUTE)
    await drain_wake_ups(broker, queue)
    waiting = await start_waiting(broker, queue, timeout=0.1)
    await put(broker, queue, "later", "much later", at=now + 2 * MINUTE)
    assert await waiting is None


async def test_taking_the_last_job_wakes_no_waiter(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b")
    await drain_wake_ups(broker, queue)
    assert len(await take(broker, queue)) == 2
    assert await broker.wait([queue], 0.05) is None


async def test_skipping_cancelled_jobs_wakes_no_waiter(broker: Broker, queue: str) -> None:
    await put(broker, queue, *"abc")
    for job_id in "abc":
        await cancel(broker, queue, job_id)
    await drain_wake_ups(broker, queue)
    assert await take(broker, queue, 2) == []
    assert await broker.wait([queue], 0.05) is None


async def test_an_exchange_without_leases_wakes_a_waiter_if_jobs_are_left(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a")
    assert await broker.wait([queue], 5) == queue
    assert await broker.wait([queue], 0.05) is None
    assert await take(broker, queue, 0) == []
    assert await broker.wait([queue], 5) == queue
    waiting = await start_waiting(broker, queue)
    assert await take(broker, queue, 0) == []
    assert await waiting == queue


async def test_an_exchange_without_leases_wakes_no_waiter_if_no_job_is_left(
    broker: Broker, queue: str
) -> None:
    lease = await put_and_take(broker, queue, "a")
    await drain_wake_ups(broker, queue)
    assert await take(broker, queue, 0) == []
    assert await settle(broker, queue, lease, Action.DONE)
    assert await broker.wait([queue], 0.05) is None


async def test_a_wait_can_be_for_several_queues(broker: Broker, queue: str, other_queue: str) -> None:
    for name in (other_queue, queue, other_queue):
        waiting = await start_waiting(broker, queue, other_queue)
        await put(broker, name, "a")
        assert await waiting == name
        (lease,) = await take(broker, name)
        assert await settle(broker, name, lease, Action.DONE)
        await drain_wake_ups(broker, queue, other_queue)


async def test_wake_ups_of_several_queues_are_kept_apart(
    broker: Broker, queue: str, other_queue: str
) -> None:
    await put(broker, queue, "a")
    await put(broker, other_queue, "b")
    answers = [await broker.wait([queue, other_queue], 5) for _ in range(2)]
    assert sorted(answers, key=str) == sorted([queue, other_queue])
    assert await broker.wait([queue, other_queue], 0.05) is None


async def test_work_of_another_queue_wakes_no_waiter(broker: Broker, queue: str, other_queue: str) -> None:
    waiting = await start_waiting(broker, queue, timeout=0.1)
    await put(broker, other_queue, "a")
    assert await waiting is None
    assert await broker.wait([other_queue], 5) == other_queue


async def test_a_cancelled_wait_leaves_its_wake_up_to_the_next_wait(broker: Broker, queue: str) -> None:
    waiting = await start_waiting(broker, queue)
    await put(broker, queue, "a")
    waiting.cancel()
    answers = await asyncio.gather(waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError) or answers[0] == queue
    if answers[0] != queue:
        assert await broker.wait([queue], 5) == queue


async def test_a_cancelled_wait_passes_its_wake_up_to_another_waiter(broker: Broker, queue: str) -> None:
    for round_ in range(20):
        first = await start_waiting(broker, queue)
        second = await start_waiting(broker, queue)
        await put(broker, queue, f"job-{round_}")
        first.cancel()
        answers = await asyncio.gather(first, return_exceptions=True)
        if answers[0] != queue:
            assert await second == queue
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert len(await take(broker, queue)) == 1
        await drain_wake_ups(broker, queue)


async def test_a_wait_cancelled_at_any_moment_loses_no_wake_up(broker: Broker, queue: str) -> None:
    chance = random.Random(7)
    for round_ in range(100):
        waiting = asyncio.create_task(broker.wait([queue], 5))
        for _ in range(chance.randint(0, 3)):
            await asyncio.sleep(0)
        await put(broker, queue, f"job-{round_}")
        for _ in range(chance.randint(0, 3)):
            await asyncio.sleep(0)
        waiting.cancel()
        answers = await asyncio.gather(waiting, return_exceptions=True)
        if answers[0] != queue:
            assert await broker.wait([queue], 5) == queue
        assert len(await take(broker, queue)) == 1


async def test_a_wait_that_times_out_as_work_arrives_loses_no_wake_up(broker: Broker, queue: str) -> None:
    chance = random.Random(7)
    for round_ in range(60):
        waiting = asyncio.create_task(broker.wait([queue], 0.003))
        await asyncio.sleep(chance.uniform(0, 0.006))
        # The loop is blocked, so that the timeout and the wake-up arrive together.
        time.sleep(0.002)
        await put(broker, queue, f"job-{round_}")
        if await waiting is None:
            assert await broker.wait([queue], 5) == queue
        assert len(await take(broker, queue)) == 1


async def test_has_earlier_due_is_set_in_one_exchange_only(broker: Broker, queue: str) -> None:
    waiting = await start_waiting(broker, queue)
    await put(broker, queue, "later", at=broker.now() + MINUTE)
    assert await waiting == queue
    assert (await broker.exchange(queue, [], 1)).has_earlier_due
    assert not (await broker.exchange(queue, [], 1)).has_earlier_due


async def test_has_earlier_due_is_not_set_by_jobs_that_are_ready_or_due_later(
    broker: Broker, queue: str
) -> None:
    await put(broker, queue, "later", at=broker.now() + MINUTE)
    assert await broker.wait([queue], 5) == queue
    await broker.exchange(queue, [], 0)
    await put(broker, queue, "now", "latest", at=0)
    await put(broker, queue, "last", at=broker.now() + 2 * MINUTE)
    assert await broker.wait([queue], 5) == queue
    exchanged = await broker.exchange(queue, [], 5)
    assert ids(exchanged.leases) == ["now", "latest"]
    assert not exchanged.has_earlier_due


async def test_has_earlier_due_is_set_if_a_wake_up_was_already_pending(broker: Broker, queue: str) -> None:
    await put(broker, queue, "now")
    await put(broker, queue, "later", at=broker.now() + MINUTE)
    assert await broker.wait([queue], 5) == queue
    assert (await broker.exchange(queue, [], 1)).has_earlier_due
