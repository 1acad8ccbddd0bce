"""The stack of a running body: each await of an async one, and the frames of a plain one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest

from aiospinach import Broker, BrokerUnavailable, Depends, Engine, signals
from aiospinach.brokers.orders import ORDERS, stack_order
from aiospinach.engine.stack_request import stack_of
from aiospinach.workers.stacks import FRAMES_AT_MOST, lines_of, stack_of_coroutine

from ..brokers_under_test import BROKERS, MakeBroker
from ..conftest import Heard
from ..waiting import until

SECRET = "a secret argument"


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    make: MakeBroker = request.param
    async with Engine(make(), namespace) as engine:
        yield engine


def broker_of(engine: Engine) -> Broker:
    return engine._broker


def functions(lines: list[str] | None) -> list[str]:
    """The names of the functions, without the scopes that they were defined in."""
    assert lines is not None
    return [line.rpartition(" ")[2].rpartition(".")[2] for line in lines]


async def innermost() -> None:
    await asyncio.Event().wait()


class Waiting:
    """An awaitable whose ``__await__`` is a generator."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from innermost().__await__()


async def numbers() -> AsyncIterator[int]:
    yield 1
    await Waiting()


async def consumed() -> None:
    async for _ in numbers():
        pass


async def waits_for_a_task() -> None:
    await asyncio.create_task(consumed())


@contextlib.asynccontextmanager
async def entered_slowly() -> AsyncIterator[None]:
    await waits_for_a_task()
    yield


async def enters() -> None:
    async with entered_slowly():
        pass


async def stack_when_suspended(body: Callable[[], Awaitable[None]]) -> list[str]:
    """The stack of a coroutine, once it waits."""
    task = asyncio.ensure_future(body())
    for _ in range(5):
        await asyncio.sleep(0)
    lines = lines_of(stack_of_coroutine(task))
    task.cancel()
    await asyncio.wait([task])
    return lines


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (innermost, ["innermost", "wait"]),
        (consumed, ["consumed", "numbers", "__await__", "innermost", "wait"]),
        (
            waits_for_a_task,
            ["waits_for_a_task", "consumed", "numbers", "__await__", "innermost", "wait"],
        ),
        (
            enters,
            [
                *("enters", "__aenter__", "entered_slowly", "waits_for_a_task", "consumed", "numbers"),
                *("__await__", "innermost", "wait"),
            ],
        ),
    ],
)
async def test_every_kind_of_await_is_followed(body: Callable[[], Awaitable[None]], names: list[str]) -> None:
    assert functions(await stack_when_suspended(body)) == names


async def test_a_line_names_file_line_and_function() -> None:
    [line, _] = await stack_when_suspended(innermost)
    number = innermost.__code__.co_firstlineno + 1
    assert line == f"{__file__}:{number} innermost"


async def test_a_deep_stack_is_shortened_in_the_middle() -> None:
    async def deep(levels: int) -> None:
        if levels:
            await deep(levels - 1)
        else:
            await innermost()

    lines = await stack_when_suspended(lambda: deep(300))
    assert len(lines) == FRAMES_AT_MOST + 1
    assert lines[FRAMES_AT_MOST // 2] == "... 103 frames"
    assert functions(lines)[-2:] == ["innermost", "wait"]


async def running(engine: Engine, heard: Heard, task: Any, *args: Any) -> str:
    """Start workers and a job, and return its id once it runs."""
    await engine.start_workers(1, block=False)
    job = await task.schedule(*args)
    await until(lambda: heard.count("job_started"))
    return str(job.id)


async def test_another_process_sees_each_await_of_a_body(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def body(argument: str) -> None:
        await waits_for_a_task()

    job_id = await running(engine, heard, body, SECRET)
    lines = await stack_of(broker_of(engine), "default", job_id)
    assert lines is not None
    assert functions(lines)[:3] == ["body", "waits_for_a_task", "consumed"]
    assert functions(lines)[-2:] == ["innermost", "wait"]
    assert SECRET not in str(lines)
    await engine.cancel(job_id)
    await engine.stop_workers()


async def test_the_frames_of_a_body_within_its_surroundings_are_found(engine: Engine, heard: Heard) -> None:
    @engine.around
    @contextlib.asynccontextmanager
    async def around(job: Any) -> AsyncIterator[None]:
        yield

    async def value() -> AsyncIterator[int]:
        yield 1

    @engine.task
    async def body(number: int = Depends(value)) -> None:
        await innermost()

    job_id = await running(engine, heard, body)
    lines = await stack_of(broker_of(engine), "default", job_id)
    assert functions(lines) == ["body", "innermost", "wait"]
    await engine.cancel(job_id)
    await engine.stop_workers()


@pytest.mark.parametrize("is_surrounded", [False, True])
async def test_the_frames_of_a_plain_function_are_those_of_its_thread(
    engine: Engine, heard: Heard, is_surrounded: bool
) -> None:
    began, release = threading.Event(), threading.Event()
    if is_surrounded:

        @engine.around
        @contextlib.contextmanager
        def around(job: Any) -> Iterator[None]:
            yield

    def inner() -> None:
        began.set()
        assert release.wait(30)

    @engine.task
    def body(argument: str) -> None:
        inner()

    @engine.task
    def another() -> None:
        assert release.wait(30)

    await engine.start_workers(2, block=False)
    await another.schedule()
    job = await body.schedule(SECRET)
    await until(began.is_set)
    lines = await stack_of(broker_of(engine), "default", job.id)
    assert functions(lines)[:3] == ["body", "inner", "wait"]
    assert SECRET not in str(lines)
    release.set()
    await engine.stop_workers()


async def test_a_job_that_waits_for_a_thread_has_an_empty_stack(engine: Engine, heard: Heard) -> None:
    """So has a job whose receivers run."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def receiver(sender: str, **kwargs: Any) -> None:
        entered.set()
        await release.wait()

    signals.job_started.connect(receiver, engine.namespace)

    @engine.task
    async def body() -> None: ...

    await engine.start_workers(1, block=False)
    job = await body.schedule()
    await entered.wait()
    assert await stack_of(broker_of(engine), "default", job.id) == []
    release.set()
    await engine.stop_workers()


async def test_there_is_no_answer_for_a_job_that_does_not_run(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def body() -> None: ...

    job = await body.schedule()
    assert await stack_of(broker_of(engine), "default", job.id, timeout=0.05) is None
    await engine.start_workers(1, block=False)
    assert await stack_of(broker_of(engine), "default", "unknown", timeout=0.05) is None
    await engine.stop_workers()


async def test_an_answer_that_cannot_be_sent_harms_no_worker(
    engine: Engine, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    @engine.task
    async def body() -> None:
        await innermost()

    job_id = await running(engine, heard, body)
    broker, tried = broker_of(engine), asyncio.Event()
    publish = broker.publish

    async def away(queue: str, channel: str, data: bytes) -> None:
        tried.set()
        raise BrokerUnavailable("away")

    monkeypatch.setattr(broker, "publish", away)
    await publish("default", ORDERS, stack_order(job_id, "token"))
    await asyncio.wait_for(tried.wait(), 10)
    monkeypatch.undo()
    assert functions(await stack_of(broker, "default", job_id)) == ["body", "innermost", "wait"]
    await engine.cancel(job_id)
    await engine.stop_workers()
