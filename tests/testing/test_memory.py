"""``testing.memory``: the jobs of the application's own engine are in memory, and then are not any more."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from aiospinach import (
    AlreadyRunning,
    BrokerUnavailable,
    Engine,
    InvalidValue,
    Job,
    JobStatus,
    MemoryBroker,
    WouldBlock,
    current_job,
    signals,
    testing,
)
from aiospinach.contrib.starlette import lifespan
from aiospinach.testing.clock import MovableClock

from ..waiting import until
from .conftest import Shop


def brokers_of(engine: Engine) -> set[Any]:
    """The brokers that the engine and its parts hold."""
    parts = [engine, engine._producer, engine._producer._queue_watch, engine._dead_jobs, engine._workers]
    return {vars(part)["_broker"] for part in parts}


async def test_the_jobs_of_the_same_engine_and_tasks_are_in_memory_for_the_time_of_a_block(
    shop: Shop,
) -> None:
    engine, before = shop.engine, shop.engine._broker
    async with testing.memory(engine) as jobs:
        assert len(brokers_of(engine)) == 1
        assert before not in brokers_of(engine)
        job = await engine.schedule("note", "a")
        assert job.status is JobStatus.QUEUED
        assert jobs.scheduled == [job]
        assert (await engine.counts())["default"].ready == 1
        assert await engine.cancel(job) is JobStatus.QUEUED
    assert brokers_of(engine) == {before}


async def test_the_engine_is_as_before_after_an_error_and_records_nothing(shop: Shop) -> None:
    before = shop.engine._broker
    with pytest.raises(ZeroDivisionError):
        async with testing.memory(shop.engine) as jobs:
            raise ZeroDivisionError
    assert brokers_of(shop.engine) == {before}
    await signals.job_scheduled.send_async(shop.engine.namespace, job="one more")
    assert jobs.scheduled == []
    assert not any(
        signal.receivers for signal in vars(signals).values() if isinstance(signal, signals.SafeNamedSignal)
    )


async def test_each_block_begins_empty(shop: Shop) -> None:
    memory = testing.memory(shop.engine)
    for _ in range(2):
        async with memory as jobs:
            assert jobs.scheduled == []
            await shop.engine.schedule("note", "a")
            assert await jobs.drain() == 1


async def test_an_engine_whose_workers_run_is_refused(namespace: str) -> None:
    async with Engine(MemoryBroker(), namespace) as engine:
        await engine.start_workers(block=False)
        with pytest.raises(AlreadyRunning, match=r"run on MemoryBroker\(\): enter .* before .*def client"):
            async with testing.memory(engine):
                pass  # pragma: no cover
        assert type(engine._broker) is MemoryBroker


async def test_a_second_block_is_refused_and_leaves_the_first_as_it_is(
    shop: Shop, jobs: testing.Jobs
) -> None:
    with pytest.raises(InvalidValue, match="in the memory of a test already"):
        testing.memory(shop.engine).__enter__()
    await shop.engine.schedule("note", "a")
    assert await jobs.drain() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "shop:engine"}, "takes an Engine, not str"),
        ({"at": "2026-01-01"}, r"testing.memory\(at=\) takes a datetime"),
        ({"number": 0}, r"testing.memory\(number=\)"),
    ],
)
def test_bad_arguments_are_refused(shop: Shop, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        testing.memory(**{"engine": shop.engine, **arguments})


async def test_workers_that_outlive_the_block_are_an_error_after_all_is_restored(shop: Shop) -> None:
    before = shop.engine._broker
    with pytest.raises(AlreadyRunning, match="still run"):
        async with testing.memory(shop.engine):
            await shop.engine.start_workers(block=False)
    assert brokers_of(shop.engine) == {before}
    await shop.engine.stop_workers()


async def test_the_clock_begins_where_the_test_asks_for_it_and_runs(shop: Shop) -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    async with testing.memory(shop.engine, at=at) as jobs:
        assert timedelta(0) <= jobs.now - at < timedelta(seconds=10)
        before = jobs.now
        await until(lambda: jobs.now > before, "the clock runs")
        job = await shop.engine.schedule("note", "a")
        assert job.created_at >= before


@pytest.mark.parametrize("frozen_at", [0.1, 123_456_789.987_654_321, 1_796_000_000.123])
def test_a_moment_is_over_when_the_clock_stands_at_it(
    frozen_at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However floats are rounded, and also if the clock of the process stands still."""
    frozen = SimpleNamespace(time=lambda: frozen_at, monotonic=lambda: 0.0)
    monkeypatch.setattr("aiospinach.testing.clock.time", frozen)
    clock = MovableClock()
    for moment in range(1_800_000_000_000, 1_800_000_001_000, 7):
        clock.move_to(moment)
        assert int(clock.time() * 1000) == moment
    assert clock.monotonic() == pytest.approx(1_800_000_000.994 - frozen_at, abs=0.01)


async def test_travel_is_called_with_each_moment(shop: Shop) -> None:
    moments: list[datetime] = []
    async with testing.memory(shop.engine, travel=moments.append) as jobs:
        await shop.engine.schedule_at("note", jobs.now + timedelta(hours=1), "a")
        later = jobs.now + timedelta(hours=2)
        await jobs.advance(hours=2)
    assert len(moments) == 2
    assert moments[0] < later <= moments[1]


async def test_no_warning_says_that_no_worker_looks(
    shop: Shop, jobs: testing.Jobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("aiospinach.engine.queue_watch.WARN_AFTER", 0.0)
    await shop.engine.schedule("note", "a")
    looks = shop.engine._producer._queue_watch._looks[asyncio.get_running_loop()]
    await until(lambda: not looks.timers and not looks.tasks, "the look has ended")
    assert not caplog.records


# Workers of the application.


async def test_workers_of_the_application_wait_for_the_test(shop: Shop, jobs: testing.Jobs) -> None:
    async with shop.engine as engine:
        await engine.start_workers(block=False)
        pool = engine._workers.pool
        assert engine.health().is_connected
        await engine.schedule("note", "a")
        await until(
            lambda: pool is not None and pool.consumers[0].answered_at, "the worker has asked for jobs"
        )
        assert shop.done == []
        assert (await engine.counts())["default"].ready == 1
        assert await jobs.drain() == 1
        assert shop.done == ["a"]
        await engine.schedule("note", "b")
        await asyncio.sleep(0.01)  # no condition: it is asserted that nothing happens
        assert shop.done == ["a"]
        assert engine._workers.pool is pool
        await jobs.drain()
        assert shop.done == ["a", "b"]


async def test_workers_of_the_application_fire_no_tick_by_themselves(namespace: str) -> None:
    engine = Engine(MemoryBroker(), namespace)

    @engine.task(periodicity=timedelta(hours=1))
    async def hourly() -> None: ...

    async with testing.memory(engine) as jobs, engine:
        await engine.start_workers(block=False)
        pool = engine._workers.pool
        assert pool is not None
        due = jobs._broker.next_moment(["default"])
        assert due is not None
        jobs._broker.clock.move_to(due)
        ticked = asyncio.Event()
        pool.state.on_quiet = ticked.set
        pool.maintenances[0].ring()
        await ticked.wait()
        pool.state.on_quiet = None
        assert jobs.scheduled == []
        assert await jobs.drain() == 1


async def test_a_call_ends_after_the_receivers_of_a_tick(namespace: str) -> None:
    engine = Engine(MemoryBroker(), namespace)
    heard: list[str] = []

    @engine.task(name="hourly", periodicity=timedelta(hours=1))
    async def hourly() -> None: ...

    @signals.job_scheduled.connect_via(namespace)
    async def hear(namespace: str, job: Job, **kwargs: object) -> None:
        for _ in range(100):  # longer than the body
            await asyncio.sleep(0)
        heard.append(job.task_name)

    async with testing.memory(engine) as jobs, engine:
        await engine.start_workers(block=False)
        assert await jobs.advance(hours=1) == 1
        assert heard == ["hourly"]


async def test_jobs_run_in_the_scope_of_the_applications_workers(namespace: str) -> None:
    events: list[str] = []

    @contextlib.asynccontextmanager
    async def connected(engine: Engine) -> AsyncIterator[None]:
        events.append("open")
        yield
        events.append("close")

    engine = Engine(MemoryBroker(), namespace, lifespan=connected)

    @engine.task
    async def work() -> None:
        events.append("work")

    async with testing.memory(engine) as jobs, engine:
        await engine.start_workers(block=False)
        for _ in range(2):
            await work.schedule()
            await jobs.drain()
        await engine.stop_workers()
        assert events == ["open", "work", "work", "close"]
        await work.schedule()
        await jobs.drain()  # workers of the call
    assert events[4:] == ["open", "work", "close"]


async def test_workers_that_stop_when_empty_run_without_the_test(shop: Shop, jobs: testing.Jobs) -> None:
    await shop.engine.schedule("note", "a")
    await shop.engine.start_workers(stop_when_queue_empty=True)
    assert shop.done == ["a"]


async def test_they_need_not_wait_for_a_retry_if_the_test_moves_the_clock(namespace: str) -> None:
    engine = Engine(MemoryBroker(), namespace)
    tries: list[int] = []

    @engine.task(max_retries=1, backoff=lambda retry: 1200)
    async def flaky() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("no")

    async with testing.memory(engine) as jobs:
        await flaky.schedule()
        working = asyncio.create_task(engine.start_workers(stop_when_queue_empty=True))
        await until(lambda: engine._workers.pool and engine._workers.pool.stop_when_empty)
        with jobs.capture(signals.job_schedule_retry) as retries:
            await until(lambda: retries or tries, "the first try")
        await until(lambda: not engine._workers.pool.runs, "it has ended")  # type: ignore[union-attr]
        await jobs.advance(minutes=20)
        await working
    assert len(tries) == 2


request_id: ContextVar[str] = ContextVar("request_id", default="-")


async def test_jobs_do_not_see_the_context_of_the_code_under_test(namespace: str) -> None:
    engine = Engine(MemoryBroker(), namespace)
    seen: list[str] = []

    @engine.task
    async def work() -> None:
        seen.append(request_id.get())

    async with testing.memory(engine) as jobs:
        request_id.set("r-1")
        await work.schedule()
        await jobs.drain()
        engine.carry(request_id)
        await work.schedule()
        await jobs.drain()
    assert seen == ["-", "r-1"]


# Applications.


class App:
    """A FastAPI application whose jobs note the event loop that they run in."""

    def __init__(self, namespace: str, *, runs_workers: bool) -> None:
        self.engine = Engine(RedisBrokerThatIsAway(), namespace)
        self.loops: list[object] = []
        self.app_loop: object = None

        @contextlib.asynccontextmanager
        async def only_entered(app: FastAPI) -> AsyncIterator[None]:
            self.app_loop = asyncio.get_running_loop()
            async with self.engine:
                yield

        @contextlib.asynccontextmanager
        async def inner(app: FastAPI) -> AsyncIterator[None]:
            self.app_loop = asyncio.get_running_loop()
            yield

        self.app = FastAPI(lifespan=lifespan(self.engine, inner=inner) if runs_workers else only_entered)

        @self.engine.task(name="welcome")
        async def welcome(name: str) -> None:
            self.loops.append(asyncio.get_running_loop())

        @self.app.post("/users/{name}")
        async def sign_up(name: str) -> None:
            await welcome.schedule(name)


class RedisBrokerThatIsAway(MemoryBroker):
    async def open(self, namespace: str, *, until: float | None = None) -> None:
        raise BrokerUnavailable("no test may reach it")


def test_a_plain_test_with_a_test_client_runs_jobs_in_the_loop_of_the_application(namespace: str) -> None:
    app = App(namespace, runs_workers=True)
    with testing.memory(app.engine) as jobs, TestClient(app.app) as client:
        client.post("/users/ann")
        jobs.assert_scheduled("welcome", "ann", count=1)
        assert app.loops == []
        assert jobs.blocking.drain() == 1
        assert app.loops == [app.app_loop]


def test_a_plain_test_of_an_application_without_workers_runs_jobs_too(namespace: str) -> None:
    app = App(namespace, runs_workers=False)
    with testing.memory(app.engine) as jobs, TestClient(app.app) as client:
        client.post("/users/ann")
        assert jobs.blocking.drain() == 1
        assert len(app.loops) == 1
        assert app.loops != [app.app_loop]
        client.post("/users/bob")
        assert jobs.blocking.advance(hours=1) == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "aiospinach-blocking"]


async def test_an_async_test_with_httpx_runs_jobs_in_its_own_loop(namespace: str) -> None:
    app = App(namespace, runs_workers=True)  # httpx does not run the lifespan
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app.app), base_url="http://test")
    async with testing.memory(app.engine) as jobs, client:
        await client.post("/users/ann")
        jobs.assert_scheduled("welcome", "ann")
        assert await jobs.drain() == 1
    assert app.loops == [asyncio.get_running_loop()]


async def test_an_async_test_drains_workers_of_another_loop(namespace: str) -> None:
    app = App(namespace, runs_workers=True)
    async with testing.memory(app.engine) as jobs:
        client = await asyncio.to_thread(TestClient(app.app).__enter__)
        await asyncio.to_thread(client.post, "/users/ann")
        assert await jobs.drain() == 1
        assert app.loops == [app.app_loop]
        await asyncio.to_thread(client.__exit__, None, None, None)


async def test_blocking_calls_refuse_to_block_a_loop(jobs: testing.Jobs, shop: Shop) -> None:
    with pytest.raises(WouldBlock, match=r"'await jobs.drain\(\)'"):
        jobs.blocking.drain()
    with pytest.raises(WouldBlock):
        jobs.blocking.advance(days=1)
    with pytest.raises(WouldBlock):
        jobs.blocking.repeat(shop.engine._tasks.find("note"), "a")


def test_blocking_calls_return_and_raise_as_their_originals(namespace: str) -> None:
    engine = Engine(MemoryBroker(), namespace)

    @engine.task(max_retries=1)
    async def work(fail: bool = False) -> int:
        job = current_job()
        assert isinstance(job, Job)
        if fail:
            raise ZeroDivisionError
        return job.crashes

    with testing.memory(engine) as jobs:
        assert jobs.blocking.repeat(work) == (0, 1)
        engine.blocking.schedule(work, fail=True)
        with pytest.raises(ZeroDivisionError):
            jobs.blocking.drain()
        assert jobs.blocking.advance(hours=1, raise_errors=False) == 1
    engine.blocking.close()
