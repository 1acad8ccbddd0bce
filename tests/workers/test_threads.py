"""Plain functions run in threads of the pool, and are always awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import anyio.to_thread
import pytest

from aiospinach import Engine, Interrupted, JobStatus, current_job, signals
from aiospinach.workers import draining

from ..asking import counts
from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker
from .job_results import finish_of

VALUE: ContextVar[str] = ContextVar("VALUE", default="unset")


class Blocked:
    """A sync task whose bodies block their threads until released."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.began: list[int] = []
        self.release = threading.Event()

        @engine.task(name="blocked", **options)
        def blocked(number: int) -> int:
            self.began.append(number)
            assert self.release.wait(30)
            return number

        self.task = blocked


async def test_a_plain_function_runs_in_another_thread(engine: Engine, heard: Heard) -> None:
    @engine.task
    def job(a: int, *, b: int) -> int:
        seen.append(threading.current_thread())
        return a + b

    seen: list[threading.Thread] = []
    await job.schedule(5, b=3)
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.last("job_finished")["result"] == 8
    assert seen[0] is not threading.current_thread()


async def test_all_slots_are_used_while_the_default_limiter_of_anyio_is_exhausted(
    engine: Engine, heard: Heard
) -> None:
    limiter = anyio.to_thread.current_default_thread_limiter()
    borrowers = [object() for _ in range(int(limiter.total_tokens))]
    for borrower in borrowers:
        limiter.acquire_on_behalf_of_nowait(borrower)
    try:
        blocked = Blocked(engine)
        for number in range(60):
            await blocked.task.schedule(number)
        await engine.start_workers(50, block=False)
        await until(lambda: len(blocked.began) == 50)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(blocked.began) == 50
        blocked.release.set()
        await until(lambda: heard.count("job_finished") == 60)
        await engine.stop_workers()
    finally:
        for borrower in borrowers:
            limiter.release_on_behalf_of(borrower)


async def test_the_loop_keeps_running_while_threads_are_blocked(engine: Engine, heard: Heard) -> None:
    blocked = Blocked(engine)

    @engine.task
    async def free() -> str:
        return "free"

    await blocked.task.schedule(1)
    await engine.start_workers(2, block=False)
    await until(lambda: blocked.began)
    assert (await finish_of(heard, await free.schedule()))["result"] == "free"
    blocked.release.set()
    await engine.stop_workers()


async def test_a_thread_runs_in_a_copy_of_the_context_of_its_job(engine: Engine, heard: Heard) -> None:
    seen: list[object] = []

    @engine.task
    def job() -> None:
        seen.extend([current_job(), VALUE.get()])
        VALUE.set("by the body")

    def started(namespace: str, **kwargs: Any) -> None:
        VALUE.set("by the receiver")

    def finished(namespace: str, **kwargs: Any) -> None:
        seen.append(VALUE.get())

    signals.job_started.connect(started, engine.namespace)
    signals.job_finished.connect(finished, engine.namespace)
    scheduled = await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert seen == [scheduled, "by the receiver", "by the receiver"]


async def test_a_thread_can_schedule_in_the_loop_of_the_workers(engine: Engine, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task
    async def other(number: int) -> None:
        ran.append(number)

    loop = asyncio.get_running_loop()

    @engine.task
    def job() -> None:
        scheduled = asyncio.run_coroutine_threadsafe(engine.schedule(other, 1), loop).result()
        assert scheduled.status is JobStatus.QUEUED
        asyncio.run_coroutine_threadsafe(other.schedule(2), loop).result()

    await job.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert ran == [1, 2]


async def test_a_thread_can_schedule_in_its_own_loop(engine: Engine, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task
    async def other(number: int) -> None:
        ran.append(number)

    @engine.task
    def job() -> None:
        asyncio.run(engine.schedule(other, 1))
        asyncio.run(other.schedule(2))

    await job.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert ran == [1, 2]


async def test_scheduling_in_another_thread_wakes_idle_workers(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    @engine.task
    async def job() -> None:
        pass

    await engine.start_workers(block=False)
    await until(lambda: broker.sleepers)
    thread = threading.Thread(target=lambda: asyncio.run(job.schedule()), daemon=True)
    thread.start()
    await until(lambda: heard.count("job_finished"), timeout=2)
    await until(lambda: not thread.is_alive())
    await engine.stop_workers()


@pytest.mark.parametrize("max_retries", [0, 1])
async def test_a_stop_waits_for_threads_beyond_its_timeout(
    engine: Engine, heard: Heard, monkeypatch: pytest.MonkeyPatch, max_retries: int
) -> None:
    monkeypatch.setattr(draining, "INTERRUPT_GRACE", 0.01)
    blocked = Blocked(engine, max_retries=max_retries)
    job = await blocked.task.schedule(7)
    await engine.start_workers(1, block=False, shutdown_timeout=0)
    await until(lambda: blocked.began)
    stopping = asyncio.create_task(engine.stop_workers())
    await asyncio.sleep(0.1)
    assert not stopping.done()
    assert heard.count("job_finished") == 0
    blocked.release.set()
    await stopping
    finish = await finish_of(heard, job)
    assert (finish["job"].status, finish["result"], finish["err"]) == (JobStatus.SUCCEEDED, 7, None)
    assert heard.names()[-1] == "worker_terminated"


async def test_a_cancelled_start_waits_for_threads(engine: Engine, heard: Heard) -> None:
    blocked = Blocked(engine)
    job = await blocked.task.schedule(7)
    task = asyncio.create_task(engine.start_workers(1))
    await until(lambda: blocked.began)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
    assert not task.done()
    blocked.release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await finish_of(heard, job))["job"].status is JobStatus.SUCCEEDED


async def test_jobs_still_waiting_for_a_thread_at_the_stop_are_not_run(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    blocked = Blocked(engine, max_retries=1)
    for number in range(3):
        await blocked.task.schedule(number)
    await engine.start_workers(1, block=False, shutdown_timeout=0)
    await until(lambda: blocked.began)
    stopping = asyncio.create_task(engine.stop_workers())
    await asyncio.sleep(0)
    blocked.release.set()
    await stopping
    assert blocked.began == [0]
    assert (await counts(broker, "default")).ready == 2


async def test_a_hundred_sync_jobs_leave_no_thread(engine: Engine, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task
    def job(number: int) -> None:
        ran.append(number)

    for number in range(100):
        await job.schedule(number)
    await engine.start_workers(7, stop_when_queue_empty=True)
    assert sorted(ran) == list(range(100))


class Callable_:
    """An object that is called, in a thread or not."""

    def __call__(self) -> str:
        return threading.current_thread().name


class AsyncCallable:
    async def __call__(self) -> str:
        return threading.current_thread().name


@pytest.mark.parametrize(
    ("function", "in_thread"),
    [(Callable_(), True), (AsyncCallable(), False)],
)
async def test_the_callable_decides_where_it_runs(
    engine: Engine, heard: Heard, function: Callable[..., Any], in_thread: bool
) -> None:
    engine.task(name="job")(function)
    await engine.schedule("job")
    await engine.start_workers(stop_when_queue_empty=True)
    name = heard.last("job_finished")["result"]
    assert (name != threading.current_thread().name) is in_thread


async def test_a_sync_job_interrupted_before_its_thread_started_is_released(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    ran: list[int] = []

    @engine.task(max_retries=1)
    def job() -> None:
        ran.append(1)

    in_receiver, may_continue = asyncio.Event(), asyncio.Event()

    async def receiver(namespace: str, **kwargs: Any) -> None:
        in_receiver.set()
        await may_continue.wait()

    signals.job_started.connect(receiver, engine.namespace)
    scheduled = await job.schedule()
    await engine.start_workers(1, block=False, shutdown_timeout=0)
    await in_receiver.wait()
    stopping = asyncio.create_task(engine.stop_workers())
    await asyncio.sleep(0.03)
    may_continue.set()
    await stopping
    assert ran == []
    finish = await finish_of(heard, scheduled)
    assert isinstance(finish["err"], Interrupted)
    assert (await counts(broker, "default")).ready == 1
