"""Shutdown with threads, stubborn bodies, cancelled jobs and hanging calls; repeated calls after failures."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import Engine, JobStatus, MemoryBroker, signals

from ..conftest import Heard, LoopFactory
from ..waiting import until
from .failing import FailingBroker


def test_a_thread_is_awaited_when_the_program_ends(namespace: str, new_loop: LoopFactory) -> None:
    engine = Engine(MemoryBroker(), namespace)
    began, at_once, most = threading.Event(), 0, 0

    @engine.task(max_retries=3)
    def body() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        began.set()
        time.sleep(0.2)
        at_once -= 1

    async def first() -> None:
        await body.schedule()
        await engine.start_workers(block=False)
        await until(began.is_set)  # the program ends without a stop

    async def second() -> None:
        await engine.start_workers(stop_when_queue_empty=True)

    for main in (first, second):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    assert most == 1
    assert at_once == 0


async def test_job_finished_is_sent_once_for_each_stubborn_body(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiospinach.workers.draining.INTERRUPT_GRACE", 0.05)
    finished: Counter[str] = Counter()
    may_end = asyncio.Event()
    running = 0

    @engine.task
    async def body(number: int) -> None:
        nonlocal running
        running += 1
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue

    @signals.job_finished.connect_via(engine.namespace)
    async def count(namespace: str, job: Any, **kwargs: Any) -> None:
        finished[job.id] += 1
        may_end.set()
        await asyncio.sleep(0.05)

    for number in range(6):
        await body.schedule(number)
    await engine.start_workers(6, block=False, shutdown_timeout=0)
    await until(lambda: running == 6)
    await engine.stop_workers()
    assert sorted(finished.values()) == [1] * 6


async def test_a_job_cancelled_during_the_stop_is_not_released(engine: Engine, heard: Heard) -> None:
    began, cleaning, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @engine.task(max_retries=3)
    async def body() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await may_end.wait()

    job = await body.schedule()
    await engine.start_workers(block=False, shutdown_timeout=0)
    await began.wait()
    stopping = asyncio.create_task(engine.stop_workers())
    await cleaning.wait()  # the body has been interrupted
    assert await engine.cancel(job) is JobStatus.RUNNING
    await asyncio.sleep(0)
    may_end.set()
    await stopping
    assert heard.last("job_finished")["job"].status is JobStatus.CANCELLED
    assert heard.count("job_cancelled") == 1


async def test_a_cancelled_retry_does_not_keep_the_workers(engine: Engine, heard: Heard) -> None:
    @engine.task(max_retries=1, backoff=lambda attempt: 600.0)
    async def body() -> None:
        raise ValueError

    job = await body.schedule()
    running = asyncio.create_task(engine.start_workers(stop_when_queue_empty=True))
    await until(lambda: heard.count("job_schedule_retry"), "it waits for its retry")
    assert await engine.cancel(job) is JobStatus.WAITING
    async with asyncio.timeout(10):
        await running


async def test_a_failed_registration_is_repeated_until_it_succeeds(
    engine: Engine, broker: FailingBroker
) -> None:
    ran = asyncio.Event()
    await engine.start_workers(block=False)
    await until(lambda: engine.health().is_connected)
    broker.go_away("register")

    @engine.task(periodicity=timedelta(seconds=0.1))
    async def tick() -> None:
        ran.set()

    await until(lambda: broker.refused["register"], "it was tried")
    broker.come_back()
    async with asyncio.timeout(10):
        await ran.wait()


async def test_a_failed_renewal_is_repeated_before_the_lease_ends(namespace: str, heard: Heard) -> None:
    broker = FailingBroker(lease=0.8)
    async with Engine(broker, namespace) as engine:
        may_end = asyncio.Event()

        @engine.task
        async def body() -> None:
            await may_end.wait()

        await body.schedule()
        await engine.start_workers(block=False)
        broker.go_away("renew")
        await until(lambda: broker.refused["renew"] >= 2, "it was tried twice")
        broker.come_back()
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 1.0)
        may_end.set()
        await until(lambda: heard.count("job_finished"))
        assert heard.last("job_finished")["err"] is None


@pytest.mark.parametrize("call", ["tick", "sweep", "wait"])
async def test_a_hanging_call_does_not_delay_the_stop(
    namespace: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    hangs = asyncio.Event()

    async def hang(*args: object, **kwargs: object) -> None:
        hangs.set()
        await asyncio.Event().wait()

    broker = MemoryBroker()
    monkeypatch.setattr(broker, call, hang)
    async with Engine(broker, namespace) as engine:

        @engine.task
        async def body() -> None:
            pass

        await body.schedule_at(datetime.now(UTC) + timedelta(seconds=0.05))  # makes the maintenance tick
        await engine.start_workers(block=False, shutdown_timeout=0.1)
        async with asyncio.timeout(10):
            await hangs.wait()
            await engine.stop_workers()
