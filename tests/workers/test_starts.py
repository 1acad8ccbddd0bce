"""A start runs the receivers of worker_started before any job is fetched, and fails with their errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiospinach import Engine, MemoryBroker, signals

from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError("own")], ids=repr)
async def test_a_base_exception_of_a_receiver_is_the_cause_of_a_runtime_error(
    engine: Engine, error: BaseException
) -> None:
    async def opens(namespace: str, **kwargs: Any) -> None:
        raise error

    signals.worker_started.connect_via(engine.namespace)(opens)
    with pytest.raises(RuntimeError, match=f"worker_started raised {type(error).__name__}") as raised:
        await engine.start_workers()
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_error_of_a_receiver_of_worker_started_is_raised_by_the_start(
    engine: Engine, heard: Heard, is_async: bool
) -> None:
    @engine.task
    async def job() -> None:
        pass

    def plain(namespace: str, **kwargs: Any) -> None:
        raise ConnectionError("the database is away")

    async def opens(namespace: str, **kwargs: Any) -> None:
        plain(namespace)

    receiver = opens if is_async else plain
    signals.worker_started.connect_via(engine.namespace)(receiver)
    await job.schedule()
    for block in (True, False):
        with pytest.raises(ConnectionError, match="the database is away"):
            await engine.start_workers(block=block)
        assert not engine.health().is_running
    assert heard.names() == ["job_scheduled", *["worker_started", "worker_terminated"] * 2]
    signals.worker_started.disconnect(receiver, engine.namespace)
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.count("job_finished") == 1


async def test_no_job_is_fetched_before_the_receivers_of_worker_started_have_ended(
    namespace: str, heard: Heard
) -> None:
    opened = asyncio.Event()
    async with Engine(MemoryBroker(), namespace, signal_timeout=0.001) as engine:

        @engine.task
        async def job() -> bool:
            return opened.is_set()

        @signals.worker_started.connect_via(namespace)
        async def opens(namespace: str, **kwargs: Any) -> None:
            await asyncio.sleep(0.05)  # longer than the timeout of other signals
            opened.set()

        await job.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
    assert heard.last("job_finished")["result"] is True


async def test_a_start_with_a_slow_receiver_can_be_stopped(namespace: str, heard: Heard) -> None:
    cancelled = asyncio.Event()
    engine = Engine(MemoryBroker(), namespace, signal_timeout=0.01)

    @signals.worker_started.connect_via(namespace)
    async def opens(namespace: str, **kwargs: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    workers = asyncio.create_task(engine.start_workers())
    await until(lambda: heard.count("worker_started"))
    await engine.stop_workers()
    await workers
    assert cancelled.is_set()
    assert heard.names() == ["worker_started", "worker_terminated"]


class HangingBroker(FailingBroker):
    """Accepts a connection, and never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.opening = 0

    async def open(self, namespace: str, **options: Any) -> None:
        self.opening += 1
        await asyncio.Event().wait()


async def test_a_start_on_a_store_that_never_answers_can_be_stopped(namespace: str, heard: Heard) -> None:
    broker = HangingBroker()
    engine = Engine(broker, namespace)
    workers = asyncio.create_task(engine.start_workers())
    await until(lambda: broker.opening)
    await engine.stop_workers()
    await workers
    assert heard.names() == []
