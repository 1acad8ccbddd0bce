"""Each job_started is followed by one job_finished, whatever ends the run, on every broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from aiospinach import (
    Broker,
    BrokerUnavailable,
    Engine,
    Interrupted,
    JobCancelled,
    JobStatus,
    LeaseLost,
    WorkerLost,
    current_job,
    signals,
)

from .. import asking
from ..conftest import Heard
from ..waiting import until

QUEUE = "default"
MakeBroker = Callable[..., Broker]


async def test_a_job_interrupted_by_the_stop_is_released(
    engine: Engine, broker: Broker, heard: Heard
) -> None:
    @engine.task(max_retries=3)
    async def hangs() -> None:
        await asyncio.Event().wait()

    job = await hangs.schedule()
    await engine.start_workers(block=False, shutdown_timeout=0)
    await until(lambda: heard.count("job_started"))
    await engine.stop_workers()
    assert heard.names() == [
        "job_scheduled",
        "worker_started",
        "job_started",
        "job_finished",
        "worker_terminated",
    ]
    finished = heard.last("job_finished")
    assert finished["job"] == job
    assert finished["job"].status is JobStatus.QUEUED
    assert finished["job"].retries == 0
    assert isinstance(finished["err"], Interrupted)
    assert (await asking.counts(broker, QUEUE)).ready == 1


async def test_a_job_that_fails_before_noticing_its_cancellation_is_not_retried(
    engine: Engine, broker: Broker, heard: Heard
) -> None:
    @engine.task(max_retries=3)
    async def fails() -> None:
        # As another process does: this one notices with its next renewal.
        assert (await asking.cancel(broker, QUEUE, scheduled.id)).status is JobStatus.RUNNING
        raise ValueError("of its own")

    scheduled = await fails.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names() == [
        "job_scheduled",
        "worker_started",
        "job_started",
        "job_cancelled",
        "job_finished",
        "worker_terminated",
    ]
    finished = heard.last("job_finished")
    assert finished["job"].status is JobStatus.CANCELLED
    assert isinstance(finished["err"], JobCancelled)
    assert isinstance(finished["err"].__cause__, ValueError)
    counts = await asking.counts(broker, QUEUE)
    assert (counts.ready, counts.running, counts.waiting, counts.dead) == (0, 0, 0, 0)


async def test_a_job_released_before_noticing_its_cancellation_is_cancelled(
    engine: Engine, broker: Broker, heard: Heard
) -> None:
    @engine.task(max_retries=3)
    async def hangs() -> None:
        await asyncio.Event().wait()

    job = await hangs.schedule()
    await engine.start_workers(block=False, shutdown_timeout=0)
    await until(lambda: heard.count("job_started"))
    await asking.cancel(broker, QUEUE, job.id)
    await engine.stop_workers()
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_cancelled", "job_finished"]
    assert (await asking.counts(broker, QUEUE)).ready == 0


async def test_a_cancelled_job_of_a_lost_worker_is_cancelled_on_recovery(
    hasty: Engine, hasty_broker: Broker, heard: Heard
) -> None:
    @hasty.task(max_retries=3)
    async def job() -> None:
        pass

    scheduled = await job.schedule()
    (lost,) = (await hasty_broker.exchange(QUEUE, [], 1)).leases
    assert (await asking.cancel(hasty_broker, QUEUE, lost.job.id)).status is JobStatus.RUNNING
    await hasty.start_workers(block=False)
    await until(lambda: heard.count("job_cancelled"))
    await hasty.stop_workers()
    assert heard.names(scheduled.id) == ["job_scheduled", "job_cancelled"]


async def test_an_at_most_once_job_interrupted_by_the_stop_has_failed(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def hangs() -> None:
        await asyncio.Event().wait()

    job = await hangs.schedule()
    await engine.start_workers(block=False, shutdown_timeout=0)
    await until(lambda: heard.count("job_started"))
    await engine.stop_workers()
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_failed", "job_finished"]
    assert isinstance(heard.last("job_failed")["err"], Interrupted)


async def test_job_finished_of_a_body_that_ignores_the_stop_runs_in_its_context(
    engine: Engine, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiospinach.workers.draining.INTERRUPT_GRACE", 0.05)
    release = asyncio.Event()
    seen: list[object] = []

    @engine.task(max_retries=1)
    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    @signals.job_finished.connect_via(engine.namespace)
    def plain(namespace: str, **kwargs: Any) -> None:
        seen.append(current_job())

    @signals.job_finished.connect_via(engine.namespace)
    async def asynchronous(namespace: str, **kwargs: Any) -> None:
        seen.append(current_job())

    job = await stubborn.schedule()
    await engine.start_workers(block=False, shutdown_timeout=0)
    await until(lambda: heard.count("job_started"))
    await engine.stop_workers()
    names = heard.names()
    release.set()
    assert names[-3:] == ["job_started", "job_finished", "worker_terminated"]
    assert isinstance(heard.last("job_finished")["err"], Interrupted)
    assert seen == [job, job]
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert heard.names() == names


async def test_a_lost_lease_sends_job_finished_without_job_failed(
    hasty: Engine, hasty_broker: Broker, heard: Heard
) -> None:
    begun = asyncio.Event()

    @hasty.task(max_retries=3)
    async def hangs() -> None:
        begun.set()
        await asyncio.Event().wait()

    job = await hangs.schedule()
    await hasty.start_workers(block=False)
    await begun.wait()
    await hasty_broker.flush(QUEUE)
    await until(lambda: heard.count("job_finished"))
    await hasty.stop_workers()
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_finished"]
    finished = heard.last("job_finished")
    assert isinstance(finished["err"], LeaseLost)
    assert finished["result"] is None
    assert finished["job"].status is JobStatus.NOT_SET


@pytest.mark.parametrize("fails", [True, False])
async def test_a_lease_found_lost_on_settling_sends_job_finished_without_job_failed(
    engine: Engine, broker: Broker, heard: Heard, fails: bool
) -> None:
    @engine.task
    async def body() -> str:
        await broker.flush(QUEUE)
        if fails:
            raise ValueError("wrong")
        return "lost"

    job = await body.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_finished"]
    assert isinstance(heard.last("job_finished")["err"], LeaseLost)
    assert heard.last("job_finished")["job"].status is JobStatus.NOT_SET


async def test_after_failed_renewals_the_run_sends_job_finished_and_the_recovery_job_failed(
    hasty: Engine, hasty_broker: Broker, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: Any, **kwargs: Any) -> Any:
        raise BrokerUnavailable("gone")

    begun = asyncio.Event()

    @hasty.task
    async def hangs() -> None:
        begun.set()
        await asyncio.Event().wait()

    job = await hangs.schedule()
    await hasty.start_workers(block=False)
    await begun.wait()
    tick = hasty_broker.tick
    for method in ("renew", "exchange", "tick"):
        monkeypatch.setattr(hasty_broker, method, away)
    while not (await tick(QUEUE)).expired:  # as another worker does, which is then lost as well
        await asyncio.sleep(0.005)
    assert heard.names(job.id) == ["job_scheduled", "job_started"]
    monkeypatch.undo()
    await until(lambda: heard.count("job_finished") and heard.count("job_failed"))
    assert heard.names(job.id)[:2] == ["job_scheduled", "job_started"]
    assert sorted(heard.names(job.id)[2:]) == ["job_failed", "job_finished"]
    assert isinstance(heard.last("job_finished")["err"], LeaseLost)
    assert isinstance(heard.last("job_failed")["err"], WorkerLost)


@pytest.mark.parametrize("blocks", [0.75, 0.05])
async def test_a_body_that_blocks_the_event_loop_sends_job_started_and_job_finished(
    hasty: Engine, hasty_broker: Broker, heard: Heard, blocks: float
) -> None:
    ran: list[int] = []

    @hasty.task
    async def blocking(number: int) -> None:
        ran.append(number)
        time.sleep(blocks)
        await asyncio.sleep(0)

    jobs = [await blocking.schedule(number) for number in range(3)]
    await hasty.start_workers(stop_when_queue_empty=True)
    assert sorted(ran) == [0, 1, 2]
    for job in jobs:
        # Jobs leased together with one that blocked too long may start a second time.
        names = [name for name in heard.names(job.id) if name in ("job_started", "job_finished")]
        assert names == ["job_started", "job_finished"] * (len(names) // 2)
        assert names


async def test_signals_after_a_settlement_wait_for_an_unavailable_broker(
    engine: Engine, broker: Broker, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    exchange = broker.exchange

    async def away(*args: Any, **kwargs: Any) -> Any:
        nonlocal tries
        tries += 1
        raise BrokerUnavailable("gone")

    @engine.task
    async def failing() -> None:
        monkeypatch.setattr(broker, "exchange", away)
        raise ValueError("wrong")

    job = await failing.schedule()
    await engine.start_workers(block=False)
    await until(lambda: tries >= 2)
    assert heard.names(job.id) == ["job_scheduled", "job_started"]
    monkeypatch.setattr(broker, "exchange", exchange)
    await until(lambda: heard.count("job_finished"))
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_failed", "job_finished"]
    assert isinstance(heard.last("job_finished")["err"], ValueError)


async def test_a_settlement_fenced_after_an_outage_sends_job_finished_only(
    engine: Engine, broker: Broker, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    exchange = broker.exchange

    async def away(*args: Any, **kwargs: Any) -> Any:
        nonlocal tries
        tries += 1
        raise BrokerUnavailable("gone")

    @engine.task
    async def failing() -> None:
        monkeypatch.setattr(broker, "exchange", away)
        raise ValueError("wrong")

    job = await failing.schedule()
    await engine.start_workers(block=False)
    await until(lambda: tries >= 2)
    await broker.flush(QUEUE)
    assert heard.names(job.id) == ["job_scheduled", "job_started"]
    monkeypatch.setattr(broker, "exchange", exchange)
    await until(lambda: heard.count("job_finished"))
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_finished"]
    assert isinstance(heard.last("job_finished")["err"], LeaseLost)
