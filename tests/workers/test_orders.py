"""Orders: what workers hear at once, and not only with the next renewal."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta

import pytest

from aiospinach import Broker, BrokerError, Engine, JobCancelled, JobStatus, MemoryBroker, should_stop
from aiospinach.brokers.orders import ORDERS, cancel_order
from aiospinach.brokers.records import RenewResult
from aiospinach.brokers.subscriptions import Message, Subscription
from aiospinach.workers import orders

from .. import asking
from ..brokers_under_test import BROKERS, MakeBroker, redis_broker
from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker
from .job_results import finish_of

LONG = 600.0
"""Seconds of a lease that no test waits for: a quarter of it is over before a renewal."""
HELD = 100


@pytest.fixture(params=BROKERS)
async def shared(request: pytest.FixtureRequest) -> Broker:
    """A broker whose leases are not renewed while a test runs."""
    make: MakeBroker = request.param
    return make(lease=LONG)


@pytest.fixture
async def engine(shared: Broker, namespace: str) -> AsyncIterator[Engine]:
    async with Engine(shared, namespace) as engine:
        yield engine


@pytest.fixture
async def elsewhere(shared: Broker, namespace: str) -> AsyncIterator[Broker]:
    """The broker of another process, which cancels jobs."""
    if isinstance(shared, MemoryBroker):
        yield shared
        return
    other = redis_broker()
    await other.open(namespace)
    yield other
    await other.aclose()


async def test_a_job_that_another_process_cancels_ends_without_a_renewal(
    engine: Engine, elsewhere: Broker, heard: Heard
) -> None:
    @engine.task(max_retries=3)
    async def job() -> None:
        await asyncio.Event().wait()

    await engine.start_workers(2, block=False)
    scheduled, other = await job.schedule(), await job.schedule()
    await until(lambda: heard.count("job_started") == 2)
    assert (await asking.cancel(elsewhere, "default", scheduled.id)).status is JobStatus.RUNNING
    finish = await finish_of(heard, scheduled)
    assert isinstance(finish["err"], JobCancelled)
    assert finish["job"].status is JobStatus.CANCELLED
    assert "job_finished" not in heard.names(other.id)
    await engine.cancel(other)
    await finish_of(heard, other)
    await engine.stop_workers()


async def test_no_cancellation_waits_for_a_renewal_while_a_queue_is_drained(
    engine: Engine, elsewhere: Broker, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew, late, runs, is_over = engine._broker.renew, list[str](), 0, False

    async def watched(queue: str, leases: Collection[str]) -> RenewResult:
        renewed = await renew(queue, leases)
        late.extend(renewed.cancelled)
        return renewed

    @engine.task(name="hold")
    async def hold() -> None:
        await asyncio.Event().wait()

    @engine.task(name="churn")
    async def churn() -> None:
        nonlocal runs
        runs += 1
        if not is_over:
            await churn.schedule()

    monkeypatch.setattr(engine._broker, "renew", watched)
    await engine.start_workers(HELD + 10, block=False)
    jobs = [await hold.schedule() for _ in range(HELD)]
    await until(lambda: heard.count("job_started") == HELD, "all are held")
    for _ in range(20):
        await churn.schedule()
    for number, scheduled in enumerate(jobs):
        await until(lambda number=number: runs > 5 * number, "the queue is drained")  # type: ignore[misc]
        cancelled = await asking.cancel(elsewhere, "default", scheduled.id)
        assert cancelled.status is JobStatus.RUNNING
    for scheduled in jobs:
        assert (await finish_of(heard, scheduled))["job"].status is JobStatus.CANCELLED
    is_over = True
    assert late == []
    await engine.stop_workers()


async def test_each_queue_of_the_workers_has_orders(engine: Engine, elsewhere: Broker, heard: Heard) -> None:
    queues = ["one", "two", "three"]

    async def job() -> None:
        await asyncio.Event().wait()

    tasks = [engine.task(name=f"job.{queue}", queue=queue)(job) for queue in queues]
    await engine.start_workers(10, queues, block=False)
    jobs = [await task.schedule() for task in tasks]
    await until(lambda: heard.count("job_started") == 3)
    for scheduled in jobs:
        await asking.cancel(elsewhere, scheduled.queue, scheduled.id)
        assert (await finish_of(heard, scheduled))["job"].status is JobStatus.CANCELLED
    await engine.stop_workers()


async def test_a_job_is_cancelled_while_the_workers_stop(
    engine: Engine, elsewhere: Broker, heard: Heard
) -> None:
    @engine.task
    async def job() -> None:
        await asyncio.Event().wait()

    await engine.start_workers(1, block=False)
    scheduled = await job.schedule()
    await until(lambda: heard.count("job_started"))
    stopping = asyncio.create_task(engine.stop_workers())
    await asyncio.sleep(0)
    await asking.cancel(elsewhere, "default", scheduled.id)
    assert (await finish_of(heard, scheduled))["job"].status is JobStatus.CANCELLED
    await stopping


async def test_a_plain_function_learns_that_it_should_stop(
    engine: Engine, elsewhere: Broker, heard: Heard
) -> None:
    began, answers = threading.Event(), [True]

    @engine.task(max_retries=3)
    def job() -> None:
        answers[:] = [should_stop()]
        began.set()
        while not should_stop():
            threading.Event().wait(0.001)
        raise ValueError("stopped halfway")

    await engine.start_workers(1, block=False)
    scheduled = await job.schedule()
    await until(began.is_set)
    assert answers == [False]
    await asking.cancel(elsewhere, "default", scheduled.id)
    finish = await finish_of(heard, scheduled)
    assert finish["job"].status is JobStatus.CANCELLED
    assert isinstance(finish["err"].__cause__, ValueError)
    await engine.stop_workers()


async def test_unknown_orders_and_jobs_are_ignored(engine: Engine, elsewhere: Broker, heard: Heard) -> None:
    @engine.task
    async def job() -> None:
        await asyncio.Event().wait()

    await engine.start_workers(1, block=False)
    scheduled = await job.schedule()
    await until(lambda: heard.count("job_started"))
    odd = [b"", b" ", b"\xff\xfe", b"cancel", b"cancel a b", b"stack a", b'{"cancel": "a"}', b"dance now"]
    for data in [*odd, cancel_order("another"), b"x" * 100_000]:
        await elsewhere.publish("default", ORDERS, data)
    assert engine.health().is_running
    await asking.cancel(elsewhere, "default", scheduled.id)
    assert (await finish_of(heard, scheduled))["job"].status is JobStatus.CANCELLED
    await engine.stop_workers()


async def test_an_order_for_a_job_that_has_ended_does_nothing(
    engine: Engine, elsewhere: Broker, heard: Heard
) -> None:
    @engine.task
    async def job() -> int:
        return 1

    await engine.start_workers(1, block=False)
    scheduled = await job.schedule()
    await finish_of(heard, scheduled)
    await elsewhere.publish("default", ORDERS, cancel_order(scheduled.id))
    following = await job.schedule()
    assert (await finish_of(heard, following))["job"].status is JobStatus.SUCCEEDED
    await engine.stop_workers()


async def test_no_order_is_sent_for_a_job_that_does_not_run(elsewhere: Broker, engine: Engine) -> None:
    @engine.task
    async def job() -> None: ...

    async with elsewhere.subscribe("default") as subscription:
        await subscription.add([ORDERS])
        queued = await job.schedule()
        waiting = await job.schedule_at(datetime.now(UTC) + timedelta(hours=1))
        for scheduled in (queued, waiting):
            await asking.cancel(elsewhere, "default", scheduled.id)
        await asking.cancel(elsewhere, "default", "unknown")
        await elsewhere.publish("default", ORDERS, b"last")
        assert await subscription.next(10) == Message(ORDERS, b"last")


class DeafSubscription(Subscription):
    """A subscription to channels whose messages are all lost."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    async def add(self, channels: Collection[str]) -> None: ...

    async def remove(self, channels: Collection[str]) -> None: ...

    async def aclose(self) -> None: ...

    async def next(self, timeout: float) -> Message | None:
        await self.lost.wait()
        self.lost.clear()
        return None


class DeafBroker(FailingBroker):
    """A broker whose channels lose all messages, or refuse subscriptions."""

    def __init__(self, *, lease: float = 60.0) -> None:
        super().__init__(lease=lease)
        self.subscriptions: list[DeafSubscription] = []

    def subscribe(self, queue: str) -> Subscription:
        self.subscriptions.append(DeafSubscription())
        return self.subscriptions[-1]


class ForbiddingBroker(FailingBroker):
    """A broker whose user may subscribe to no channel."""

    def subscribe(self, queue: str) -> Subscription:
        class Forbidden(DeafSubscription):
            async def add(self, channels: Collection[str]) -> None:
                raise BrokerError("this user has no right on channels")

        return Forbidden()


async def test_a_renewal_finds_a_cancellation_whose_order_was_lost(namespace: str, heard: Heard) -> None:
    async with Engine(broker := DeafBroker(lease=0.4), namespace) as engine:

        @engine.task
        async def job() -> None:
            await asyncio.Event().wait()

        await engine.start_workers(1, block=False)
        scheduled = await job.schedule()
        await until(lambda: heard.count("job_started"))
        await asking.cancel(broker, "default", scheduled.id)
        assert (await finish_of(heard, scheduled))["job"].status is JobStatus.CANCELLED
        await engine.stop_workers()


async def test_leases_are_renewed_when_orders_may_have_been_lost(namespace: str, heard: Heard) -> None:
    """A reconnected subscription has the renewal ask at once, and not after a quarter of a lease."""
    async with Engine(broker := DeafBroker(lease=LONG), namespace) as engine:

        @engine.task
        async def job() -> None:
            await asyncio.Event().wait()

        await engine.start_workers(1, block=False)
        scheduled = await job.schedule()
        await until(lambda: heard.count("job_started"))
        await asking.cancel(broker, "default", scheduled.id)
        broker.subscriptions[0].lost.set()
        assert (await finish_of(heard, scheduled))["job"].status is JobStatus.CANCELLED
        await engine.stop_workers()


async def test_an_order_that_overtakes_the_lease_is_heard_a_little_later(
    namespace: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "LOOK_AGAIN_AFTER", 0.05)
    async with Engine(broker := FailingBroker(lease=LONG), namespace) as engine:

        @engine.task
        async def job() -> None:
            await asyncio.Event().wait()

        await engine.start_workers(1, block=False)
        scheduled = await job.options(id="early").schedule()
        await until(lambda: heard.count("job_started"))
        # As if the order had come before the run: the worker does not know the job, and looks once more.
        pool = engine._workers.pool
        assert pool is not None
        [run] = list(pool.runs)
        del pool.runs._runs[run]
        await asking.cancel(broker, "default", "early")
        await asyncio.sleep(0)
        pool.runs._runs[run] = run
        assert (await finish_of(heard, scheduled))["job"].status is JobStatus.CANCELLED
        await engine.stop_workers()


async def test_workers_without_a_right_on_channels_warn_once_and_work(
    namespace: str, heard: Heard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "REFUSED_FOR", 0.001)
    caplog.set_level(logging.WARNING, "aiospinach")
    async with Engine(ForbiddingBroker(lease=0.4), namespace) as engine:
        for queue in ("one", "two"):
            engine.task(name=queue, queue=queue)(lambda: None)
        await engine.start_workers(1, ["one", "two"], block=False)
        for queue in ("one", "two"):
            await finish_of(heard, await engine.schedule(queue))
        await asyncio.sleep(0.05)  # many tries
        await engine.stop_workers()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert "hears of cancelled jobs only when it renews their leases, every 0.1 s" in lines[0]
    assert "this user has no right on channels" in lines[0]
