"""Jobs of lost workers are recovered, and a worker that lost a lease reports it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from aiospinach import BrokerUnavailable, Engine, Interrupted, JobStatus, LeaseLost, WorkerLost
from aiospinach.brokers.records import Lease, Settlement
from aiospinach.outcome import Action

from ..asking import counts
from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker
from .job_results import finish_of, reasons_of_death

LEASE = 0.1


@pytest.fixture
def broker() -> FailingBroker:
    return FailingBroker(lease=LEASE)


async def lose(broker: FailingBroker) -> Lease:
    """Lease the next job, as a worker does that disappears afterwards."""
    [lease] = (await broker.exchange("default", [], 1)).leases
    return lease


async def recover(broker: FailingBroker) -> Lease:
    """Recover a lost job, as a worker does that disappears afterwards."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for lease in (await broker.tick("default")).expired:
            return lease
        await asyncio.sleep(0.005)
    raise AssertionError("the job was not found")


async def test_a_lost_job_with_retries_is_retried_at_once(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    @engine.task(max_retries=1, backoff=lambda attempt: 1000)
    async def job() -> str:
        return "found"

    scheduled = await job.schedule()
    await lose(broker)
    await asyncio.wait_for(engine.start_workers(stop_when_queue_empty=True), 10)
    assert heard.names(scheduled.id) == [
        "job_scheduled",
        "job_schedule_retry",
        "job_started",
        "job_finished",
    ]
    retry = heard.last("job_schedule_retry")
    assert isinstance(retry["err"], WorkerLost)
    assert (retry["job"].retries, retry["job"].crashes, retry["job"].status) == (1, 1, JobStatus.WAITING)
    assert heard.last("job_finished")["result"] == "found"


async def test_a_lost_job_without_retries_is_dead_and_never_runs(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    ran: list[int] = []

    @engine.task
    async def job() -> None:
        ran.append(1)

    scheduled = await job.schedule()
    await lose(broker)
    await asyncio.wait_for(engine.start_workers(stop_when_queue_empty=True), 10)
    assert ran == []
    assert heard.names(scheduled.id) == ["job_scheduled", "job_failed"]
    failed = heard.last("job_failed")
    assert isinstance(failed["err"], WorkerLost)
    assert failed["job"].status is JobStatus.FAILED
    assert await reasons_of_death(broker) == {scheduled.id: "lost"}


async def test_a_job_that_was_lost_three_times_is_poison(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    ran: list[int] = []

    @engine.task(max_retries=100)
    async def job() -> None:
        ran.append(1)

    scheduled = await job.schedule()
    await lose(broker)
    for crashes in (1, 2):
        found = await recover(broker)
        assert found.job.crashes == crashes
        await broker.exchange("default", [Settlement(found, Action.RETRY)], 0)
        await lose(broker)
    await asyncio.wait_for(engine.start_workers(stop_when_queue_empty=True), 10)
    assert ran == []
    assert heard.names(scheduled.id) == ["job_scheduled", "job_failed"]
    failed = heard.last("job_failed")
    assert isinstance(failed["err"], WorkerLost)
    assert failed["job"].crashes == 3
    assert await reasons_of_death(broker) == {scheduled.id: "poison"}


async def test_a_job_that_was_lost_twice_still_runs(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    @engine.task(max_retries=100)
    async def job() -> str:
        return "alive"

    scheduled = await job.schedule()
    await lose(broker)
    await broker.exchange("default", [Settlement(await recover(broker), Action.RETRY)], 0)
    await lose(broker)
    await asyncio.wait_for(engine.start_workers(stop_when_queue_empty=True), 10)
    finish = await finish_of(heard, scheduled)
    assert (finish["result"], finish["job"].crashes) == ("alive", 2)


async def test_a_lost_job_without_retries_left_is_exhausted(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    @engine.task(max_retries=1)
    async def job() -> None:
        raise AssertionError("it has no try left")

    scheduled = await job.schedule()
    lease = await lose(broker)
    await broker.exchange("default", [Settlement(lease, Action.RETRY)], 0)
    await lose(broker)
    await asyncio.wait_for(engine.start_workers(stop_when_queue_empty=True), 10)
    assert heard.names(scheduled.id) == ["job_scheduled", "job_failed"]
    assert await reasons_of_death(broker) == {scheduled.id: "exhausted"}


async def test_many_lost_jobs_are_all_found(engine: Engine, broker: FailingBroker, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task(max_retries=1)
    async def job(number: int) -> None:
        ran.append(number)

    for number in range(250):
        await job.schedule(number)
    assert len((await broker.exchange("default", [], 250)).leases) == 250
    await asyncio.wait_for(engine.start_workers(5, stop_when_queue_empty=True), 20)
    assert sorted(ran) == list(range(250))


async def test_the_slot_of_a_lost_job_of_a_limited_task_is_freed(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    ran: list[int] = []

    @engine.task(max_retries=1, max_concurrency=1)
    async def job(number: int) -> None:
        ran.append(number)

    await broker.register("default", {job.name: 1}, {})
    for number in range(2):
        await job.schedule(number)
    await lose(broker)
    await asyncio.wait_for(engine.start_workers(2, stop_when_queue_empty=True), 10)
    assert sorted(ran) == [0, 1]


# A worker whose event loop was blocked.


async def test_a_worker_that_blocked_its_loop_does_not_lose_its_own_jobs(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    end = asyncio.Event()

    @engine.task(max_retries=1)
    async def blocks() -> str:
        time.sleep(4 * LEASE)
        end.set()
        return "mine"

    job = await blocks.schedule()
    await engine.start_workers(2, block=False)
    finish = await finish_of(heard, job)
    await engine.stop_workers()
    assert (finish["result"], finish["err"], finish["job"].status) == ("mine", None, JobStatus.SUCCEEDED)
    assert heard.count("job_started") == 1


def steal(broker: FailingBroker) -> list[Lease]:
    """Recover a lost job in another thread, as another worker does while this one is blocked."""
    stolen: list[Lease] = []

    def find() -> None:
        stolen.append(asyncio.run(recover(broker)))

    thread = threading.Thread(target=find)
    thread.start()
    thread.join()
    return stolen


async def test_a_job_recovered_by_another_worker_meanwhile_ends_with_lease_lost(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    stolen: list[Lease] = []

    @engine.task(max_retries=1)
    async def blocks() -> str:
        time.sleep(2 * LEASE)
        stolen.extend(steal(broker))
        return "too late"

    job = await blocks.schedule()
    await engine.start_workers(1, block=False)
    finish = await finish_of(heard, job)
    await engine.stop_workers()
    assert len(stolen) == 1
    assert isinstance(finish["err"], LeaseLost)
    assert finish["job"].status is JobStatus.NOT_SET
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_finished"]
    assert (await counts(broker, "default")).dead == 0
    exchanged = await broker.exchange("default", [Settlement(stolen[0], Action.DONE)], 0)
    assert exchanged.fenced == []


async def test_the_body_of_a_lost_job_is_cancelled(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    cancelled: list[bool] = []

    @engine.task(max_retries=1)
    async def blocks() -> None:
        time.sleep(2 * LEASE)
        assert len(steal(broker)) == 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    job = await blocks.schedule()
    await engine.start_workers(1, block=False)
    finish = await finish_of(heard, job)
    await engine.stop_workers()
    assert cancelled == [True]
    assert isinstance(finish["err"], LeaseLost)
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_finished"]


async def test_a_body_is_cancelled_before_the_end_of_a_lease_that_cannot_be_renewed(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    ended: list[float] = []

    @engine.task(max_retries=1)
    async def job() -> None:
        began = time.monotonic()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(time.monotonic() - began)

    broker.broken["renew"] = BrokerUnavailable
    scheduled = await job.schedule()
    await engine.start_workers(
        1, block=False, shutdown_timeout=0
    )  # the job is released and run again and again
    finish = await finish_of(heard, scheduled)
    broker.come_back()
    assert isinstance(finish["err"], Interrupted)
    assert finish["job"].status is JobStatus.QUEUED
    assert ended[0] >= LEASE - broker.margin - 0.02
    await engine.stop_workers()


async def test_the_cleanup_of_a_body_whose_lease_is_lost_is_not_cancelled(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    cleaned = asyncio.Event()

    @engine.task
    async def job() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            cleaned.set()

    broker.broken["renew"] = BrokerUnavailable
    scheduled = await job.schedule()
    await engine.start_workers(1, block=False)
    await finish_of(heard, scheduled)
    assert cleaned.is_set()
    broker.come_back()
    await engine.stop_workers()


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_leases_are_renewed_while_their_jobs_run(
    engine: Engine, broker: FailingBroker, heard: Heard, kind: str
) -> None:
    broker.lease = 0.5  # long enough for a busy machine
    ran: list[int] = []

    async def in_loop() -> None:
        ran.append(1)
        await asyncio.sleep(2.5 * broker.lease)

    def in_thread() -> None:
        ran.append(1)
        time.sleep(2.5 * broker.lease)

    function: Any = in_loop if kind == "async" else in_thread
    engine.task(name="long", max_retries=3)(function)
    job = await engine.schedule("long")
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert (await finish_of(heard, job))["job"].status is JobStatus.SUCCEEDED
    assert ran == [1]


async def test_recovery_takes_no_slot(engine: Engine, broker: FailingBroker, heard: Heard) -> None:
    end = asyncio.Event()

    @engine.task
    async def busy() -> None:
        await end.wait()

    @engine.task
    async def lost() -> None:
        pass

    job = await lost.schedule()
    await lose(broker)
    await busy.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: "job_failed" in heard.names(job.id))
    assert heard.count("job_finished") == 0
    end.set()
    await until(lambda: heard.count("job_finished") == 1)
    await engine.stop_workers()
