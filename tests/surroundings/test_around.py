"""Context managers around the bodies of jobs."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any

import pytest

from aiospinach import (
    Engine,
    Interrupted,
    InvalidValue,
    Job,
    JobCancelled,
    JobStatus,
    JobTimeout,
    RetryException,
    Tasks,
    current_job,
)

from ..conftest import Heard
from ..waiting import until

Log = list[tuple[str, object]]


async def run_all(engine: Engine) -> None:
    await engine.start_workers(stop_when_queue_empty=True)


def around_that_logs(log: Log, *, is_async: bool, name: str = "") -> Callable[[Job], Any]:
    def enter() -> None:
        log.append((f"enter{name}", threading.current_thread() is threading.main_thread()))

    def leave(error: BaseException | None) -> None:
        log.append((f"leave{name}", type(error).__name__ if error is not None else None))

    @asynccontextmanager
    async def an_async_one(job: Job) -> AsyncIterator[None]:
        assert job == current_job()
        enter()
        try:
            await asyncio.sleep(0)
            yield
        except BaseException as error:
            leave(error)
            raise
        await asyncio.sleep(0)
        leave(None)

    @contextmanager
    def a_plain_one(job: Job) -> Iterator[None]:
        assert job == current_job()
        enter()
        try:
            yield
        except BaseException as error:
            leave(error)
            raise
        leave(None)

    return an_async_one if is_async else a_plain_one


ENDS = ["success", "error", "time-out", "cancel", "stop"]
KINDS = [
    pytest.param(around, body, end, id=f"{around} around {body}: {end}")
    for around, body, end in itertools.product(["async", "plain"], ["async", "plain"], ENDS)
    if not (body == "plain" and end == "time-out")  # a thread has no time limit
]


@pytest.mark.parametrize(("around", "body", "end"), KINDS)
async def test_each_exit_runs_once_with_the_exception(
    engine: Engine, heard: Heard, around: str, body: str, end: str
) -> None:
    log: Log = []
    engine.around(around_that_logs(log, is_async=around == "async"))
    is_running, may_end = threading.Event(), threading.Event()

    async def an_async_body() -> None:
        is_running.set()
        if end == "error":
            raise KeyError("k")
        if end != "success":
            await asyncio.sleep(60)

    def a_plain_body() -> None:
        is_running.set()
        if end == "error":
            raise KeyError("k")
        if end != "success":
            may_end.wait(10)

    function = an_async_body if body == "async" else a_plain_body
    task = engine.task(name="body", timeout=0.05 if end == "time-out" else None)(function)
    await engine.start_workers(block=False, shutdown_timeout=0)
    job = await engine.schedule(task)
    await until(is_running.is_set)
    if end == "cancel":
        assert await engine.cancel(job) is JobStatus.RUNNING
    stop = asyncio.create_task(engine.stop_workers()) if end == "stop" else None
    await asyncio.sleep(0)
    may_end.set()
    await until(lambda: "job_finished" in heard.names(job.id))
    if stop is not None:
        await stop
    await engine.stop_workers()
    is_in_thread = (around, body) == ("plain", "plain")
    ended = {"success": None, "error": "KeyError"}.get(end, "CancelledError" if body == "async" else None)
    assert log == [("enter", not is_in_thread), ("leave", ended)]
    errors: dict[str, Any] = {"error": KeyError}
    if body == "async":
        errors |= {"time-out": JobTimeout, "cancel": JobCancelled, "stop": Interrupted}
    elif end == "cancel":
        errors |= {"cancel": type(None)}
    assert isinstance(heard.last("job_finished")["err"], errors.get(end, type(None)))


@pytest.mark.parametrize("is_async", [True, False])
async def test_the_first_is_the_outermost_and_those_of_the_engine_are_outside(
    engine: Engine, is_async: bool
) -> None:
    log: Log = []
    tasks, other = Tasks(), Tasks()
    tasks.around(around_that_logs(log, is_async=is_async, name=" registry 1"))

    @tasks.task
    async def body() -> None:
        log.append(("body", None))

    tasks.around(around_that_logs(log, is_async=is_async, name=" registry 2"))
    other.around(around_that_logs(log, is_async=True, name=" other"))
    engine.attach_tasks(tasks)
    engine.attach_tasks(other)
    engine.around(around_that_logs(log, is_async=True, name=" engine"))
    await engine.schedule(body)
    await run_all(engine)
    names = ["engine", "registry 1", "registry 2"]
    assert [name for name, _ in log] == [
        *(f"enter {name}" for name in names),
        "body",
        *(f"leave {name}" for name in reversed(names)),
    ]


async def test_plain_ones_of_a_plain_body_are_in_its_thread_and_within_the_async_ones(engine: Engine) -> None:
    threads: dict[str, object] = {}

    @engine.around
    @contextmanager
    def connection(job: Job) -> Iterator[None]:
        threads["enter"] = threading.get_ident()
        yield
        threads["leave"] = threading.get_ident()

    log: Log = []
    engine.around(around_that_logs(log, is_async=True, name=" async"))
    engine.around(around_that_logs(log, is_async=False, name=" plain"))

    @engine.task
    def body() -> None:
        threads["body"] = threading.get_ident()

    await engine.schedule(body)
    await run_all(engine)
    assert threads["enter"] == threads["body"] == threads["leave"] != threading.get_ident()
    assert [name for name, _ in log] == ["enter async", "enter plain", "leave plain", "leave async"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_error_of_the_body_may_become_a_retry(engine: Engine, heard: Heard, is_async: bool) -> None:
    tries = []

    @engine.around
    @contextmanager
    def translate(job: Job) -> Iterator[None]:
        try:
            yield
        except ConnectionError as error:
            raise RetryException("the provider is away") from error

    def body() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError

    async def async_body() -> None:
        body()

    task = engine.task(name="body", max_retries=1, backoff=lambda retry: 0)(async_body if is_async else body)
    await engine.schedule(task)
    await run_all(engine)
    assert len(tries) == 2
    assert heard.count("job_schedule_retry") == 1
    assert isinstance(heard.last("job_schedule_retry")["err"], RetryException)


async def test_an_error_may_be_suppressed(engine: Engine, heard: Heard) -> None:
    @engine.around
    @asynccontextmanager
    async def forgive(job: Job) -> AsyncIterator[None]:
        with suppress(KeyError):
            yield

    @engine.task
    async def body() -> int:
        raise KeyError

    await engine.schedule(body)
    await run_all(engine)
    assert (heard.last("job_finished")["err"], heard.last("job_finished")["result"]) == (None, None)
    assert await engine.execute(body) is None


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("where", ["call", "enter", "leave"])
async def test_its_errors_are_errors_of_the_job(
    engine: Engine, heard: Heard, where: str, is_async: bool
) -> None:
    ran = []

    def around(job: Job) -> Any:
        if where == "call":
            raise KeyError(where)

        @contextmanager
        def manager() -> Iterator[None]:
            if where == "enter":
                raise KeyError(where)
            yield
            raise KeyError(where)

        return manager()

    def body() -> None:
        ran.append(1)

    async def async_body() -> None:
        body()

    engine.around(around)
    task = engine.task(name="body")(async_body if is_async else body)
    job = await engine.schedule(task)
    await run_all(engine)
    assert ran == ([1] if where == "leave" else [])
    failed = heard.last("job_failed")
    assert (failed["job"], repr(failed["err"])) == (job, f"KeyError('{where}')")
    [dead] = [dead async for dead in engine.dead_jobs()]
    assert dead.reason == "max_retries=0" or dead.error.endswith("KeyError")


async def test_what_is_no_context_manager_is_an_error_of_the_job(engine: Engine, heard: Heard) -> None:
    engine.around(lambda job: 17)  # type: ignore[type-var]
    await engine.schedule(engine.task(name="body")(lambda: None))
    await run_all(engine)
    error = heard.last("job_failed")["err"]
    assert isinstance(error, InvalidValue)
    assert "returned int, which is no context manager" in str(error)


async def test_a_context_variable_that_it_sets_is_seen_by_the_body(engine: Engine) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen = []

    @engine.around
    @asynccontextmanager
    async def set_it(job: Job) -> AsyncIterator[None]:
        token = variable.set("set")
        yield
        variable.reset(token)

    @engine.around
    @contextmanager
    def set_more(job: Job) -> Iterator[None]:
        token = variable.set(variable.get() + " twice")
        yield
        variable.reset(token)

    @engine.task
    async def body() -> None:
        seen.append(variable.get())

    @engine.task
    def plain() -> None:
        seen.append(variable.get())

    await engine.schedule(body)
    await engine.schedule(plain)
    await run_all(engine)
    assert seen == ["set twice", "set twice"]


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_a_job_may_be_ended_within_it_and_has_begun(
    engine: Engine, heard: Heard, is_async: bool, how: str
) -> None:
    """A job that starts at most once does not run again after that."""
    entered = asyncio.Event()
    ran = []

    @engine.around
    @asynccontextmanager
    async def slow(job: Job) -> AsyncIterator[None]:
        entered.set()
        await asyncio.sleep(60)
        yield

    async def async_body() -> None:
        ran.append(1)

    task = engine.task(name="body")(async_body if is_async else lambda: ran.append(1))
    job = await engine.schedule(task)
    await engine.start_workers(1, block=False, shutdown_timeout=0)
    await entered.wait()
    if how == "cancel":
        await engine.cancel(job)
        await until(lambda: heard.count("job_finished"))
    await engine.stop_workers()
    assert not ran
    assert heard.count("job_cancelled" if how == "cancel" else "job_failed") == 1
    assert isinstance(heard.last("job_finished")["err"], JobCancelled if how == "cancel" else Interrupted)


def cancel_here(engine: Engine, job: Job) -> None:
    """Cancel a job as its worker does, without a wait."""
    assert engine._workers.pool is not None
    engine._workers.pool.cancel(job.queue, job.id)


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_job_that_ends_in_the_last_step_of_entering_runs_no_body(
    engine: Engine, heard: Heard, is_async: bool
) -> None:
    ran: list[str] = []

    @engine.around
    @asynccontextmanager
    async def cancels(job: Job) -> AsyncIterator[None]:
        cancel_here(engine, job)
        try:
            yield
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # no second cancellation arrives while it is left
            ran.append("left")
            raise

    async def async_body() -> None:
        ran.append("body")

    await engine.schedule(engine.task(name="body")(async_body if is_async else lambda: ran.append("body")))
    await run_all(engine)
    assert ran == ["left"]
    assert isinstance(heard.last("job_finished")["err"], JobCancelled)


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("when", ["while one is entered", "in the last step"])
async def test_one_that_hides_the_end_of_a_job_makes_it_no_success_before_its_body(
    engine: Engine, heard: Heard, when: str, is_async: bool
) -> None:
    ran: list[str] = []

    @engine.around
    @asynccontextmanager
    async def hides(job: Job) -> AsyncIterator[None]:
        with suppress(asyncio.CancelledError):
            yield

    @engine.around
    @asynccontextmanager
    async def cancels(job: Job) -> AsyncIterator[None]:
        cancel_here(engine, job)
        if when == "while one is entered":
            await asyncio.sleep(60)
        yield

    async def async_body() -> None:
        ran.append("body")

    await engine.schedule(engine.task(name="body")(async_body if is_async else lambda: ran.append("body")))
    await run_all(engine)
    assert not ran
    assert isinstance(heard.last("job_finished")["err"], JobCancelled)
    assert heard.count("job_cancelled") == 1


async def test_the_awaitable_of_a_plain_wrapper_is_awaited_within_it(engine: Engine, heard: Heard) -> None:
    log: Log = []
    engine.around(around_that_logs(log, is_async=True))

    async def late() -> None:
        await asyncio.sleep(0)
        log.append(("body", None))
        raise KeyError("k")

    task = engine.task(name="body")(lambda: late())
    expected = [("enter", True), ("body", None), ("leave", "KeyError")]
    await engine.schedule(task)
    await run_all(engine)
    assert log == expected
    assert isinstance(heard.last("job_failed")["err"], KeyError)
    with pytest.raises(KeyError):
        await engine.execute(task)
    assert log == expected * 2


async def test_execute_runs_within_it(engine: Engine) -> None:
    log: Log = []
    engine.around(around_that_logs(log, is_async=True))
    engine.around(around_that_logs(log, is_async=False))

    @engine.task
    def body() -> int:
        return 5

    @engine.task(timeout=0.05)
    async def slow() -> None:
        await asyncio.sleep(60)

    assert await engine.execute(body) == 5
    assert log == [("enter", True), ("enter", False), ("leave", None), ("leave", None)]
    log.clear()
    with pytest.raises(JobTimeout):
        await engine.execute(slow)
    assert log == [("enter", True), ("enter", True), ("leave", "CancelledError"), ("leave", "CancelledError")]


async def test_a_task_of_two_registries_is_within_those_of_both_once(engine: Engine) -> None:
    log: Log = []
    tasks, other = Tasks(), Tasks()

    @tasks.task
    async def body() -> None: ...

    tasks.around(around_that_logs(log, is_async=True, name=" a"))
    other.around(around_that_logs(log, is_async=True, name=" b"))
    other.add(body)
    other.add(body)
    engine.attach_tasks(tasks)
    engine.attach_tasks(other)
    await engine.schedule(body)
    await run_all(engine)
    assert [name for name, _ in log] == ["enter a", "enter b", "leave b", "leave a"]


async def _not_decorated(job: Job) -> AsyncIterator[None]:
    yield


def _plain_not_decorated(job: Job) -> Iterator[None]:
    yield


async def _no_generator(job: Job) -> None: ...


@asynccontextmanager
async def _no_parameter() -> AsyncIterator[None]:
    yield


@contextmanager
def _two_parameters(job: Job, session: object) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("around", "words"),
    [
        (_not_decorated, "'_not_decorated' is a generator: decorate it with @asynccontextmanager"),
        (_plain_not_decorated, "'_plain_not_decorated' is a generator: decorate it with @contextmanager"),
        (_no_generator, "'_no_generator' has to return a context manager"),
        (_no_parameter, "'_no_parameter' is called with the job as its only argument"),
        (_two_parameters, "'_two_parameters' is called with the job as its only argument"),
        ("text", "not a str"),
    ],
)
def test_a_function_that_makes_no_context_manager_is_refused(around: Any, words: str) -> None:
    from aiospinach import MemoryBroker

    for owner in (Engine(MemoryBroker()), Tasks()):
        with pytest.raises(InvalidValue, match=words):
            owner.around(around)


async def test_a_callable_with_unknown_parameters_is_called(engine: Engine) -> None:
    class Wrapped:
        __signature__ = "unknown to Python"

        def __call__(self, job: Job) -> AbstractContextManager[None]:
            called.append(job.task_name)
            return nullcontext()

    called: list[str] = []
    engine.around(Wrapped())
    await engine.execute(engine.task(name="body")(lambda: None))
    assert called == ["body"]


def test_the_decorator_returns_the_function() -> None:
    @Tasks().around
    @contextmanager
    def mine(job: Job) -> Iterator[None]:
        yield

    assert callable(mine)


async def test_a_lease_that_ends_while_arounds_are_entered_fails_the_job(
    engine: Engine, heard: Heard
) -> None:
    @engine.around
    @asynccontextmanager
    async def outlasts_the_lease(job: Job) -> AsyncIterator[None]:
        assert engine._workers.pool is not None
        [run] = list(engine._workers.pool.runs)
        run.body.trusted_until = 0.0
        yield

    @engine.task
    def work() -> None:
        raise AssertionError("it has no lease")

    await work.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert type(heard.last("job_finished")["err"]) is Interrupted
