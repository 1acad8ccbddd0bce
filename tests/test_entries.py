"""``async with engine``: leaving stops what was started within, and closes what nobody needs any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextvars import copy_context
from typing import Any

import pytest
import redis.asyncio

from aiospinach import Broker, Engine, MemoryBroker, RedisBroker, Task

from .brokers_under_test import BROKERS, MakeBroker, shared_server
from .waiting import until


@pytest.fixture(params=BROKERS)
def engine(request: pytest.FixtureRequest, namespace: str) -> Engine:
    """One that nobody has entered."""
    make_broker: MakeBroker = request.param
    return Engine(make_broker(), namespace)


@pytest.fixture
def ran() -> list[str]:
    return []


@pytest.fixture
def job(engine: Engine, ran: list[str]) -> Task[[str], Any]:
    """A job that notes that it ran."""

    async def job(name: str) -> None:
        ran.append(name)

    return engine.task(job)


async def works(ran: list[str], job: Task[[str], Any]) -> bool:
    """The workers run, and run what is scheduled now."""
    name = f"job-{len(ran)}"
    await job.schedule(name)
    await until(lambda: name in ran)
    return True


async def in_a_thread(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run it in a thread, in an event loop of its own and a copy of this context."""
    thread = threading.Thread(target=copy_context().run, args=(asyncio.run, coroutine))
    thread.start()
    await until(lambda: not thread.is_alive(), "the thread has ended")


async def visit(engine: Engine, job: Task[[str], Any], name: str) -> None:
    """What an endpoint does."""
    async with engine:
        await job.schedule(name)


async def test_leaving_stops_the_workers_that_were_started_within(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    async with engine:
        await engine.start_workers(block=False)
        assert await works(ran, job)
    assert not engine.health().is_running


async def test_another_task_of_the_loop_enters_and_leaves_and_the_workers_go_on(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    async with engine:
        await engine.start_workers(block=False)
        await asyncio.create_task(visit(engine, job, "visit"))
        await until(lambda: "visit" in ran)
        assert engine.health().is_running
        assert await works(ran, job)
    assert not engine.health().is_running


async def test_another_task_that_entered_before_the_start_leaves_and_the_workers_go_on(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    entered, may_leave = asyncio.Event(), asyncio.Event()

    async def visitor() -> None:
        async with engine:
            entered.set()
            await may_leave.wait()

    visiting = asyncio.create_task(visitor())
    await entered.wait()
    async with engine:
        await engine.start_workers(block=False)
        may_leave.set()
        await visiting
        assert await works(ran, job)
    assert not engine.health().is_running


async def test_a_thread_with_a_loop_of_its_own_enters_and_leaves_and_the_workers_go_on(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    async with engine:
        await engine.start_workers(block=False)
        thread = threading.Thread(target=lambda: asyncio.run(visit(engine, job, "thread")))
        thread.start()
        await until(lambda: not thread.is_alive())
        await in_a_thread(visit(engine, job, "copied context"))
        await until(lambda: {"thread", "copied context"} <= set(ran))
        assert await works(ran, job)
    assert not engine.health().is_running


async def test_a_job_enters_and_leaves_and_the_workers_go_on(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    @engine.task
    async def visiting() -> None:
        await visit(engine, job, "within")

    async with engine:
        await engine.start_workers(block=False)
        await visiting.schedule()
        await until(lambda: "within" in ran)
        assert await works(ran, job)
    assert not engine.health().is_running


async def test_workers_that_were_started_outside_of_any_entry_go_on(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    await engine.start_workers(block=False)
    await visit(engine, job, "visit")
    assert await works(ran, job)
    await engine.stop_workers()
    async with engine:
        pass


async def test_workers_that_somebody_waits_for_go_on_when_a_visitor_leaves(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    """They were started outside of any entry, while somebody else's was open."""
    entered, may_leave = asyncio.Event(), asyncio.Event()

    async def visitor() -> None:
        async with engine:
            entered.set()
            await may_leave.wait()

    visiting = asyncio.create_task(visitor())
    await entered.wait()
    working = asyncio.create_task(engine.start_workers())
    assert await works(ran, job)
    may_leave.set()
    await visiting
    assert await works(ran, job)
    await engine.stop_workers()
    await working
    async with engine:
        pass


async def test_the_inner_of_nested_entries_stops_its_own_workers_and_no_others(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    async with engine:
        async with engine:
            await engine.start_workers(block=False)
            async with engine:
                pass
            assert await works(ran, job)
        assert not engine.health().is_running
        await engine.start_workers(block=False)
        async with engine:
            pass
        assert await works(ran, job)
    assert not engine.health().is_running


async def test_entries_of_two_engines_may_overlap(namespace: str) -> None:
    first, second = (Engine(MemoryBroker(), f"{namespace}-{number}") for number in (1, 2))
    async with first, second:
        await first.start_workers(block=False)
        async with first:
            await second.start_workers(block=False)
        assert first.health().is_running
        assert second.health().is_running
    assert not first.health().is_running
    assert not second.health().is_running


async def test_an_entry_of_another_context_keeps_the_workers_that_a_task_started_without_one(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    """A lifespan is a task of its own, and so is each request, in which workers may be started."""
    started, may_stop = asyncio.Event(), asyncio.Event()

    async def lifespan() -> None:
        async with engine:
            started.set()
            await may_stop.wait()

    living = asyncio.create_task(lifespan())
    await started.wait()
    await engine.start_workers(block=False)
    await visit(engine, job, "visit")
    assert await works(ran, job)
    may_stop.set()
    await living
    assert not engine.health().is_running


async def test_an_entry_may_be_left_in_another_context_than_it_was_entered_in(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    async def fixture() -> AsyncIterator[Engine]:
        async with engine as entered:
            yield entered

    for _ in range(3):
        generator = fixture()
        await asyncio.create_task(anext(generator))  # type: ignore[arg-type]
        await engine.start_workers(block=False)
        assert await works(ran, job)
        with pytest.raises(StopAsyncIteration):
            await asyncio.create_task(anext(generator))  # type: ignore[arg-type]
        assert not engine.health().is_running


def connections(broker: Broker) -> int:
    """How many of the server's clients are this broker's, in all event loops."""
    assert isinstance(broker, RedisBroker)
    with shared_server().client() as client:
        return sum(entry["name"] == "entries" for entry in client.client_list())


@pytest.fixture
def broker() -> RedisBroker:
    client = redis.asyncio.Redis(unix_socket_path=str(shared_server().socket), client_name="entries")
    return RedisBroker(client)


async def test_the_last_entry_of_a_loop_closes_its_connections(broker: RedisBroker, namespace: str) -> None:
    engine = Engine(broker, namespace)

    @engine.task
    async def job(name: str) -> None:
        pass

    async with engine:
        await job.schedule("first")
        before = connections(broker)
        assert before > 0
        await visit(engine, job, "visit")
        assert connections(broker) == before
        await in_a_thread(visit(engine, job, "other loop"))
        assert connections(broker) == before
    await until(lambda: connections(broker) == 0)


async def test_workers_outside_of_any_entry_keep_their_connections(
    broker: RedisBroker, namespace: str
) -> None:
    engine = Engine(broker, namespace)
    ran: list[str] = []

    @engine.task
    async def job(name: str) -> None:
        ran.append(name)

    await engine.start_workers(block=False)
    assert await works(ran, job)
    try:
        before = connections(broker)
        await visit(engine, job, "visit")
        assert connections(broker) == before
        assert await works(ran, job)
    finally:
        await engine.stop_workers()
        async with engine:
            pass
    await until(lambda: connections(broker) == 0)
