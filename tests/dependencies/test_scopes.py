"""What a job opens is closed once, in reverse order, with the error of the job, whatever ends the job."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiospinach import (
    AbortException,
    Depends,
    Engine,
    Interrupted,
    JobCancelled,
    JobStatus,
    JobTimeout,
    LeaseLost,
    Task,
    current_job,
)
from aiospinach.workers import draining
from aiospinach.workers.body import Body
from aiospinach.workers.state import Phase

from ..conftest import Heard
from ..waiting import until
from .conftest import Diary

both_bodies = pytest.mark.parametrize("is_async", [True, False], ids=["async_body", "plain_body"])


def task_of(engine: Engine, diary: Diary, body: Callable[[], Any], **options: Any) -> Task[..., Any]:
    """A task with an outer and an inner dependency, whose body is async if ``body`` is."""
    outer, inner = diary.scope("outer"), diary.scope("inner")
    if asyncio.iscoroutinefunction(body):

        async def run(a: str = Depends(outer), b: str = Depends(inner)) -> Any:
            return await body()

        return engine.task(run, name="run", **options)  # type: ignore[call-overload, no-any-return]

    def run_in_thread(a: str = Depends(outer), b: str = Depends(inner)) -> Any:
        return body()

    return engine.task(run_in_thread, name="run", **options)  # type: ignore[call-overload, no-any-return]


def opened_and_closed(with_error: str = "") -> list[str]:
    ending = f" with {with_error}" if with_error else ""
    return ["open outer", "open inner", f"close inner{ending}", f"close outer{ending}"]


@both_bodies
async def test_success_closes_in_reverse_order_before_the_job_is_settled(
    engine: Engine, diary: Diary, heard: Heard, is_async: bool
) -> None:
    def body() -> int:
        return 3

    async def async_body() -> int:
        return 3

    await task_of(engine, diary, async_body if is_async else body).schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert diary == opened_and_closed()
    assert heard.last("job_finished")["result"] == 3
    assert heard.last("job_finished")["err"] is None


@both_bodies
async def test_an_error_of_the_body_is_seen_by_each_scope(
    engine: Engine, diary: Diary, heard: Heard, is_async: bool
) -> None:
    def body() -> None:
        raise ValueError("no")

    async def async_body() -> None:
        raise ValueError("no")

    await task_of(engine, diary, async_body if is_async else body).schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert diary == opened_and_closed("ValueError")
    assert type(heard.last("job_failed")["err"]) is ValueError


async def test_a_timeout_closes_with_the_cancellation(engine: Engine, diary: Diary, heard: Heard) -> None:
    async def body() -> None:
        await asyncio.Event().wait()

    await task_of(engine, diary, body, timeout=0.05).schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert diary == opened_and_closed("CancelledError")
    assert type(heard.last("job_failed")["err"]) is JobTimeout


async def test_a_cancelled_job_closes_with_the_cancellation(
    engine: Engine, diary: Diary, heard: Heard
) -> None:
    async def body() -> None:
        diary.append("body")
        await asyncio.Event().wait()

    job = await task_of(engine, diary, body, max_retries=3).schedule()
    await engine.start_workers(block=False)
    await until(lambda: "body" in diary, "the body runs")
    await engine.cancel(job)
    await until(lambda: heard.count("job_cancelled"), "the job is cancelled")
    diary.remove("body")
    assert diary == opened_and_closed("CancelledError")


async def test_a_cancelled_job_in_a_thread_closes_when_the_thread_has_ended(
    engine: Engine, diary: Diary, heard: Heard
) -> None:
    may_end = threading.Event()

    def body() -> None:
        diary.append("body")
        may_end.wait(20)
        diary.append("body ends")

    job = await task_of(engine, diary, body, max_retries=3).schedule()
    await engine.start_workers(block=False)
    await until(lambda: "body" in diary, "the body runs")
    await engine.cancel(job)
    may_end.set()
    await until(lambda: heard.count("job_finished"), "the job has ended")
    assert diary == ["open outer", "open inner", "body", "body ends", "close inner", "close outer"]


@pytest.mark.parametrize("max_retries", [0, 3])
async def test_a_stop_closes_with_the_cancellation(
    engine: Engine, diary: Diary, heard: Heard, max_retries: int
) -> None:
    async def body() -> None:
        diary.append("body")
        await asyncio.Event().wait()

    await task_of(engine, diary, body, max_retries=max_retries).schedule()
    await engine.start_workers(block=False, shutdown_timeout=0)
    await until(lambda: "body" in diary, "the body runs")
    await engine.stop_workers()
    diary.remove("body")
    assert diary == opened_and_closed("CancelledError")
    assert type(heard.last("job_finished")["err"]) is Interrupted


async def test_a_stop_leaves_no_scope_behind_that_a_thread_has_held_up(
    engine: Engine, diary: Diary, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its closing was not cancelled while the thread ran, and has time to end when it is."""
    monkeypatch.setattr(draining, "INTERRUPT_GRACE", 0.5)
    may_end = threading.Event()

    async def hangs() -> AsyncIterator[None]:
        yield
        diary.append("closing")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            diary.append("closed")

    @engine.task
    def body(a: None = Depends(hangs)) -> None:
        diary.append("body")
        may_end.wait(10)

    await body.schedule()
    await engine.start_workers(block=False, shutdown_timeout=0)
    await until(lambda: "body" in diary, "the body runs")
    pool = engine._workers.pool
    assert pool is not None
    stop = asyncio.create_task(engine.stop_workers())
    await until(lambda: pool.state.phase is Phase.INTERRUPTED, "the pool is interrupted")
    may_end.set()
    await stop
    assert diary == ["body", "closing", "closed"]
    finished = heard.last("job_finished")
    assert type(finished["err"]) is Interrupted
    assert finished["job"].status is JobStatus.FAILED
    assert [dead.reason async for dead in engine.dead_jobs()] == ["interrupted"]


@both_bodies
@pytest.mark.parametrize("ending", ["cancel", "stop", "timeout"])
async def test_an_end_while_a_factory_opens_closes_what_is_open(
    engine: Engine, diary: Diary, heard: Heard, ending: str, is_async: bool
) -> None:
    async def slow() -> None:
        diary.append("slow")
        await asyncio.Event().wait()

    async def async_body(a: str = Depends(diary.scope("a")), b: None = Depends(slow)) -> None:
        diary.append("body")

    def body(a: str = Depends(diary.scope("a")), b: None = Depends(slow)) -> None:
        diary.append("body")

    if ending == "timeout" and not is_async:
        pytest.skip("a plain body has no time limit")
    options: dict[str, Any] = {"timeout": 0.05} if ending == "timeout" else {}
    task: Task[..., Any] = engine.task(**options)(async_body if is_async else body)
    job = await task.schedule()
    await engine.start_workers(block=False, shutdown_timeout=0)
    await until(lambda: "slow" in diary, "the factory runs")
    if ending == "cancel":
        await engine.cancel(job)
    elif ending == "stop":
        await engine.stop_workers()
    await until(lambda: heard.count("job_finished"), "the job has ended")
    assert diary == ["open a", "slow", "close a with CancelledError"]
    kind = {"cancel": JobCancelled, "stop": Interrupted, "timeout": JobTimeout}[ending]
    assert type(heard.last("job_finished")["err"]) is kind
    if ending == "stop":  # its first factory was called, and a job without retries starts once at most
        assert heard.last("job_finished")["job"].status.name == "FAILED"


@both_bodies
async def test_a_job_that_ends_in_the_last_step_of_opening_runs_no_body(
    engine: Engine, diary: Diary, heard: Heard, is_async: bool
) -> None:
    async def cancels() -> AsyncIterator[None]:
        diary.append("open")
        job = current_job()
        assert job is not None
        assert engine._workers.pool is not None
        engine._workers.pool.cancel(job.queue, job.id)
        try:
            yield
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # no second cancellation arrives while it is closed
            diary.append("close")
            raise

    async def async_body(a: None = Depends(cancels)) -> None:
        diary.append("body")

    def body(a: None = Depends(cancels)) -> None:
        diary.append("body")

    await engine.schedule(engine.task(async_body if is_async else body))
    await engine.start_workers(stop_when_queue_empty=True)
    assert diary == ["open", "close"]
    assert type(heard.last("job_finished")["err"]) is JobCancelled


async def test_a_cancellation_while_a_scope_closes_leaves_no_scope_open(
    engine: Engine, diary: Diary, heard: Heard
) -> None:
    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        yield
        diary.append("closing")
        try:
            await asyncio.Event().wait()
        finally:
            diary.append("closed")

    @engine.task
    async def run(a: str = Depends(diary.scope("a")), b: None = Depends(slow)) -> None: ...

    job = await run.schedule()
    await engine.start_workers(block=False)
    await until(lambda: "closing" in diary, "the scope closes")
    await engine.cancel(job)
    await until(lambda: heard.count("job_cancelled"), "the job is cancelled")
    assert diary == ["open a", "closing", "closed", "close a with CancelledError"]


@both_bodies
async def test_an_error_of_closing_is_the_error_of_the_job(
    engine: Engine, diary: Diary, heard: Heard, is_async: bool
) -> None:
    def commits() -> Iterator[None]:
        yield
        raise ConnectionError("not committed")

    async def async_body(a: str = Depends(diary.scope("a")), b: None = Depends(commits)) -> None: ...

    def body(a: str = Depends(diary.scope("a")), b: None = Depends(commits)) -> None: ...

    await engine.schedule(engine.task(async_body if is_async else body))
    await engine.start_workers(stop_when_queue_empty=True)
    assert diary == ["open a", "close a with ConnectionError"]
    assert type(heard.last("job_failed")["err"]) is ConnectionError


async def test_a_scope_may_replace_the_error_and_cannot_hide_it(
    engine: Engine, diary: Diary, heard: Heard
) -> None:
    def replaces() -> Iterator[None]:
        try:
            yield
        except ValueError:
            raise KeyError("other") from None

    def hides() -> Iterator[None]:
        try:
            yield
        except Exception:
            diary.append("hidden")

    @engine.task
    async def hidden(a: None = Depends(hides)) -> None:
        raise ValueError("no")

    @engine.task
    async def replaced(a: None = Depends(replaces)) -> None:
        raise ValueError("no")

    await hidden.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert diary == ["hidden"]
    assert type(heard.last("job_failed")["err"]) is ValueError
    await replaced.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert type(heard.last("job_failed")["err"]) is KeyError


@both_bodies
async def test_a_scope_cannot_hide_the_error_of_a_later_factory(
    engine: Engine, diary: Diary, heard: Heard, is_async: bool
) -> None:
    def hides() -> Iterator[None]:
        try:
            yield
        except Exception as error:
            diary.append(f"hidden {type(error).__name__}")

    def fails() -> None:
        raise AbortException("no such tenant")

    async def async_body(a: None = Depends(hides), b: None = Depends(fails)) -> None:
        diary.append("body")

    def body(a: None = Depends(hides), b: None = Depends(fails)) -> None:
        diary.append("body")

    task: Task[..., Any] = engine.task(max_retries=3)(async_body if is_async else body)
    await engine.schedule(task)
    await engine.start_workers(stop_when_queue_empty=True)
    assert diary == ["hidden AbortException"]
    assert type(heard.last("job_failed")["err"]) is AbortException
    with pytest.raises(AbortException):
        await engine.execute(task)


async def test_a_lost_lease_closes_with_the_cancellation(engine: Engine, diary: Diary, heard: Heard) -> None:
    async def body() -> None:
        assert engine._workers.pool is not None
        [run] = list(engine._workers.pool.runs)
        run.cancel(LeaseLost("another worker has it"))
        await asyncio.Event().wait()

    await task_of(engine, diary, body).schedule()
    await engine.start_workers(block=False)
    await until(lambda: heard.count("job_finished"), "the run has ended")
    assert diary == opened_and_closed("CancelledError")
    assert type(heard.last("job_finished")["err"]) is LeaseLost


async def test_the_awaitable_of_a_plain_wrapper_is_awaited_within_the_scopes(
    engine: Engine, diary: Diary, heard: Heard
) -> None:
    async def late() -> int:
        await asyncio.sleep(0)
        diary.append("awaited")
        return 3

    await task_of(engine, diary, lambda: late()).schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert diary == ["open outer", "open inner", "awaited", "close inner", "close outer"]
    assert heard.last("job_finished")["result"] == 3


async def test_a_body_that_cannot_begin_opens_nothing(
    engine: Engine, diary: Diary, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        diary.append("body")

    job = await task_of(engine, diary, body).schedule()
    may_begin = Body._may_begin
    calls: list[bool] = []

    def too_late_once(body: Body) -> bool:
        if not calls:
            body.trusted_until = 0.0
        calls.append(may_begin(body))
        return calls[-1]

    monkeypatch.setattr(Body, "_may_begin", too_late_once)
    await engine.start_workers(stop_when_queue_empty=True)
    assert calls == [False, True, True], "it was released, and began and was called at the second lease"
    assert diary == ["open outer", "open inner", "body", "close inner", "close outer"]
    assert heard.names(job.id).count("job_finished") == 2


async def test_a_lease_that_ends_before_a_thread_is_free_closes_what_is_open(
    engine: Engine, diary: Diary, heard: Heard
) -> None:
    async def outlasts_the_lease() -> None:
        assert engine._workers.pool is not None
        [run] = list(engine._workers.pool.runs)
        run.body.trusted_until = 0.0

    @engine.task
    def body(a: str = Depends(diary.scope("a")), b: None = Depends(outlasts_the_lease)) -> None:
        diary.append("body")

    await body.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert diary == ["open a", "close a with CancelledError"]
    assert type(heard.last("job_finished")["err"]) is Interrupted
