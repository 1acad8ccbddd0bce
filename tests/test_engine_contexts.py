"""``async with engine``: leaving it stops the workers started inside, and closes unused connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import copy_context
from typing import Any

import pytest
import redis.asyncio

from aiospinach import (
    Batch,
    Broker,
    Engine,
    InvalidValue,
    Job,
    MemoryBroker,
    NotAttached,
    RedisBroker,
    Task,
    Tasks,
)

from .brokers_under_test import BROKERS, MakeBroker, shared_server
from .waiting import until


@pytest.fixture(params=BROKERS)
def engine(request: pytest.FixtureRequest, namespace: str) -> Engine:
    """An engine that has not been entered."""
    make_broker: MakeBroker = request.param
    return Engine(make_broker(), namespace)


@pytest.fixture
def ran() -> list[str]:
    return []


@pytest.fixture
def job(engine: Engine, ran: list[str]) -> Task[[str], Any]:
    """A task that records its runs."""

    async def job(name: str) -> None:
        ran.append(name)

    return engine.task(job)


async def runs_jobs(ran: list[str], job: Task[[str], Any]) -> bool:
    """Schedule a job, and wait until the workers have run it."""
    name = f"job-{len(ran)}"
    await job.schedule(name)
    await until(lambda: name in ran)
    return True


async def in_a_thread(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in another thread, in a new event loop and a copy of this context."""
    thread = threading.Thread(target=copy_context().run, args=(asyncio.run, coroutine))
    thread.start()
    await until(lambda: not thread.is_alive(), "the thread has ended")


async def visit(engine: Engine, job: Task[[str], Any], name: str) -> None:
    """Enter the engine, schedule a job, and leave, as an endpoint does."""
    async with engine:
        await job.schedule(name)


async def test_leaving_stops_the_workers_started_inside(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    async with engine:
        await engine.start_workers(block=False)
        assert await runs_jobs(ran, job)
    assert not engine.health().is_running


async def test_workers_keep_running_when_another_task_enters_and_leaves(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    async with engine:
        await engine.start_workers(block=False)
        await asyncio.create_task(visit(engine, job, "visit"))
        await until(lambda: "visit" in ran)
        assert engine.health().is_running
        assert await runs_jobs(ran, job)
    assert not engine.health().is_running


async def test_workers_keep_running_when_a_task_that_entered_earlier_leaves(
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
        assert await runs_jobs(ran, job)
    assert not engine.health().is_running


async def test_workers_keep_running_when_another_thread_enters_and_leaves(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    async with engine:
        await engine.start_workers(block=False)
        thread = threading.Thread(target=lambda: asyncio.run(visit(engine, job, "thread")))
        thread.start()
        await until(lambda: not thread.is_alive())
        await in_a_thread(visit(engine, job, "copied context"))
        await until(lambda: {"thread", "copied context"} <= set(ran))
        assert await runs_jobs(ran, job)
    assert not engine.health().is_running


async def test_workers_keep_running_when_a_job_enters_and_leaves(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    @engine.task
    async def visiting() -> None:
        await visit(engine, job, "within")

    async with engine:
        await engine.start_workers(block=False)
        await visiting.schedule()
        await until(lambda: "within" in ran)
        assert await runs_jobs(ran, job)
    assert not engine.health().is_running


async def test_workers_started_outside_of_any_context_keep_running(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    await engine.start_workers(block=False)
    await visit(engine, job, "visit")
    assert await runs_jobs(ran, job)
    await engine.stop_workers()
    async with engine:
        pass


async def test_workers_of_a_blocking_start_keep_running_when_another_task_leaves(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    """The workers were started outside of any context, while another task's was open."""
    entered, may_leave = asyncio.Event(), asyncio.Event()

    async def visitor() -> None:
        async with engine:
            entered.set()
            await may_leave.wait()

    visiting = asyncio.create_task(visitor())
    await entered.wait()
    working = asyncio.create_task(engine.start_workers())
    assert await runs_jobs(ran, job)
    may_leave.set()
    await visiting
    assert await runs_jobs(ran, job)
    await engine.stop_workers()
    await working
    async with engine:
        pass


async def test_a_nested_context_stops_only_its_own_workers(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    async with engine:
        async with engine:
            await engine.start_workers(block=False)
            async with engine:
                pass
            assert await runs_jobs(ran, job)
        assert not engine.health().is_running
        await engine.start_workers(block=False)
        async with engine:
            pass
        assert await runs_jobs(ran, job)
    assert not engine.health().is_running


async def test_contexts_of_two_engines_may_overlap(namespace: str) -> None:
    first, second = (Engine(MemoryBroker(), f"{namespace}-{number}") for number in (1, 2))
    async with first, second:
        await first.start_workers(block=False)
        async with first:
            await second.start_workers(block=False)
        assert first.health().is_running
        assert second.health().is_running
    assert not first.health().is_running
    assert not second.health().is_running


async def test_workers_started_in_a_request_stop_with_the_lifespan(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    """A lifespan is a task of its own, and so is each request; workers may be started in a request."""
    started, may_stop = asyncio.Event(), asyncio.Event()

    async def lifespan() -> None:
        async with engine:
            started.set()
            await may_stop.wait()

    living = asyncio.create_task(lifespan())
    await started.wait()
    await engine.start_workers(block=False)
    await visit(engine, job, "visit")
    assert await runs_jobs(ran, job)
    may_stop.set()
    await living
    assert not engine.health().is_running


async def test_an_engine_may_be_left_in_another_contextvars_context(
    engine: Engine, job: Task[[str], Any], ran: list[str]
) -> None:
    async def fixture() -> AsyncIterator[Engine]:
        async with engine as entered:
            yield entered

    for _ in range(3):
        generator = fixture()
        await asyncio.create_task(anext(generator))  # type: ignore[arg-type]
        await engine.start_workers(block=False)
        assert await runs_jobs(ran, job)
        with pytest.raises(StopAsyncIteration):
            await asyncio.create_task(anext(generator))  # type: ignore[arg-type]
        assert not engine.health().is_running


def connections(broker: Broker) -> int:
    """The number of this broker's connections, in all event loops, as the server counts them."""
    assert isinstance(broker, RedisBroker)
    with shared_server().client() as client:
        return sum(entry["name"] == "entries" for entry in client.client_list())


@pytest.fixture
def broker() -> RedisBroker:
    client = redis.asyncio.Redis(unix_socket_path=str(shared_server().socket), client_name="entries")
    return RedisBroker(client)


async def test_leaving_the_last_context_of_a_loop_closes_its_connections(
    broker: RedisBroker, namespace: str
) -> None:
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


async def test_workers_outside_of_any_context_keep_their_connections(
    broker: RedisBroker, namespace: str
) -> None:
    engine = Engine(broker, namespace)
    ran: list[str] = []

    @engine.task
    async def job(name: str) -> None:
        ran.append(name)

    await engine.start_workers(block=False)
    assert await runs_jobs(ran, job)
    try:
        before = connections(broker)
        await visit(engine, job, "visit")
        assert connections(broker) == before
        assert await runs_jobs(ran, job)
    finally:
        await engine.stop_workers()
        async with engine:
            pass
    await until(lambda: connections(broker) == 0)


# An engine that has ended is ignored when a task looks for its engine. The traceback of a failed test, for
# instance, keeps one alive.


shared = Tasks(queue="mail")


@shared.task(name="shared")
async def shared_task() -> None:
    pass


def engine_with_shared(broker: Broker, namespace: str) -> Engine:
    engine = Engine(broker, namespace)
    engine.attach_tasks(shared)
    return engine


async def use_another_engine(make_broker: MakeBroker, namespace: str) -> Job:
    async with engine_with_shared(make_broker(), namespace):
        return await shared_task.schedule()


async def enter(engine: Engine) -> None:
    async with engine:
        await engine.schedule(shared_task)


async def run_all(engine: Engine) -> None:
    await engine.start_workers(queue="mail", stop_when_queue_empty=True)


async def schedule(engine: Engine) -> None:
    await engine.schedule(shared_task)


async def schedule_a_batch(engine: Engine) -> None:
    await engine.schedule_batch(Batch().schedule(shared_task))


async def make(broker: Broker, namespace: str) -> Engine:
    return engine_with_shared(broker, namespace)


@pytest.mark.parametrize("make_broker", BROKERS)
@pytest.mark.parametrize("use", [enter, run_all, schedule, schedule_a_batch])
def test_a_task_ignores_an_engine_whose_loop_has_ended(
    make_broker: MakeBroker, namespace: str, use: Callable[[Engine], Coroutine[Any, Any, None]]
) -> None:
    first = engine_with_shared(make_broker(), f"{namespace}-first")
    asyncio.run(use(first))
    assert first.has_ended
    assert asyncio.run(use_another_engine(make_broker, namespace)).namespace == namespace


@pytest.mark.parametrize("make_broker", BROKERS)
def test_a_task_ignores_an_engine_created_in_a_loop_that_has_ended(
    make_broker: MakeBroker, namespace: str
) -> None:
    first = asyncio.run(make(make_broker(), f"{namespace}-first"))
    assert first.has_ended
    assert asyncio.run(use_another_engine(make_broker, namespace)).namespace == namespace


@pytest.mark.parametrize("make_broker", BROKERS)
@pytest.mark.parametrize("use", [enter, run_all])
async def test_a_task_ignores_an_engine_that_was_left_in_the_same_loop(
    make_broker: MakeBroker, namespace: str, use: Callable[[Engine], Coroutine[Any, Any, None]]
) -> None:
    first = engine_with_shared(make_broker(), f"{namespace}-first")
    await use(first)
    assert first.has_ended
    assert (await use_another_engine(make_broker, namespace)).namespace == namespace
    async with first:
        assert not first.has_ended
        with pytest.raises(
            NotAttached, match=f"2 engines.*<Engine {namespace}-first on .*leaving 'async with"
        ):
            await use_another_engine(make_broker, namespace)


async def test_a_task_considers_an_engine_that_is_running_or_unused(namespace: str) -> None:
    first = engine_with_shared(MemoryBroker(), f"{namespace}-first")
    assert not first.has_ended
    await first.start_workers(queue="mail", block=False)
    async with first:
        pass
    assert not first.has_ended
    with pytest.raises(NotAttached, match="2 engines"):
        await use_another_engine(MemoryBroker, namespace)
    await first.stop_workers()
    assert (await use_another_engine(MemoryBroker, namespace)).namespace == namespace


async def test_a_task_uses_its_only_engine_even_if_that_has_ended(namespace: str) -> None:
    only, tasks = Engine(MemoryBroker(), namespace), Tasks()

    @tasks.task
    async def of_one_engine() -> None:
        pass

    only.attach_tasks(tasks)
    async with only:
        pass
    assert only.has_ended
    assert (await of_one_engine.schedule()).namespace == namespace


@pytest.mark.parametrize("make_broker", BROKERS)
async def test_a_broker_can_be_given_to_another_engine_when_its_own_has_ended(
    make_broker: MakeBroker, namespace: str
) -> None:
    broker = make_broker()
    first = Engine(broker, namespace)
    with pytest.raises(InvalidValue, match=f"belongs to another engine, <Engine {namespace}"):
        Engine(broker, namespace)
    async with first:
        pass
    second = Engine(broker, namespace)
    with pytest.raises(InvalidValue, match="belongs to another engine"):
        await first.start_workers()
    with pytest.raises(InvalidValue, match="belongs to another engine"):
        await first.__aenter__()
    async with second:
        pass
