"""The lifespan of the workers is entered before the first job and left after the last signal, in any case."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from aiospinach import Broker, Engine, InvalidValue, MemoryBroker, Shared, signals

from ..waiting import until
from .conftest import Diary

Lifespan = Callable[[Engine], AbstractAsyncContextManager[None]]

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


def lifespan_of(diary: Diary) -> Lifespan:
    @asynccontextmanager
    async def lifespan(engine: Engine) -> AsyncIterator[None]:
        diary.append(f"enter {engine.namespace}")
        try:
            yield
        finally:
            await asyncio.sleep(0)
            diary.append("leave")

    return lifespan


@pytest.fixture
async def engine(broker: Broker, namespace: str, diary: Diary) -> AsyncIterator[Engine]:
    async with Engine(broker, namespace, lifespan=lifespan_of(diary)) as engine:
        yield engine


async def test_it_is_around_all_jobs_and_signals_of_each_start(engine: Engine, diary: Diary) -> None:
    @engine.task
    def work(client: str = Shared(diary.scope("client"))) -> None:
        diary.append("job")

    @signals.job_finished.connect_via(engine.namespace)
    async def finished(namespace: str, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        diary.append("job_finished")

    @signals.worker_started.connect_via(engine.namespace)
    async def started(namespace: str, **kwargs: Any) -> None:
        diary.append("worker_started")

    @signals.worker_terminated.connect_via(engine.namespace)
    async def terminated(namespace: str, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        diary.append("worker_terminated")

    await work.schedule()
    assert diary == []
    await engine.start_workers(stop_when_queue_empty=True)
    expected = [
        f"enter {engine.namespace}",
        "worker_started",
        "open client",
        "job",
        "job_finished",
        "worker_terminated",
        "close client",
        "leave",
    ]
    assert diary == expected
    await work.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert diary == expected * 2


async def test_jobs_see_the_context_that_it_sets(broker: Broker, namespace: str) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(engine: Engine) -> AsyncIterator[None]:
        tenant.set("somebody")
        yield

    async with Engine(broker, namespace, lifespan=lifespan) as engine:

        @engine.task
        async def work() -> None:
            seen.append(tenant.get())

        @engine.task
        def work_in_thread() -> None:
            seen.append(tenant.get())

        await work.schedule()
        await work_in_thread.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
    assert seen == ["somebody"] * 2
    assert tenant.get() == "nobody"


async def test_an_error_of_entering_ends_the_start_before_any_job(
    broker: Broker, namespace: str, diary: Diary
) -> None:
    error = ConnectionError("away")

    @asynccontextmanager
    async def lifespan(engine: Engine) -> AsyncIterator[None]:
        diary.append("enter")
        if diary.count("enter") == 1:
            raise error
        yield
        diary.append("leave")

    async with Engine(broker, namespace, lifespan=lifespan) as engine:

        @engine.task
        async def work() -> None:
            diary.append("job")

        await work.schedule()
        with pytest.raises(ConnectionError) as raised:
            await engine.start_workers(stop_when_queue_empty=True)
        assert raised.value is error
        assert diary == ["enter"]
        await engine.start_workers(stop_when_queue_empty=True)
        assert diary == ["enter", "enter", "job", "leave"]


async def test_a_stop_cancels_an_entering_that_does_not_end(
    broker: Broker, namespace: str, diary: Diary
) -> None:
    @asynccontextmanager
    async def lifespan(engine: Engine) -> AsyncIterator[None]:
        diary.append("enter")
        try:
            await asyncio.Event().wait()
            yield
        finally:
            diary.append("cancelled")

    async with Engine(broker, namespace, lifespan=lifespan) as engine:
        starting = asyncio.create_task(engine.start_workers())
        await until(lambda: diary, "it is being entered")
        await engine.stop_workers()
        await starting
    assert diary == ["enter", "cancelled"]


@pytest.mark.parametrize("block", [True, False])
async def test_a_cancellation_that_entering_raises_is_an_error_of_the_start(
    broker: Broker, namespace: str, block: bool
) -> None:
    @asynccontextmanager
    async def lifespan(engine: Engine) -> AsyncIterator[None]:
        helper = asyncio.create_task(asyncio.Event().wait())
        helper.cancel()
        await helper
        yield

    async with Engine(broker, namespace, lifespan=lifespan) as engine:
        with pytest.raises(RuntimeError, match="the lifespan raised CancelledError"):
            await engine.start_workers(block=block)
        assert not engine.health().is_running


async def test_it_is_left_if_a_receiver_ends_the_start(engine: Engine, diary: Diary) -> None:
    @signals.worker_started.connect_via(engine.namespace)
    def refuses(namespace: str, **kwargs: Any) -> None:
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        await engine.start_workers()
    assert diary == [f"enter {engine.namespace}", "leave"]


async def test_it_is_left_after_the_cancelled_jobs_of_a_cancelled_start(engine: Engine, diary: Diary) -> None:
    @engine.task
    async def work() -> None:
        diary.append("job")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            diary.append("cancelled")

    await work.schedule()
    starting = asyncio.create_task(engine.start_workers())
    await until(lambda: "job" in diary, "the job runs")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert diary == [f"enter {engine.namespace}", "job", "cancelled", "leave"]


async def test_cancellations_of_the_pool_do_not_end_the_leaving(
    broker: Broker, namespace: str, diary: Diary
) -> None:
    may_leave = asyncio.Event()

    @asynccontextmanager
    async def lifespan(engine: Engine) -> AsyncIterator[None]:
        yield
        diary.append("leaving")
        await may_leave.wait()
        diary.append("left")

    async with Engine(broker, namespace, lifespan=lifespan) as engine:
        await engine.start_workers(block=False)
        stopping = asyncio.create_task(engine.stop_workers())
        await until(lambda: diary, "it is being left")
        assert engine._workers.pool is not None
        supervisor = engine._workers.pool.supervisor.task
        for _ in range(3):
            supervisor.cancel()
            await asyncio.sleep(0)
        is_done = supervisor.done()
        may_leave.set()
        await stopping
    assert not is_done
    assert diary == ["leaving", "left"]


async def test_it_is_left_after_a_crash_of_the_workers(
    broker: Broker, namespace: str, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(broker, namespace, lifespan=lifespan_of(diary))
    starting = asyncio.create_task(engine.start_workers())
    await until(lambda: engine.health().is_connected, "the workers run")
    assert engine._workers.pool is not None

    def broken(*args: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(engine._workers.pool.slots, "claim", broken)

    @engine.task
    async def work() -> None: ...

    await work.schedule()
    with pytest.raises(RuntimeError, match="a defect"):
        await starting
    await broker.aclose()
    assert diary == [f"enter {namespace}", "leave"]


def test_it_is_left_when_the_event_loop_ends(namespace: str, diary: Diary) -> None:
    engine = Engine(MemoryBroker(), namespace, lifespan=lifespan_of(diary))

    @engine.task
    async def work() -> None:
        diary.append("job")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        diary.append("job ends")

    async def main() -> None:
        await work.schedule()
        await engine.start_workers(block=False)
        await until(lambda: "job" in diary, "the job runs")

    asyncio.run(main())
    assert diary == [f"enter {namespace}", "job", "job ends", "leave"]


async def test_an_error_of_leaving_is_logged(
    broker: Broker, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    @asynccontextmanager
    async def lifespan(engine: Engine) -> AsyncIterator[None]:
        yield
        raise ConnectionError("cannot close")

    async with Engine(broker, namespace, lifespan=lifespan) as engine:
        await engine.start_workers(stop_when_queue_empty=True)
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage().endswith("the lifespan raised ConnectionError when it was closed")
    assert getattr(record, "worker", "").startswith(record.getMessage().split()[1][:-1])
    assert record.exc_info is not None


async def test_it_may_hold_a_task_group(broker: Broker, namespace: str, diary: Diary) -> None:
    @asynccontextmanager
    async def lifespan(engine: Engine) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            yield
            group.cancel_scope.cancel()
        diary.append("left")

    async with Engine(broker, namespace, lifespan=lifespan) as engine:

        @engine.task
        async def work() -> None:
            diary.append("job")

        await work.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
    assert diary == ["job", "left"]


async def test_a_background_task_of_it_that_fails_ends_no_job(
    broker: Broker, namespace: str, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise ConnectionError("in the background")

    @asynccontextmanager
    async def lifespan(engine: Engine) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(fails)
            yield

    async with Engine(broker, namespace, lifespan=lifespan) as engine:

        @engine.task
        async def work() -> None:
            for _ in range(10):
                await asyncio.sleep(0)
            diary.append("job")

        await work.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
    assert diary == ["job"]
    assert "the lifespan raised ExceptionGroup when it was closed" in caplog.text


async def not_a_context(engine: Engine) -> None: ...


async def undecorated(engine: Engine) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def without_engine() -> AsyncIterator[None]:
    yield


@contextmanager
def plain_context(engine: Engine) -> Any:
    yield


@pytest.mark.parametrize(
    ("lifespan", "named"),
    [(3, "not int"), (undecorated, "an async generator function")],
    ids=["number", "undecorated"],
)
def test_a_lifespan_that_cannot_be_one_is_refused_by_the_engine(lifespan: Any, named: str) -> None:
    with pytest.raises(InvalidValue, match=rf"Engine\(lifespan=\).*{named}.*@asynccontextmanager"):
        Engine(MemoryBroker(), lifespan=lifespan)


@pytest.mark.parametrize(
    ("lifespan", "named"),
    [
        (without_engine, "'without_engine' is called with the engine as its only argument"),
        (without_engine(), "not the context manager: pass the function, without a call"),
    ],
    ids=["parameter", "called"],
)
def test_a_lifespan_that_cannot_be_called_with_the_engine_is_refused(lifespan: Any, named: str) -> None:
    with pytest.raises(InvalidValue, match=rf"Engine\(lifespan=\).*{named}"):
        Engine(MemoryBroker(), lifespan=lifespan)


@pytest.mark.parametrize(
    ("lifespan", "named"),
    [(not_a_context, "coroutine"), (plain_context, "_GeneratorContextManager"), (lambda engine: 3, "int")],
    ids=["coroutine", "plain", "number"],
)
async def test_a_lifespan_that_returns_something_else_is_refused_by_the_start(
    namespace: str, lifespan: Any, named: str
) -> None:
    async with Engine(MemoryBroker(), namespace, lifespan=lifespan) as engine:
        with pytest.raises(InvalidValue, match=rf"Engine\(lifespan=\).*{named}: decorate it"):
            await engine.start_workers()
