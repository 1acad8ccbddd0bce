"""Bodies that raise, hang, block or cancel: the pool keeps working, and the next job runs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

import anyio.to_thread
import pytest

from aiospinach import (
    AbortException,
    Engine,
    InvalidArguments,
    JobCancelled,
    JobStatus,
    JobTimeout,
    RetryException,
    current_job,
    signals,
)
from aiospinach.brokers.records import Envelope

from ..asking import counts
from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker
from .job_results import finish_of, reasons_of_death

Async = Callable[[], Awaitable[Any]]
Sync = Callable[[], Any]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words for it")

    __repr__ = __str__


class Foreign(BaseException):
    pass


class Case(NamedTuple):
    """A body, and the status and error of its job."""

    make: Callable[[Engine], Callable[[], Any]]
    status: JobStatus
    error: type[BaseException] | None
    options: dict[str, Any] = {}


def recurse() -> None:
    recurse()


ERRORS: dict[str, tuple[Callable[[], BaseException], type[BaseException]]] = {
    "an_error": (lambda: ValueError("no"), ValueError),
    "a_group": (lambda: ExceptionGroup("two", [ValueError(), TypeError()]), ExceptionGroup),
    "a_base_group": (lambda: BaseExceptionGroup("one", [SystemExit()]), BaseExceptionGroup),
    "cancelled_error": (asyncio.CancelledError, asyncio.CancelledError),
    "system_exit": (lambda: SystemExit(1), SystemExit),
    "keyboard_interrupt": (KeyboardInterrupt, KeyboardInterrupt),
    "generator_exit": (GeneratorExit, GeneratorExit),
    "stop_iteration": (lambda: StopIteration(1), RuntimeError),  # by PEP 479
    "stop_async_iteration": (StopAsyncIteration, StopAsyncIteration),
    "a_base_exception": (Foreign, Foreign),
    "an_unprintable_one": (Unprintable, Unprintable),
    "a_lone_surrogate": (lambda: ValueError("\ud800"), ValueError),
    "a_huge_message": (lambda: ValueError("x" * 1_000_000), ValueError),
    "its_own_timeout": (TimeoutError, TimeoutError),
    "an_abort": (AbortException, AbortException),
    "a_retry_without_retries": (RetryException, RetryException),
}


def raises(make: Callable[[], BaseException]) -> Callable[[Engine], Async]:
    async def body() -> None:
        raise make()

    return lambda engine: body


def raises_in_thread(make: Callable[[], BaseException]) -> Callable[[Engine], Sync]:
    def body() -> None:
        raise make()

    return lambda engine: body


def just(body: Callable[[], Any]) -> Callable[[Engine], Callable[[], Any]]:
    return lambda engine: body


async def returns() -> str:
    return "done"


async def returns_an_unserializable_object() -> object:
    return object()


async def never_ends() -> None:
    await asyncio.Event().wait()


async def hides_its_timeout() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return


async def fails_when_it_times_out() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("in the finally")


async def awaits_a_cancelled_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def awaits_a_cancelled_task() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    await task


def cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def cancels_its_task_and_returns() -> str:
    cancel_this_task()
    return "done"


async def cancels_its_task_five_times_and_returns() -> None:
    for _ in range(5):
        cancel_this_task()


async def cancels_its_task_and_awaits() -> None:
    cancel_this_task()
    await asyncio.Event().wait()


async def swallows_its_own_cancellation() -> str:
    cancel_this_task()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "done"
    return "not cancelled"


async def is_cancelled_by_its_child() -> None:
    task = asyncio.current_task()
    assert task is not None
    child = asyncio.create_task(asyncio.sleep(0.01))
    child.add_done_callback(lambda _: task.cancel())
    await asyncio.Event().wait()


async def is_cancelled_by_its_child_after_its_end() -> str:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()

    def cancel_repeatedly(times: int) -> None:
        task.cancel()
        if times:
            loop.call_soon(cancel_repeatedly, times - 1)

    loop.call_soon(cancel_repeatedly, 20)
    return "done"


async def recurses() -> None:
    recurse()


async def blocks_the_loop() -> None:
    time.sleep(1)


async def leaves_a_failing_task_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(awaits_a_cancelled_future())
        group.create_task(raise_value_error())


async def raise_value_error() -> None:
    raise ValueError("in a child")


def cancels_itself(engine: Engine) -> Async:
    async def body() -> None:
        job = current_job()
        assert job is not None
        assert await engine.cancel(job) is JobStatus.RUNNING
        await asyncio.Event().wait()

    return body


def cancels_itself_and_returns(engine: Engine) -> Async:
    async def body() -> None:
        job = current_job()
        assert job is not None
        await engine.cancel(job)

    return body


def cancels_itself_in_a_thread_and_raises(engine: Engine) -> Sync:
    loop = asyncio.get_running_loop()

    def body() -> None:
        job = current_job()
        assert job is not None
        cancelling = asyncio.run_coroutine_threadsafe(engine.cancel(job), loop)
        assert cancelling.result() is JobStatus.RUNNING
        raise ValueError("after its cancellation")

    return body


def cancels_itself_in_a_thread_and_returns(engine: Engine) -> Sync:
    loop = asyncio.get_running_loop()

    def body() -> None:
        job = current_job()
        assert job is not None
        cancelling = asyncio.run_coroutine_threadsafe(engine.cancel(job), loop)
        assert cancelling.result() is JobStatus.RUNNING

    return body


def returns_in_thread() -> str:
    return "done"


SUCCEEDED, FAILED, CANCELLED = JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED
SHORT = {"timeout": 0.02}

CASES: dict[str, Case] = {
    **{f"raises_{name}": Case(raises(make), FAILED, error) for name, (make, error) in ERRORS.items()},
    **{
        f"raises_{name}_in_a_thread": Case(raises_in_thread(make), FAILED, error)
        for name, (make, error) in ERRORS.items()
    },
    "returns": Case(just(returns), SUCCEEDED, None),
    "returns_an_object": Case(just(returns_an_unserializable_object), SUCCEEDED, None),
    "returns_in_a_thread": Case(just(returns_in_thread), SUCCEEDED, None),
    "times_out": Case(just(never_ends), FAILED, JobTimeout, SHORT),
    "hides_its_timeout": Case(just(hides_its_timeout), SUCCEEDED, None, SHORT),
    "fails_when_it_times_out": Case(just(fails_when_it_times_out), FAILED, JobTimeout, SHORT),
    "is_cancelled": Case(cancels_itself, CANCELLED, JobCancelled),
    "is_cancelled_and_returns": Case(cancels_itself_and_returns, SUCCEEDED, None),
    "is_cancelled_in_a_thread_and_raises": Case(
        cancels_itself_in_a_thread_and_raises, CANCELLED, JobCancelled
    ),
    "is_cancelled_in_a_thread_and_returns": Case(cancels_itself_in_a_thread_and_returns, SUCCEEDED, None),
    "awaits_a_cancelled_future": Case(just(awaits_a_cancelled_future), FAILED, asyncio.CancelledError),
    "awaits_a_cancelled_task": Case(just(awaits_a_cancelled_task), FAILED, asyncio.CancelledError),
    "cancels_its_task_and_returns": Case(just(cancels_its_task_and_returns), SUCCEEDED, None),
    "cancels_its_task_often": Case(just(cancels_its_task_five_times_and_returns), SUCCEEDED, None),
    "cancels_its_task_and_awaits": Case(just(cancels_its_task_and_awaits), FAILED, asyncio.CancelledError),
    "swallows_its_own_cancellation": Case(just(swallows_its_own_cancellation), SUCCEEDED, None),
    "is_cancelled_by_its_child": Case(just(is_cancelled_by_its_child), FAILED, asyncio.CancelledError),
    "is_cancelled_after_its_end": Case(just(is_cancelled_by_its_child_after_its_end), SUCCEEDED, None),
    "recurses": Case(just(recurses), FAILED, RecursionError),
    "recurses_in_a_thread": Case(just(recurse), FAILED, RecursionError),
    "blocks_the_loop": Case(just(blocks_the_loop), SUCCEEDED, None),
    "fails_in_a_task_group": Case(just(leaves_a_failing_task_in_a_group), FAILED, ExceptionGroup),
}

NAMES = {
    SUCCEEDED: ["job_scheduled", "job_started", "job_finished"],
    FAILED: ["job_scheduled", "job_started", "job_failed", "job_finished"],
    CANCELLED: ["job_scheduled", "job_started", "job_cancelled", "job_finished"],
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_the_next_job_runs_after_any_body(
    engine: Engine, broker: FailingBroker, heard: Heard, case: Case
) -> None:
    engine.task(name="hostile", **case.options)(case.make(engine))

    @engine.task
    async def good() -> str:
        return "whole"

    await engine.start_workers(1, block=False)
    hostile = await engine.schedule("hostile")
    finish = await finish_of(heard, hostile)
    assert finish["job"].status is case.status
    assert type(finish["err"]) is (type(None) if case.error is None else case.error)
    assert heard.names(hostile.id) == NAMES[case.status]
    assert list(await reasons_of_death(broker)) == ([hostile.id] if case.status is FAILED else [])
    assert (await finish_of(heard, await good.schedule()))["result"] == "whole"
    assert (await counts(broker, "default")).running == 0
    await engine.stop_workers()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_no_body_disturbs_concurrent_jobs(engine: Engine, heard: Heard, case: Case) -> None:
    engine.task(name="hostile", **case.options)(case.make(engine))
    end = asyncio.Event()

    @engine.task
    async def neighbour() -> str:
        await end.wait()
        return "whole"

    await engine.start_workers(3, block=False)
    neighbours = [await neighbour.schedule() for _ in range(2)]
    hostile = await engine.schedule("hostile")
    finish = await finish_of(heard, hostile)
    assert finish["job"].status is case.status
    end.set()
    for job in neighbours:
        assert (await finish_of(heard, job))["result"] == "whole"


async def test_an_error_replaced_by_a_timeout_is_its_cause(engine: Engine, heard: Heard) -> None:
    job = await engine.task(timeout=0.01)(fails_when_it_times_out).schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    err = (await finish_of(heard, job))["err"]
    assert isinstance(err, JobTimeout)
    assert isinstance(err.__cause__, ValueError)
    assert "0.01 s" in str(err)


async def test_a_body_that_ended_in_time_is_not_cancelled_later(engine: Engine, heard: Heard) -> None:
    late = asyncio.Event()

    @engine.task(timeout=0.03)
    async def quick() -> None:
        pass

    async def slow_receiver(namespace: str, **kwargs: Any) -> None:
        await asyncio.sleep(0.1)
        late.set()

    signals.job_finished.connect(slow_receiver)
    job = await quick.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert late.is_set()
    assert (await finish_of(heard, job))["job"].status is SUCCEEDED


@pytest.mark.large
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_job_may_schedule_a_thousand_others(engine: Engine, heard: Heard, kind: str) -> None:
    ran: list[int] = []

    @engine.task
    async def small(number: int) -> None:
        ran.append(number)

    if kind == "async":

        @engine.task(name="many")
        async def many() -> None:
            for number in range(1000):
                await small.schedule(number)

    else:
        loop = asyncio.get_running_loop()

        @engine.task(name="many")
        def many_in_thread() -> None:
            for number in range(1000):
                asyncio.run_coroutine_threadsafe(small.schedule(number), loop).result()

    await engine.schedule("many")
    await engine.start_workers(2, stop_when_queue_empty=True)
    assert sorted(ran) == list(range(1000))
    assert heard.count("job_finished") == 1001


async def test_a_job_may_wait_for_another_that_it_scheduled(engine: Engine, heard: Heard) -> None:
    done = asyncio.Event()

    @engine.task
    async def inner() -> None:
        done.set()

    @engine.task
    async def outer() -> str:
        await inner.schedule()
        await done.wait()
        return "both"

    job = await outer.schedule()
    await engine.start_workers(2, stop_when_queue_empty=True)
    assert (await finish_of(heard, job))["result"] == "both"


@pytest.mark.parametrize("number", [1, 3, 10])
async def test_at_most_number_bodies_run_at_a_time(engine: Engine, heard: Heard, number: int) -> None:
    running = 0
    most = 0

    @engine.task
    async def job() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    for _ in range(200):
        await job.schedule()
    await engine.start_workers(number, stop_when_queue_empty=True)
    assert most == number
    assert heard.count("job_finished") == 200


async def test_current_job_works_in_the_body_and_its_child_tasks(engine: Engine, heard: Heard) -> None:
    seen: list[object] = []

    async def child() -> None:
        seen.append(current_job())

    @engine.task
    async def parent(number: int) -> None:
        seen.append(current_job())
        await asyncio.create_task(child())
        await anyio.to_thread.run_sync(lambda: seen.append(current_job()))

    job = await parent.schedule(7)
    await engine.start_workers(stop_when_queue_empty=True)
    assert seen == [job, job, job]
    running = heard.last("job_started")["job"]
    assert all(one is running for one in seen)
    assert running.args == (7,)
    assert running.status is JobStatus.RUNNING
    assert current_job() is None


async def test_each_job_has_its_own_context(engine: Engine) -> None:
    var: ContextVar[str] = ContextVar("var", default="untouched")
    seen: list[str] = []

    @engine.task
    async def job(value: str) -> None:
        seen.append(var.get())
        var.set(value)
        await asyncio.sleep(0)
        seen.append(var.get())

    await job.schedule("a")
    await job.schedule("b")
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert seen == ["untouched", "a", "untouched", "b"]


async def test_the_duration_is_the_seconds_that_the_body_took(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def job() -> None:
        await asyncio.sleep(0.05)

    await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert 0.045 <= heard.last("job_finished")["duration"] < 5


async def test_arguments_that_no_longer_fit_fail_the_job(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    ran: list[int] = []

    @engine.task(name="changed")
    async def changed(number: int) -> None:
        ran.append(number)

    await broker.enqueue("default", [Envelope("old", "changed", b'[["text"],{}]')])
    await changed.schedule(1)
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert ran == [1]
    assert heard.names("old") == ["job_started", "job_failed", "job_finished"]
    assert isinstance(heard.last("job_failed")["err"], InvalidArguments)
    assert await reasons_of_death(broker) == {"old": "exhausted"}


async def test_arguments_are_never_logged(
    engine: Engine, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    @engine.task(max_retries=1, backoff=lambda attempt: 0)
    async def leaky(password: str) -> None:
        raise ValueError("no")

    await leaky.schedule(password="hunter2")
    await engine.start_workers(stop_when_queue_empty=True)
    assert "leaky" in caplog.text
    assert "hunter2" not in caplog.text


async def test_no_job_changes_the_recursion_limit_of_the_next(engine: Engine, heard: Heard) -> None:
    before = sys.getrecursionlimit()
    engine.task(recurses)
    depths: list[int] = []

    @engine.task
    async def deep(levels: int) -> None:
        def down(level: int) -> int:
            return level if not level else down(level - 1)

        depths.append(down(levels))

    await engine.schedule("recurses")
    await deep.schedule(before // 2)
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert depths == [0]
    await until(lambda: heard.count("job_finished") == 2)
