"""Signals are sent after the settlement that they report, also for jobs of lost workers, on every broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aiospinach import Broker, Engine, Job, JobStatus, WorkerLost, current_job, signals
from aiospinach.brokers.records import Lease, Settlement
from aiospinach.outcome import Action

from .. import asking
from ..conftest import Heard
from ..waiting import until

QUEUE = "default"
MakeBroker = Callable[..., Broker]


async def cancel_this_job(engine: Engine) -> None:
    job = current_job()
    assert job is not None
    assert await engine.cancel(job) is JobStatus.RUNNING
    await asyncio.Event().wait()


async def test_the_job_is_among_the_dead_when_job_failed_is_sent(engine: Engine, broker: Broker) -> None:
    seen: list[list[str]] = []

    @signals.job_failed.connect_via(engine.namespace)
    async def receiver(namespace: str, job: Job, **kwargs: Any) -> None:
        seen.append([dead.job.id for dead in await asking.dead(broker, QUEUE)])

    @engine.task
    async def failing() -> None:
        raise ValueError("wrong")

    job = await failing.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert seen == [[job.id]]


async def test_the_job_is_waiting_when_job_schedule_retry_is_sent(engine: Engine, broker: Broker) -> None:
    seen: list[tuple[int, int]] = []

    @signals.job_schedule_retry.connect_via(engine.namespace)
    async def receiver(namespace: str, job: Job, **kwargs: Any) -> None:
        counts = await asking.counts(broker, QUEUE)
        seen.append((counts.waiting, counts.running))

    @engine.task(max_retries=1, backoff=lambda attempt: 3600)
    async def failing() -> None:
        raise ValueError("wrong")

    await failing.schedule()
    await engine.start_workers(block=False)
    await until(lambda: seen)
    assert seen == [(1, 0)]


@pytest.mark.parametrize("cancels", [True, False])
async def test_the_job_is_settled_when_job_cancelled_or_job_finished_is_sent(
    engine: Engine, broker: Broker, cancels: bool
) -> None:
    seen: list[tuple[str, int]] = []

    @signals.job_cancelled.connect_via(engine.namespace)
    async def cancelled(namespace: str, **kwargs: Any) -> None:
        seen.append(("cancelled", (await asking.counts(broker, QUEUE)).running))

    @signals.job_finished.connect_via(engine.namespace)
    async def finished(namespace: str, **kwargs: Any) -> None:
        seen.append(("finished", (await asking.counts(broker, QUEUE)).running))

    @engine.task
    async def body() -> None:
        if cancels:
            await cancel_this_job(engine)

    await body.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert seen == ([("cancelled", 0)] if cancels else []) + [("finished", 0)]


async def lose_the_next_job(broker: Broker) -> None:
    """Lease a job, as a worker does that disappears afterwards."""
    exchanged = await broker.exchange(QUEUE, [], 1)
    assert len(exchanged.leases) == 1


async def test_job_failed_is_sent_for_an_at_most_once_job_of_a_lost_worker(
    hasty: Engine, hasty_broker: Broker, heard: Heard
) -> None:
    @hasty.task
    async def body() -> None:
        raise AssertionError("it runs at most once")

    job = await body.schedule()
    await lose_the_next_job(hasty_broker)
    await hasty.start_workers(stop_when_queue_empty=True)
    assert heard.names() == ["job_scheduled", "worker_started", "job_failed", "worker_terminated"]
    assert heard.last("job_failed")["job"] == job
    assert isinstance(heard.last("job_failed")["err"], WorkerLost)
    [dead] = await asking.dead(hasty_broker, QUEUE)
    assert dead.job.id == job.id


async def test_job_schedule_retry_is_sent_for_a_job_of_a_lost_worker(
    hasty: Engine, hasty_broker: Broker, heard: Heard
) -> None:
    @hasty.task(max_retries=2)
    async def body() -> str:
        return "ran"

    job = await body.schedule()
    await lose_the_next_job(hasty_broker)
    await hasty.start_workers(stop_when_queue_empty=True)
    names = heard.names(job.id)
    assert sorted(names) == ["job_finished", "job_schedule_retry", "job_scheduled", "job_started"]
    assert names[0] == "job_scheduled"
    retry = heard.last("job_schedule_retry")
    assert isinstance(retry["err"], WorkerLost)
    assert retry["job"].crashes == 1
    assert heard.last("job_finished")["result"] == "ran"


async def test_a_job_that_lost_three_workers_sends_job_failed_without_job_finished(
    hasty: Engine, hasty_broker: Broker, heard: Heard
) -> None:
    @hasty.task(max_retries=10)
    async def body() -> None:
        raise AssertionError("only dead workers took it")

    job = await body.schedule()

    async def lost_job() -> Lease:
        while not (found := (await hasty_broker.tick(QUEUE)).expired):
            await asyncio.sleep(0.005)
        return found[0]

    for _ in range(2):
        await lose_the_next_job(hasty_broker)
        await hasty_broker.exchange(QUEUE, [Settlement(await lost_job(), Action.RETRY)], 0)
    await lose_the_next_job(hasty_broker)
    await hasty.start_workers(stop_when_queue_empty=True)
    assert heard.names(job.id) == ["job_scheduled", "job_failed"]
    failed = heard.last("job_failed")
    assert isinstance(failed["err"], WorkerLost)
    assert failed["job"].crashes == 3


async def test_an_execution_sends_only_job_started_and_job_finished(engine: Engine, heard: Heard) -> None:
    @engine.task(max_retries=3)
    async def divide(a: int, b: int) -> float:
        return a / b

    assert await engine.execute(divide, 1, 2) == 0.5
    with pytest.raises(ZeroDivisionError):
        await engine.execute(divide, 1, 0)
    assert heard.names() == ["job_started", "job_finished"] * 2
    right, wrong = (kwargs for name, kwargs in heard if name == "job_finished")
    assert right["job"].status is JobStatus.SUCCEEDED
    assert right["result"] == 0.5
    assert wrong["job"].status is JobStatus.FAILED
    assert isinstance(wrong["err"], ZeroDivisionError)


@pytest.mark.parametrize("moment", ["in a receiver", "in the body"])
async def test_a_cancelled_execution_sends_job_started_and_job_finished(
    engine: Engine, heard: Heard, moment: str
) -> None:
    begun = asyncio.Event()

    async def pause(here: str) -> None:
        if moment == here:
            begun.set()
            await asyncio.sleep(0.02)

    @signals.job_started.connect_via(engine.namespace)
    async def receiver(namespace: str, **kwargs: Any) -> None:
        await pause("in a receiver")

    @engine.task
    async def body() -> None:
        await pause("in the body")

    executing = asyncio.create_task(engine.execute(body))
    await begun.wait()
    executing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await executing
    assert heard.names() == ["job_started", "job_finished"]
    assert isinstance(heard.last("job_finished")["err"], asyncio.CancelledError)


async def test_job_finished_of_one_job_may_overlap_job_started_of_the_next(engine: Engine) -> None:
    order: list[str] = []
    second_started = asyncio.Event()

    @signals.job_started.connect_via(engine.namespace)
    def started(namespace: str, job: Job, **kwargs: Any) -> None:
        order.append(f"started {job.args[0]}")
        if job.args[0] == 2:
            second_started.set()

    @signals.job_finished.connect_via(engine.namespace)
    async def finished(namespace: str, job: Job, **kwargs: Any) -> None:
        await second_started.wait()
        order.append(f"finished {job.args[0]}")

    @engine.task
    async def body(number: int) -> None:
        pass

    await body.schedule(1)
    await body.schedule(2)
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert order == ["started 1", "started 2", "finished 1", "finished 2"]


async def test_two_engines_of_one_process_send_their_own_namespace(
    make_broker: MakeBroker, namespace: str
) -> None:
    received: list[tuple[str, str, object]] = []
    senders: list[str] = []
    names = [f"{namespace}-shop", f"{namespace}-bank"]
    engines = [Engine(make_broker(), name) for name in names]

    def listen(name: str) -> None:
        @signals.job_finished.connect_via(name)
        async def receiver(sender: str, result: object, **kwargs: Any) -> None:
            received.append((name, sender, result))

    for name in names:
        listen(name)

    @signals.job_finished.connect
    async def of_any_sender(sender: str, **kwargs: Any) -> None:
        senders.append(sender)

    async def body() -> str:
        job = current_job()
        assert job is not None
        return job.namespace

    for engine in engines:
        async with engine:
            await engine.task(body).schedule()
            await engine.start_workers(stop_when_queue_empty=True)
    assert received == [(name, name, name) for name in names]
    assert senders == names
