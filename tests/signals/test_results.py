"""The results of a dispatch, and the handling of receivers' errors."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Generator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from aiospinach import JobStatus
from aiospinach.job import Job
from aiospinach.signals import SafeNamedSignal


@pytest.fixture
def signal() -> SafeNamedSignal:
    return SafeNamedSignal("news")


@pytest.fixture
def job() -> Job:
    return Job(
        id="job-17",
        task_name="add",
        queue="default",
        namespace="shop",
        at=datetime.now(UTC),
        created_at=datetime.now(UTC),
        status=JobStatus.RUNNING,
        args=("secret",),
    )


def plain(sender: object, **kwargs: Any) -> object:
    return kwargs["text"]


async def coroutine(sender: object, **kwargs: Any) -> object:
    await asyncio.sleep(0)
    return kwargs["text"]


def with_two(first: object, sender: object, **kwargs: Any) -> object:
    return kwargs["text"]


async def async_with_two(first: object, sender: object, **kwargs: Any) -> object:
    return kwargs["text"]


class Custom:
    """An awaitable that is neither a coroutine nor a future."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Listener:
    def plain(self, sender: object, **kwargs: Any) -> object:
        return kwargs["text"]


class PlainCall:
    def __call__(self, sender: object, **kwargs: Any) -> object:
        return kwargs["text"]


class AsyncCall:
    async def __call__(self, sender: object, **kwargs: Any) -> object:
        return kwargs["text"]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Rude(BaseException):
    pass


ERRORS = [
    ValueError("wrong"),
    asyncio.CancelledError("own"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    StopAsyncIteration(),
    TimeoutError(),
    Rude("rude"),
    Unprintable(),
    BaseExceptionGroup("many", [SystemExit(1), ValueError(2)]),
]


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def error(request: pytest.FixtureRequest) -> Iterator[BaseException]:
    error: BaseException = request.param
    yield error
    error.__traceback__ = error.__context__ = error.__cause__ = None


def raiser(error: BaseException, how: str) -> Callable[..., Any]:
    def now(sender: object, **kwargs: Any) -> None:
        raise error

    async def at_once(sender: object, **kwargs: Any) -> None:
        raise error

    async def later(sender: object, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        raise error

    return {"now": now, "at once": at_once, "later": later}[how]


def check_log(caplog: pytest.LogCaptureFixture, receiver: Callable[..., Any], error: BaseException) -> None:
    [record] = caplog.records
    assert record.name == "aiospinach.signals"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    text = record.getMessage()
    for part in ("news", receiver.__qualname__, "<Job add id=job-17", type(error).__name__):
        assert part in text
    assert "Traceback (most recent call last)" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("how", ["now", "at once", "later"])
async def test_errors_of_receivers_are_logged_with_traceback_and_not_raised(
    signal: SafeNamedSignal,
    job: Job,
    error: BaseException,
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = raiser(error, how)
    signal.connect(plain)
    signal.connect(receiver)
    signal.connect(coroutine)
    results = await signal.send_async("shop", job=job, text=1)
    assert sorted(results, key=str) == sorted([(plain, 1), (coroutine, 1)], key=str)
    check_log(caplog, receiver, error)


def test_send_logs_errors_and_does_not_raise_them(
    signal: SafeNamedSignal, job: Job, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = raiser(error, "now")
    signal.connect(receiver)
    signal.connect(plain)
    assert signal.send("shop", job=job, text=1) == [(plain, 1)]
    check_log(caplog, receiver, error)


async def test_a_cancelled_future_is_an_error_like_any_other(
    signal: SafeNamedSignal, caplog: pytest.LogCaptureFixture
) -> None:
    @signal.connect
    def receiver(sender: object, **kwargs: Any) -> Awaitable[None]:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        return future

    assert await signal.send_async("shop") == []
    [record] = caplog.records
    assert "CancelledError" in record.getMessage()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize(
    ("receiver", "name"),
    [
        (functools.partial(with_two, 1), "with_two"),
        (functools.partial(functools.partial(async_with_two), 1), "async_with_two"),
        (Listener().plain, "Listener.plain"),
        (PlainCall(), "PlainCall"),
        (AsyncCall(), "AsyncCall"),
        (functools.partial(PlainCall(), 1), "partial"),
    ],
)
async def test_every_kind_of_receiver_has_a_name_in_the_log(
    signal: SafeNamedSignal, receiver: Callable[..., Any], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    signal.connect(receiver)
    assert await signal.send_async("shop") == []  # the keyword that the receivers need is missing
    [record] = caplog.records
    assert f".{name} raised " in record.getMessage()


async def test_the_log_of_an_error_outside_of_a_job_mentions_it(
    signal: SafeNamedSignal, caplog: pytest.LogCaptureFixture
) -> None:
    signal.connect(raiser(ValueError("wrong"), "later"))
    await signal.send_async("shop")
    assert "outside of a job" in caplog.text


async def test_send_async_returns_receivers_and_results_of_those_that_succeeded(
    signal: SafeNamedSignal, caplog: pytest.LogCaptureFixture
) -> None:
    finished = asyncio.Event()

    @signal.connect
    async def slower(sender: object, **kwargs: Any) -> str:
        await finished.wait()
        return "slower"

    @signal.connect
    async def faster(sender: object, **kwargs: Any) -> None:
        finished.set()

    @signal.connect
    def at_once(sender: object, **kwargs: Any) -> str:
        return "at once"

    signal.connect(raiser(ValueError("wrong"), "later"))
    signal.connect(raiser(ValueError("wrong"), "now"))
    results = await signal.send_async("shop")
    assert len(results) == 3
    assert dict(results) == {slower: "slower", faster: None, at_once: "at once"}


def test_send_works_without_an_event_loop_if_every_receiver_is_sync(signal: SafeNamedSignal) -> None:
    methods: list[Callable[..., Any]] = [Listener().plain, PlainCall()]
    receivers: list[Callable[..., Any]] = [plain, functools.partial(with_two, 1), *methods]
    for receiver in receivers:
        signal.connect(receiver)
    assert dict(signal.send("shop", text="hello")) == dict.fromkeys(receivers, "hello")


async def test_send_closes_awaitables_and_raises_with_the_advice_to_use_send_async(
    signal: SafeNamedSignal,
) -> None:
    called: list[str] = []
    loop = asyncio.get_running_loop()
    unawaited = coroutine("shop", text=1)
    future: asyncio.Future[None] = loop.create_future()

    def connect(name: str, result: object) -> None:
        @signal.connect
        def receiver(sender: object, **kwargs: Any) -> object:
            called.append(name)
            return result

    connect("first", 1)
    connect("coroutine", unawaited)
    connect("future", future)
    connect("custom", Custom())
    connect("last", 2)
    signal.connect(coroutine)
    with pytest.raises(TypeError, match=r"signal news: .*results\.coroutine.*await signal\.send_async"):
        signal.send("shop", text=1)
    assert sorted(called) == ["coroutine", "custom", "first", "future", "last"]
    assert inspect.getcoroutinestate(unawaited) == inspect.CORO_CLOSED
    assert future.cancelled()


async def test_an_awaitable_that_resists_being_closed_does_no_harm(
    signal: SafeNamedSignal, caplog: pytest.LogCaptureFixture
) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            raise SystemExit(4)

    begun = stubborn()
    begun.send(None)
    signal.connect(lambda sender, **kwargs: begun)
    with pytest.raises(TypeError, match="send_async"):
        signal.send("shop")
    assert "SystemExit" in caplog.text
