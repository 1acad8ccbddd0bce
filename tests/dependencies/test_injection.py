"""Jobs get the values of their dependencies: once each, from every kind of factory, not from the caller."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from typing import Annotated, Any

import pytest
from uncalled_for import Depends as DependsOfUncalledFor

from aiospinach import (
    AbortException,
    Broker,
    Depends,
    Engine,
    InvalidArguments,
    JobTimeout,
    Provided,
    RetryException,
    Shared,
    Tasks,
    current_job,
    signals,
)

from .. import asking
from ..conftest import Heard
from .conftest import Diary


class Session:
    """Nothing that JSON can hold."""


def plain() -> str:
    return "value"


async def coroutine() -> str:
    return "value"


def generator() -> Iterator[str]:
    yield "value"


async def async_generator() -> AsyncIterator[str]:
    yield "value"


@contextmanager
def context() -> Iterator[str]:
    yield "value"


@asynccontextmanager
async def async_context() -> AsyncIterator[str]:
    yield "value"


class Made:
    def __init__(self, value: str = Depends(plain)) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return self.value == other

    __hash__ = None  # type: ignore[assignment]


class Entered:
    async def __aenter__(self) -> str:
        return "value"

    async def __aexit__(self, *error: object) -> None: ...


class CallableObject:
    async def __call__(self) -> AsyncIterator[str]:
        yield "value"


class Method:
    def get(self) -> str:
        return "value"

    @staticmethod
    async def get_static() -> str:
        return "value"


def nested(value: str = Depends(async_generator)) -> str:
    return value


def with_default(value: str = "value") -> str:
    return value


def any_number(*values: str, **named: str) -> str:
    return "value"


KINDS: list[Any] = [
    plain,
    coroutine,
    generator,
    async_generator,
    context,
    async_context,
    Made,
    Entered,
    CallableObject(),
    Method().get,
    Method.get_static,
    nested,
    with_default,
    any_number,
    partial(with_default, "value"),
    lambda: "value",
]


@pytest.mark.parametrize("shared", [False, True], ids=["depends", "shared"])
@pytest.mark.parametrize("factory", KINDS, ids=lambda kind: getattr(kind, "__name__", type(kind).__name__))
@pytest.mark.parametrize("is_async", [True, False], ids=["async_body", "plain_body"])
async def test_a_job_gets_the_value_of_every_kind_of_factory(
    engine: Engine, factory: Any, shared: bool, is_async: bool
) -> None:
    got: list[Any] = []
    declared: Any = Shared(factory) if shared else Depends(factory)

    async def take(number: int, value: Any = declared) -> None:
        got.append((number, value))

    def take_in_thread(number: int, value: Any = declared) -> None:
        got.append((number, value))

    function: Any = take if is_async else take_in_thread
    await engine.schedule(engine.task(name="take")(function), 17)
    await engine.start_workers(stop_when_queue_empty=True)
    assert got == [(17, "value")]


async def test_a_declaration_stands_in_annotated_or_is_the_default(engine: Engine) -> None:
    got: list[object] = []

    @engine.task(name="take")
    async def take(
        number: int,
        first: Annotated[Session, Depends(Session)] = Provided,
        second: Session = Depends(Session),
        *,
        third: Annotated[Session, "more metadata", Depends(Session)],
        fourth: "Annotated[UnknownToPython, Depends(Session)]" = Provided,  # type: ignore[name-defined] # noqa: F821, UP037
        fifth: Session = DependsOfUncalledFor(Session),
    ) -> None:
        got.extend([number, first, second, third, fourth, fifth])

    await engine.schedule("take", 17)
    await engine.start_workers(stop_when_queue_empty=True)
    number, *sessions = got
    assert number == 17
    assert isinstance(sessions[0], Session)
    assert sessions == [sessions[0]] * 5


async def test_arguments_find_their_parameters_between_injected_ones(engine: Engine) -> None:
    got: list[Any] = []

    @engine.task
    async def take(
        first: Annotated[str, Depends(plain)],
        a: int,
        second: Annotated[str, Depends(plain)],
        *rest: int,
        third: Annotated[str, Depends(plain)],
        **named: int,
    ) -> None:
        got.append((first, a, second, rest, third, named))

    untyped: Any = engine.schedule
    await untyped(take, 1)
    await untyped(take, a=1)
    await untyped(take, 1, 2, 3)
    await untyped(take, 1, 2, b=3)
    await untyped(take, a=1, b=2)
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert got == [
        ("value", 1, "value", (), "value", {}),
        ("value", 1, "value", (), "value", {}),
        ("value", 1, "value", (2, 3), "value", {}),
        ("value", 1, "value", (2,), "value", {"b": 3}),
        ("value", 1, "value", (), "value", {"b": 2}),
    ]


async def test_a_value_is_made_once_for_a_job_and_anew_for_the_next(engine: Engine, diary: Diary) -> None:
    session = diary.scope("session")

    async def repository(db: str = Depends(session)) -> str:
        return f"repository on {db}"

    @engine.task
    async def take(
        number: int,
        db: str = Depends(session),
        again: str = Depends(session),
        rows: str = Depends(repository),
    ) -> None:
        diary.append(f"{number}: {db}, {again}, {rows}")

    for number in (1, 2):
        await take.schedule(number)
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert diary == [
        "open session",
        "1: session, session, repository on session",
        "close session",
        "open session",
        "2: session, session, repository on session",
        "close session",
    ]


async def test_the_stored_job_holds_no_injected_parameter(broker: Broker, engine: Engine) -> None:
    @engine.task(name="same")
    async def with_session(order: int, db: Session = Depends(Session), *, note: str = "") -> None: ...

    other = Tasks()

    @other.task(name="same")
    async def without(order: int, *, note: str = "") -> None: ...

    assert with_session._arguments.encode((17,), {"note": "x"}) == without._arguments.encode(
        (17,), {"note": "x"}
    )
    job = await with_session.schedule(17, note="x")
    assert (job.args, job.kwargs) == ((17,), {"note": "x"})


async def test_an_injected_parameter_is_refused_as_an_argument(engine: Engine) -> None:
    @engine.task(name="take")
    async def take(number: int, db: Session = Depends(Session)) -> None: ...

    @engine.task
    async def catch_all(number: int, db: Session = Depends(Session), **rest: Any) -> None: ...

    untyped: Any = engine.schedule
    for task in (take, catch_all):
        with pytest.raises(InvalidArguments, match=r"parameter 'db' is injected by the worker.*leave it out"):
            await untyped(task, 17, db=None)
    with pytest.raises(
        InvalidArguments, match=r"take\(number\): too many .*; injected, and no arguments: db"
    ):
        await untyped(take, 17, None)
    with pytest.raises(InvalidArguments, match=r"parameter 'db' is injected by the worker"):
        await engine.execute("take", 17, db=None)


async def test_a_call_of_the_task_calls_the_function_alone(engine: Engine) -> None:
    @engine.task
    async def take(number: int, db: str = Depends(plain)) -> str:
        return db

    assert await take(17, "mine") == "mine"


async def test_a_periodic_task_may_have_dependencies(engine: Engine, diary: Diary) -> None:
    @engine.task(periodicity=timedelta(seconds=0.1))
    async def tick(db: str = Depends(diary.scope("session"))) -> None:
        diary.append(f"tick with {db}")
        await engine.stop_workers()

    await engine.start_workers()
    assert diary == ["open session", "tick with session", "close session"]


async def test_factories_find_their_job_and_its_context(engine: Engine) -> None:
    found: list[object] = []

    async def note() -> None:
        job = current_job()
        found.append(
            (None if job is None else job.args, threading.current_thread() is threading.main_thread())
        )

    @engine.task
    def take(number: int, noted: None = Depends(note)) -> None: ...

    await take.schedule(17)
    await engine.start_workers(stop_when_queue_empty=True)
    assert found == [((17,), True)]


def raise_in(error: BaseException) -> Callable[[], AbstractContextManager[None]]:
    @contextmanager
    def factory() -> Iterator[None]:
        raise error
        yield

    return factory


@pytest.mark.parametrize("is_async", [True, False], ids=["async_body", "plain_body"])
async def test_an_error_of_a_factory_is_the_error_of_its_job(
    engine: Engine, heard: Heard, diary: Diary, is_async: bool
) -> None:
    before, after = diary.scope("before"), diary.scope("after")
    broken = raise_in(ConnectionError("no database"))

    def body(a: str = Depends(before), failing: None = Depends(broken), c: str = Depends(after)) -> None:
        diary.append("body")

    async def async_body(
        a: str = Depends(before), failing: None = Depends(broken), c: str = Depends(after)
    ) -> None:
        diary.append("body")

    function: Any = async_body if is_async else body
    await engine.schedule(engine.task(function))
    await engine.start_workers(stop_when_queue_empty=True)
    assert diary == ["open before", "close before with ConnectionError"]
    error = heard.last("job_failed")["err"]
    assert type(error) is ConnectionError
    assert heard.names()[-4:] == ["job_started", "job_failed", "job_finished", "worker_terminated"]


async def test_a_factory_may_ask_for_another_try_or_for_none(engine: Engine, heard: Heard) -> None:
    tries: list[str] = []

    def once() -> None:
        tries.append("retry")
        if len(tries) == 1:
            raise RetryException(at=timedelta(0))

    def never() -> None:
        tries.append("abort")
        raise AbortException("never")

    @engine.task(max_retries=3)
    async def retried(ready: None = Depends(once)) -> None: ...

    @engine.task(max_retries=3)
    async def aborted(ready: None = Depends(never)) -> None: ...

    await retried.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    await aborted.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert tries == ["retry", "retry", "abort"]
    assert heard.count("job_schedule_retry") == 1
    assert heard.count("job_failed") == 1


@pytest.mark.parametrize("is_async", [True, False], ids=["async_body", "plain_body"])
async def test_execute_opens_and_closes_dependencies(engine: Engine, diary: Diary, is_async: bool) -> None:
    session, client = diary.scope("session"), diary.scope("client")

    def body(number: int, db: str = Depends(session), http: str = Shared(client)) -> str:
        diary.append("body")
        return f"{number} {db} {http}"

    async def async_body(number: int, db: str = Depends(session), http: str = Shared(client)) -> str:
        return body(number, db, http)

    function: Any = async_body if is_async else body
    assert await engine.execute(engine.task(function), 17) == "17 session client"
    assert diary == ["open session", "open client", "body", "close session", "close client"]


async def test_execute_raises_errors_of_factories_and_of_what_they_close(
    engine: Engine, diary: Diary
) -> None:
    @asynccontextmanager
    async def sticky() -> AsyncIterator[None]:
        yield
        raise ConnectionError("does not close")

    @engine.task
    async def failing(
        a: str = Depends(diary.scope("a")), b: None = Depends(raise_in(ValueError("no")))
    ) -> None: ...

    @engine.task
    async def unclosed(a: None = Shared(sticky)) -> None: ...

    with pytest.raises(ValueError, match="no"):
        await engine.execute(failing)
    assert diary == ["open a", "close a with ValueError"]
    with pytest.raises(ConnectionError, match="does not close"):
        await engine.execute(unclosed)


async def test_execute_keeps_the_time_limit_for_dependencies(engine: Engine, diary: Diary) -> None:
    import asyncio

    async def slow() -> None:
        await asyncio.Event().wait()

    @engine.task(timeout=0.05)
    async def late(a: str = Depends(diary.scope("a")), b: None = Depends(slow)) -> None: ...

    with pytest.raises(JobTimeout):
        await engine.execute(late)
    assert diary == ["open a", "close a with CancelledError"]


async def test_a_job_stored_before_a_parameter_was_injected_says_so(broker: Broker, namespace: str) -> None:
    async with Engine(broker, namespace) as old:

        @old.task(name="take")
        async def take_name(number: int, db: str) -> None: ...

        await take_name.schedule(17, db="name")
    errors: list[BaseException] = []
    async with Engine(broker, namespace) as new:
        signals.job_failed.connect_via(namespace)(lambda sender, err, **kwargs: errors.append(err))

        @new.task(name="take")
        async def take(number: int, db: str = Depends(plain)) -> None: ...

        await new.start_workers(stop_when_queue_empty=True)
    assert "parameter 'db' is injected" in str(errors[0])
    assert len(await asking.dead(broker, "default")) == 1
