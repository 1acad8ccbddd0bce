"""Workers start once, can be stopped from anywhere, drain running jobs, and can be started again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import (
    AiospinachError,
    AlreadyRunning,
    BrokerUnavailable,
    Engine,
    Interrupted,
    InvalidValue,
    JobStatus,
    UnknownQueue,
    signals,
)
from aiospinach.brokers.records import Settlement
from aiospinach.outcome import Action
from aiospinach.workers import draining

from .. import asking
from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker
from .job_results import finish_of, reasons_of_death


class Work:
    """A task whose bodies record their start, and wait until they may end."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.began: list[int] = []
        self.cancelled: list[int] = []
        self.may_end = asyncio.Event()

        @engine.task(name="work", **options)
        async def work(number: int) -> int:
            self.began.append(number)
            try:
                await self.may_end.wait()
            except asyncio.CancelledError:
                self.cancelled.append(number)
                raise
            return number

        self.task = work


async def start_in_background(engine: Engine, number: int = 5, **options: Any) -> asyncio.Task[None]:
    """Run ``start_workers`` with ``block=True`` in a task, and return when the workers have started."""
    started = asyncio.Event()
    signals.worker_started.connect(lambda namespace, **kwargs: started.set(), engine.namespace, weak=False)
    task = asyncio.create_task(engine.start_workers(number, **options))
    await started.wait()
    return task


async def test_stopping_before_a_start_does_nothing(engine: Engine, heard: Heard) -> None:
    await engine.stop_workers()
    await engine.stop_workers()
    assert heard == []


async def test_repeated_and_concurrent_stops_are_one_stop(engine: Engine, heard: Heard) -> None:
    await engine.start_workers(block=False)
    await asyncio.gather(*(engine.stop_workers() for _ in range(5)))
    await engine.stop_workers()
    assert heard.names() == ["worker_started", "worker_terminated"]


async def test_all_signals_of_a_pool_have_the_same_name(engine: Engine, heard: Heard) -> None:
    for _ in range(2):
        await engine.start_workers(block=False)
        await engine.stop_workers()
    names = [kwargs["worker_name"] for _, kwargs in heard]
    assert names[0] == names[1]
    assert names[2] == names[3]
    assert names[0] != names[2]


async def test_a_start_without_block_returns_once_the_workers_run(engine: Engine, heard: Heard) -> None:
    await engine.start_workers(block=False)
    assert heard.names() == ["worker_started"]
    await engine.stop_workers()
    assert heard.names() == ["worker_started", "worker_terminated"]


async def test_a_blocking_start_returns_when_another_task_stops_the_workers(
    engine: Engine, heard: Heard
) -> None:
    task = await start_in_background(engine)
    assert not task.done()
    await engine.stop_workers()
    assert heard.names() == ["worker_started", "worker_terminated"]
    await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("block", [True, False])
async def test_starting_twice_is_refused(engine: Engine, heard: Heard, block: bool) -> None:
    await engine.start_workers(block=False)
    with pytest.raises(AlreadyRunning, match="stop_workers"):
        await engine.start_workers(block=block)
    assert issubclass(AlreadyRunning, RuntimeError)
    await engine.stop_workers()
    assert heard.count("worker_started") == 1


async def test_only_one_of_several_concurrent_starts_succeeds(engine: Engine, heard: Heard) -> None:
    results = await asyncio.gather(
        *(engine.start_workers(block=False) for _ in range(3)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == [
        "AlreadyRunning",
        "AlreadyRunning",
        "NoneType",
    ]
    assert heard.count("worker_started") == 1


async def test_a_start_while_the_workers_drain_is_refused(engine: Engine) -> None:
    work = Work(engine)
    await work.task.schedule(1)
    await engine.start_workers(block=False)
    await until(lambda: work.began)
    stopping = asyncio.create_task(engine.stop_workers())
    await asyncio.sleep(0)
    with pytest.raises(AlreadyRunning):
        await engine.start_workers(block=False)
    work.may_end.set()
    await stopping
    await engine.start_workers(stop_when_queue_empty=True)


async def test_a_stop_during_the_start_stops_the_workers(engine: Engine, heard: Heard) -> None:
    async def slow(namespace: str, **kwargs: Any) -> None:
        await engine_is_starting.wait()

    engine_is_starting = asyncio.Event()
    signals.worker_started.connect(slow, engine.namespace)
    start = asyncio.create_task(engine.start_workers())
    await until(lambda: heard.count("worker_started"))
    stop = asyncio.create_task(engine.stop_workers())
    await asyncio.sleep(0)
    assert not stop.done()
    engine_is_starting.set()
    await asyncio.wait_for(asyncio.gather(start, stop), 5)
    assert heard.names() == ["worker_started", "worker_terminated"]


async def test_workers_can_be_started_a_hundred_times(engine: Engine, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task
    async def job(number: int) -> None:
        ran.append(number)

    for number in range(100):
        await job.schedule(number)
        await engine.start_workers(2, stop_when_queue_empty=True)
    assert ran == list(range(100))
    assert heard.count("worker_terminated") == 100


async def test_jobs_left_in_the_queue_run_at_the_next_start(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    work = Work(engine)
    for number in range(5):
        await work.task.schedule(number)
    await engine.start_workers(2, block=False)
    await until(lambda: len(work.began) == 2)
    stopping = asyncio.create_task(engine.stop_workers())
    await asyncio.sleep(0)
    work.may_end.set()
    await stopping
    assert work.began == [0, 1]
    assert work.cancelled == []
    counts = await asking.counts(broker, "default")
    assert (counts.ready, counts.running, counts.dead) == (3, 0, 0)
    await engine.start_workers(2, stop_when_queue_empty=True)
    assert work.began == [0, 1, 2, 3, 4]
    assert heard.count("job_finished") == 5


async def test_nothing_is_sent_after_worker_terminated(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def job() -> None:
        pass

    async def slow(namespace: str, **kwargs: Any) -> None:
        for _ in range(10):
            await asyncio.sleep(0.001)

    for signal in (signals.job_scheduled, signals.job_started, signals.job_finished):
        signal.connect(slow, engine.namespace)
    for _ in range(20):
        await job.schedule()
    await engine.start_workers(4, stop_when_queue_empty=True)
    assert heard.names()[-1] == "worker_terminated"
    assert heard.count("job_finished") == 20


# Stopping from a job or receiver.


def in_async_body(engine: Engine) -> Callable[[], Any]:
    async def body() -> str:
        await engine.stop_workers()
        await engine.stop_workers()
        return "went on"

    return body


def in_child_of_body(engine: Engine) -> Callable[[], Any]:
    async def body() -> str:
        await asyncio.create_task(engine.stop_workers())
        return "went on"

    return body


def in_thread_of_sync_body(engine: Engine) -> Callable[[], Any]:
    loop = asyncio.get_running_loop()

    def body() -> str:
        asyncio.run_coroutine_threadsafe(engine.stop_workers(), loop).result()
        return "went on"

    return body


def in_own_loop_of_sync_body(engine: Engine) -> Callable[[], Any]:
    def body() -> str:
        asyncio.run(engine.stop_workers())
        return "went on"

    return body


@pytest.mark.parametrize(
    "make", [in_async_body, in_child_of_body, in_thread_of_sync_body, in_own_loop_of_sync_body]
)
@pytest.mark.parametrize("block", [True, False])
async def test_a_job_can_stop_the_workers_and_continues(
    engine: Engine,
    broker: FailingBroker,
    heard: Heard,
    make: Callable[[Engine], Callable[[], Any]],
    block: bool,
) -> None:
    engine.task(name="stopper")(make(engine))
    job = await engine.schedule("stopper")
    for _ in range(3):
        await engine.schedule("stopper")
    await asyncio.wait_for(engine.start_workers(1, block=block), 5)
    await until(lambda: heard.count("worker_terminated"))
    assert (await finish_of(heard, job))["result"] == "went on"
    assert heard.count("job_started") == 1
    assert (await asking.counts(broker, "default")).ready == 3


@pytest.mark.parametrize("signal", ["worker_started", "job_started", "job_finished"])
async def test_a_receiver_can_stop_the_workers(engine: Engine, heard: Heard, signal: str) -> None:
    @engine.task
    async def job() -> None:
        pass

    async def receiver(namespace: str, **kwargs: Any) -> None:
        await engine.stop_workers()

    getattr(signals, signal).connect(receiver, engine.namespace)
    await job.schedule()
    await asyncio.wait_for(engine.start_workers(1), 5)
    assert heard.names()[-1] == "worker_terminated"
    assert heard.count("job_started") == heard.count("job_finished")


async def test_another_thread_can_stop_the_workers_and_wait_for_their_end(
    engine: Engine, heard: Heard
) -> None:
    work = Work(engine)
    await work.task.schedule(1)
    await engine.start_workers(block=False)
    await until(lambda: work.began)
    seen: list[list[str]] = []

    def stop() -> None:
        asyncio.run(engine.stop_workers())
        seen.append(heard.names())

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    running: Any = engine._workers.pool
    await until(lambda: not running.state.is_working)
    assert seen == []
    work.may_end.set()
    await until(lambda: not thread.is_alive())
    assert seen[0][-1] == "worker_terminated"


async def test_a_cancelled_stop_still_stops_the_workers(engine: Engine, heard: Heard) -> None:
    work = Work(engine)
    await work.task.schedule(1)
    task = await start_in_background(engine)
    await until(lambda: work.began)
    stopping = asyncio.create_task(engine.stop_workers())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not task.done()
    work.may_end.set()
    await asyncio.wait_for(task, 5)
    assert work.cancelled == []
    assert heard.last("job_finished")["result"] == 1


async def test_cancelling_a_blocking_start_cancels_the_bodies_and_ends_cleanly(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    work = Work(engine)
    job = await work.task.schedule(1)
    task = await start_in_background(engine)
    await until(lambda: work.began)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.cancelled == [1]
    assert heard.names()[-4:] == ["job_started", "job_failed", "job_finished", "worker_terminated"]
    assert isinstance((await finish_of(heard, job))["err"], Interrupted)
    assert await reasons_of_death(broker) == {job.id: "interrupted"}


async def test_cancelling_a_start_repeatedly_changes_nothing(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def tidy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tidying.set()
            await asyncio.sleep(0.02)
            tidied.set()

    tidying, tidied = asyncio.Event(), asyncio.Event()
    await tidy.schedule()
    task = await start_in_background(engine)
    await until(lambda: heard.count("job_started"))
    task.cancel()
    await tidying.wait()
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tidied.is_set()
    assert heard.names()[-2:] == ["job_finished", "worker_terminated"]


async def test_leaving_the_engine_stops_its_workers(namespace: str, heard: Heard) -> None:
    async with Engine(FailingBroker(), namespace) as engine:
        await engine.start_workers(block=False)
    assert heard.names() == ["worker_started", "worker_terminated"]


async def test_workers_may_start_and_stop_in_different_tasks(engine: Engine, heard: Heard) -> None:
    await asyncio.create_task(engine.start_workers(block=False))
    await asyncio.create_task(engine.stop_workers())
    assert heard.names() == ["worker_started", "worker_terminated"]


# After the shutdown timeout.


async def test_an_interrupted_job_is_released_to_the_head_without_using_a_retry(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    work = Work(engine, max_retries=1)
    job = await work.task.schedule(1)
    await work.task.schedule(2)
    await engine.start_workers(1, block=False, shutdown_timeout=0.02)
    await until(lambda: work.began)
    await engine.stop_workers()
    assert work.cancelled == [1]
    finish = await finish_of(heard, job)
    assert isinstance(finish["err"], Interrupted)
    assert finish["job"].status is JobStatus.QUEUED
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_finished"]
    counts = await asking.counts(broker, "default")
    assert (counts.ready, counts.running, counts.waiting, counts.dead) == (2, 0, 0, 0)
    heard.clear()
    work.may_end.set()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert work.began == [1, 1, 2]
    again = next(kwargs["job"] for name, kwargs in heard if name == "job_started")
    assert again == job
    assert again.retries == 0


async def test_an_interrupted_job_without_retries_fails(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    work = Work(engine)
    job = await work.task.schedule(1)
    await engine.start_workers(1, block=False, shutdown_timeout=0.02)
    await until(lambda: work.began)
    await engine.stop_workers()
    finish = await finish_of(heard, job)
    assert isinstance(finish["err"], Interrupted)
    assert finish["job"].status is JobStatus.FAILED
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_failed", "job_finished"]
    assert await reasons_of_death(broker) == {job.id: "interrupted"}


async def test_interrupted_jobs_are_released_in_their_order(engine: Engine, heard: Heard) -> None:
    work = Work(engine, max_retries=1)
    for number in range(5):
        await work.task.schedule(number)
    await engine.start_workers(3, block=False, shutdown_timeout=0)
    await until(lambda: len(work.began) == 3)
    await engine.stop_workers()
    work.may_end.set()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert sorted(work.began[3:6]) == [0, 1, 2]
    assert work.began[6:] == [3, 4]


async def test_a_body_that_ends_within_the_shutdown_timeout_is_not_cancelled(
    engine: Engine, heard: Heard
) -> None:
    work = Work(engine)
    job = await work.task.schedule(1)
    await engine.start_workers(1, block=False, shutdown_timeout=30)
    await until(lambda: work.began)
    stopping = asyncio.create_task(engine.stop_workers())
    await asyncio.sleep(0.05)
    assert not stopping.done()
    work.may_end.set()
    await stopping
    assert (await finish_of(heard, job))["job"].status is JobStatus.SUCCEEDED


async def test_a_body_that_returns_when_it_is_interrupted_has_succeeded(engine: Engine, heard: Heard) -> None:
    @engine.task(max_retries=3)
    async def polite() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "saved"

    job = await polite.schedule()
    await engine.start_workers(1, block=False, shutdown_timeout=0)
    await until(lambda: heard.count("job_started"))
    await engine.stop_workers()
    finish = await finish_of(heard, job)
    assert (finish["err"], finish["result"], finish["job"].status) == (None, "saved", JobStatus.SUCCEEDED)


@pytest.mark.parametrize("max_retries", [0, 1])
async def test_a_body_that_ignores_its_cancellation_is_abandoned_and_logged(
    engine: Engine,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    max_retries: int,
) -> None:
    monkeypatch.setattr(draining, "INTERRUPT_GRACE", 0.03)
    release = asyncio.Event()
    ended = asyncio.Event()

    @engine.task(max_retries=max_retries)
    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        ended.set()

    job = await stubborn.schedule()
    await engine.start_workers(1, block=False, shutdown_timeout=0)
    await until(lambda: heard.count("job_started"))
    await asyncio.wait_for(engine.stop_workers(), 5)
    finish = await finish_of(heard, job)
    assert isinstance(finish["err"], Interrupted)
    assert finish["job"].status is JobStatus.NOT_SET
    [record] = [r for r in caplog.records if "left behind" in r.getMessage()]
    assert record.levelno == logging.ERROR
    assert "stubborn" in record.getMessage()
    assert job.id in record.getMessage()
    release.set()
    await ended.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    assert heard.names()[-2:] == ["job_finished", "worker_terminated"]
    assert heard.count("job_finished") == 1


async def test_workers_can_be_started_again_after_a_body_was_abandoned(
    engine: Engine, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "INTERRUPT_GRACE", 0.03)
    release = asyncio.Event()

    @engine.task
    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    @engine.task
    async def good() -> str:
        return "whole"

    await stubborn.schedule()
    await engine.start_workers(1, block=False, shutdown_timeout=0)
    await until(lambda: heard.count("job_started"))
    await engine.stop_workers()
    await engine.start_workers(1, block=False)
    assert (await finish_of(heard, await good.schedule()))["result"] == "whole"
    await engine.stop_workers()
    release.set()


async def test_leases_are_renewed_during_a_long_drain(namespace: str, heard: Heard) -> None:
    async with Engine(FailingBroker(lease=0.2), namespace) as engine:
        work = Work(engine)
        job = await work.task.schedule(1)
        await engine.start_workers(1, block=False)
        await until(lambda: work.began)
        stopping = asyncio.create_task(engine.stop_workers())
        await asyncio.sleep(0.5)
        assert not stopping.done()
        work.may_end.set()
        await stopping
    assert (await finish_of(heard, job))["job"].status is JobStatus.SUCCEEDED


async def test_a_job_still_in_its_receivers_at_the_shutdown_timeout_does_not_run(
    engine: Engine, heard: Heard
) -> None:
    work = Work(engine, max_retries=1)
    in_receiver, may_continue = asyncio.Event(), asyncio.Event()

    async def receiver(namespace: str, **kwargs: Any) -> None:
        in_receiver.set()
        await may_continue.wait()

    signals.job_started.connect(receiver, engine.namespace)
    job = await work.task.schedule(1)
    await engine.start_workers(1, block=False, shutdown_timeout=0)
    await in_receiver.wait()
    stopping = asyncio.create_task(engine.stop_workers())
    pool_of_engine: Any = engine._workers.pool
    await until(lambda: pool_of_engine.state.is_ending_now)
    may_continue.set()
    await stopping
    assert work.began == []
    finish = await finish_of(heard, job)
    assert isinstance(finish["err"], Interrupted)
    assert finish["job"].status is JobStatus.QUEUED


# Stopping when the queue is empty.


async def test_an_empty_queue_ends_the_workers_at_once(engine: Engine, heard: Heard) -> None:
    await asyncio.wait_for(engine.start_workers(stop_when_queue_empty=True), 5)
    assert heard.names() == ["worker_started", "worker_terminated"]


async def test_retries_are_awaited_before_the_queue_counts_as_empty(engine: Engine, heard: Heard) -> None:
    tries: list[int] = []

    @engine.task(max_retries=3, backoff=lambda attempt: 0.05)
    async def job() -> None:
        tries.append(len(tries))
        if len(tries) < 4:
            raise ValueError

    await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert tries == [0, 1, 2, 3]


async def test_jobs_for_later_do_not_keep_the_workers_running(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    work = Work(engine)
    work.may_end.set()
    await work.task.schedule(1)
    await work.task.schedule_at(datetime.now(UTC) + timedelta(hours=1), 2)
    await asyncio.wait_for(engine.start_workers(stop_when_queue_empty=True), 10)
    assert work.began == [1]
    assert (await asking.counts(broker, "default")).waiting == 1


async def test_jobs_scheduled_by_the_last_job_still_run(engine: Engine, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task
    async def chain(left: int) -> None:
        ran.append(left)
        if left:
            await chain.schedule(left - 1)

    await chain.schedule(30)
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == list(range(30, -1, -1))


async def test_jobs_scheduled_by_the_last_receiver_still_run(engine: Engine, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task
    async def job(number: int) -> None:
        ran.append(number)

    async def receiver(namespace: str, **kwargs: Any) -> None:
        if len(ran) < 5:
            await job.schedule(len(ran))

    signals.job_finished.connect(receiver, engine.namespace)
    await job.schedule(0)
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == [0, 1, 2, 3, 4]


async def test_the_jobs_of_all_queues_are_run_before_the_workers_end(engine: Engine, heard: Heard) -> None:
    ran: list[str] = []

    @engine.task(queue="b")
    async def last() -> None:
        ran.append("b")

    @engine.task(queue="a")
    async def first() -> None:
        ran.append("a")
        await last.schedule()

    await first.schedule()
    await engine.start_workers(2, ["a", "b"], stop_when_queue_empty=True)
    assert ran == ["a", "b"]


async def test_a_job_running_in_another_worker_keeps_the_workers_running(
    engine: Engine, broker: FailingBroker
) -> None:
    work = Work(engine)
    work.may_end.set()
    await work.task.schedule(1)
    [lease] = (await broker.exchange("default", [], 1)).leases
    task = await start_in_background(engine, stop_when_queue_empty=True)
    await until(lambda: broker.sleepers)
    await asyncio.sleep(0.05)
    assert not task.done()
    await broker.exchange("default", [Settlement(lease, Action.DONE)], 0)
    await asyncio.wait_for(task, 10)


# Refused arguments, and starts that fail.


@pytest.mark.parametrize("block", [True, False])
@pytest.mark.parametrize("method", ["open", "register"])
async def test_a_failed_start_raises_and_leaves_nothing_running(
    namespace: str, heard: Heard, block: bool, method: str
) -> None:
    broker = FailingBroker()
    engine = Engine(broker, namespace)

    @engine.task
    async def job() -> None:
        pass

    await job.schedule()
    broker.go_away(method)
    with pytest.raises(BrokerUnavailable, match=f"{method} is broken"):
        await engine.start_workers(block=block)
    await engine.stop_workers()
    assert heard.names() == ["job_scheduled"]
    broker.come_back()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.count("job_finished") == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"number": 0}, InvalidValue),
        ({"number": -1}, InvalidValue),
        ({"number": 2.0}, InvalidValue),
        ({"number": True}, InvalidValue),
        ({"number": 10_001}, InvalidValue),
        ({"queue": "nobody"}, UnknownQueue),
        ({"queue": ["default", "nobody"]}, UnknownQueue),
        ({"queue": "not a name"}, InvalidValue),
        ({"queue": []}, InvalidValue),
        ({"queue": ["default", "default"]}, InvalidValue),
        ({"shutdown_timeout": -1}, InvalidValue),
        ({"shutdown_timeout": "5"}, InvalidValue),
        ({"shutdown_timeout": float("nan")}, InvalidValue),
    ],
)
async def test_invalid_arguments_are_refused_before_the_workers_start(
    engine: Engine, heard: Heard, arguments: dict[str, Any], error: type[AiospinachError]
) -> None:
    Work(engine)
    with pytest.raises(error):
        await engine.start_workers(**arguments, block=False)
    assert heard == []
    await engine.start_workers(stop_when_queue_empty=True)
