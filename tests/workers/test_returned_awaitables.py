"""An awaitable that the function of a task returns is awaited."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from aiospinach import Engine, InvalidValue, JobCancelled, JobStatus, JobTimeout, Tasks, current_job
from aiospinach.workers.body import Body

from ..conftest import Heard
from ..waiting import until


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The most common decorator: its wrapper is a plain function, also around an async one."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def run_in_own_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turns an async function into a plain one, as for command lines and other job libraries."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return wrapper


async def forgets_to_await(number: int) -> Any:
    return double(number)


async def leaves_a_task(number: int) -> Any:
    return asyncio.create_task(double(number))


class Doubler:
    def __call__(self, number: int) -> Any:
        return double(number)


KINDS: list[tuple[str, Callable[..., Any]]] = [
    ("decorated", timed(double)),
    ("decorated twice", timed(timed(double))),
    ("a lambda", lambda number: double(number)),
    ("partial", functools.partial(timed(double), 21)),
    ("a callable object", Doubler()),
    ("async without await", forgets_to_await),
    ("a task", leaves_a_task),
    ("a loop of its own", run_in_own_loop(double)),
]


@pytest.mark.parametrize("function", [kind[1] for kind in KINDS], ids=[kind[0] for kind in KINDS])
async def test_a_job_ends_with_the_awaitable_that_its_function_returned(
    engine: Engine, heard: Heard, function: Callable[..., Any]
) -> None:
    task = engine.task(name="task")(function)
    args = () if isinstance(function, functools.partial) else (21,)
    await task.schedule(*args)
    await engine.start_workers(stop_when_queue_empty=True)
    finished = heard.last("job_finished")
    assert (finished["err"], finished["result"]) == (None, 42)
    assert await engine.execute("task", *args) == 42


async def test_the_awaitable_runs_in_the_event_loop_with_its_current_job(engine: Engine) -> None:
    ran: list[Any] = []

    @engine.task
    @timed
    async def job() -> None:
        ran.append((asyncio.get_running_loop(), current_job()))

    scheduled = await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == [(asyncio.get_running_loop(), scheduled)]


async def test_the_awaitable_can_be_cancelled(engine: Engine, heard: Heard) -> None:
    began = asyncio.Event()

    @engine.task
    @timed
    async def hangs() -> None:
        began.set()
        await asyncio.Event().wait()

    job = await hangs.schedule()
    await engine.start_workers(block=False)
    await began.wait()
    assert await engine.cancel(job) is JobStatus.RUNNING
    await until(lambda: heard.count("job_finished"))
    assert isinstance(heard.last("job_finished")["err"], JobCancelled)


async def test_the_awaitable_does_not_begin_if_the_job_was_cancelled_before(
    engine: Engine, heard: Heard
) -> None:
    calls, may_return, ran = threading.Event(), threading.Event(), []

    async def body() -> None:
        ran.append(1)

    @engine.task
    def job() -> Any:
        calls.set()
        may_return.wait(10)
        return body()

    scheduled = await job.schedule()
    await engine.start_workers(block=False)
    await until(calls.is_set)
    await engine.cancel(scheduled)
    may_return.set()
    await until(lambda: heard.count("job_finished"))
    assert isinstance(heard.last("job_finished")["err"], JobCancelled)
    assert not ran


async def test_the_awaitable_does_not_begin_on_a_lease_that_has_ended(
    engine: Engine, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    may_begin = Body._may_begin

    def begin_and_lose_trust(self: Body) -> bool:
        begins = may_begin(self)
        self.trusted_until = 0.0
        return begins

    monkeypatch.setattr(Body, "_may_begin", begin_and_lose_trust)

    async def body() -> None:
        ran.append(1)

    @engine.task
    def job() -> Any:
        return body()

    await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert "lease had ended" in str(heard.last("job_finished")["err"])
    assert not ran


async def test_the_timeout_applies_to_the_awaitable_of_an_execution(engine: Engine) -> None:
    @engine.task(timeout=0.01)
    async def forgets() -> Any:
        return asyncio.Event().wait()

    with pytest.raises(JobTimeout):
        await engine.execute(forgets)


async def test_a_cancelled_execution_does_not_begin_the_awaitable(engine: Engine) -> None:
    calls, may_return, ran = threading.Event(), threading.Event(), []

    async def body() -> None:
        ran.append(1)

    @engine.task
    def job() -> Any:
        calls.set()
        may_return.wait(10)
        return body()

    execution = asyncio.create_task(engine.execute(job))
    await until(calls.is_set)
    execution.cancel()
    may_return.set()
    with pytest.raises(asyncio.CancelledError):
        await execution
    assert not ran


def test_the_error_for_a_timeout_mentions_the_decorator() -> None:
    with pytest.raises(InvalidValue, match="thread cannot be stopped; make the wrapper of its decorator"):
        Tasks().task(timeout=1)(timed(double))
    with pytest.raises(InvalidValue, match=r"thread cannot be stopped$"):
        Tasks().task(timeout=1)(timed(len))
