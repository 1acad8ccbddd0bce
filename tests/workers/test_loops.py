"""One engine works in many event loops, in sequence and concurrently, also after one was abandoned."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from aiospinach import Engine, Interrupted, JobStatus, WorkerLost

from ..conftest import Heard, LoopFactory
from ..waiting import until
from .failing import FailingBroker
from .job_results import reasons_of_death

T = TypeVar("T")


def run(new_loop: LoopFactory, main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` with the tested kind of event loop."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def run_and_abandon(new_loop: LoopFactory, main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` in a loop that is then closed without ending the tasks in it."""
    loop = new_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it is called for each destroyed task
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def test_one_engine_runs_jobs_in_many_loops(new_loop: LoopFactory, namespace: str, heard: Heard) -> None:
    engine = Engine(FailingBroker(), namespace)
    ran: list[int] = []

    @engine.task
    async def job(number: int) -> None:
        ran.append(number)

    async def main(number: int) -> None:
        await job.schedule(number)
        await engine.start_workers(stop_when_queue_empty=True)

    for number in range(20):
        run(new_loop, main(number))
    assert ran == list(range(20))


def test_jobs_left_by_one_loop_run_in_the_next(new_loop: LoopFactory, namespace: str, heard: Heard) -> None:
    engine = Engine(FailingBroker(), namespace)
    ran: list[int] = []

    @engine.task
    async def job(number: int) -> None:
        ran.append(number)

    async def schedule() -> None:
        for number in range(10):
            await job.schedule(number)

    async def work_for_a_while() -> None:
        await engine.start_workers(1, block=False)
        await until(lambda: len(ran) >= 3)
        await engine.stop_workers()

    run(new_loop, schedule())
    run(new_loop, work_for_a_while())
    run(new_loop, engine.start_workers(1, stop_when_queue_empty=True))
    assert ran == list(range(10))


@pytest.mark.parametrize("max_retries", [0, 1])
def test_the_end_of_a_loop_interrupts_its_workers_cleanly(
    new_loop: LoopFactory, namespace: str, heard: Heard, max_retries: int
) -> None:
    broker = FailingBroker()
    engine = Engine(broker, namespace)
    ran: list[int] = []

    @engine.task(max_retries=max_retries)
    async def job() -> None:
        ran.append(1)
        if len(ran) == 1:
            await asyncio.Event().wait()

    async def main() -> None:
        await job.schedule()
        await engine.start_workers(block=False)
        await until(lambda: ran)

    run(new_loop, main())
    assert heard.names()[-2:] == ["job_finished", "worker_terminated"]
    finish = heard.last("job_finished")
    assert isinstance(finish["err"], Interrupted)
    assert finish["job"].status is (JobStatus.QUEUED if max_retries else JobStatus.FAILED)
    run(new_loop, engine.start_workers(stop_when_queue_empty=True))
    assert len(ran) == 1 + max_retries
    assert len(run(new_loop, reasons_of_death(broker))) == 1 - max_retries


@pytest.mark.parametrize("collect", [True, False])
def test_jobs_of_an_abandoned_loop_are_recovered(
    new_loop: LoopFactory, namespace: str, heard: Heard, collect: bool
) -> None:
    engine = Engine(FailingBroker(lease=0.1), namespace)
    ran: list[int] = []

    @engine.task(max_retries=1)
    async def job(number: int) -> None:
        ran.append(number)
        if len(ran) <= 3:
            await asyncio.Event().wait()

    async def first() -> None:
        for number in range(3):
            await job.schedule(number)
        await engine.start_workers(block=False)
        await until(lambda: len(ran) == 3)

    async def second() -> None:
        await engine.start_workers(stop_when_queue_empty=True)
        gc.collect()
        await asyncio.sleep(0)

    run_and_abandon(new_loop, first())
    if collect:
        gc.collect()
    run(new_loop, second())
    gc.collect()
    assert sorted(ran) == [0, 0, 1, 1, 2, 2]
    assert heard.count("job_schedule_retry") == 3
    assert isinstance(heard.last("job_schedule_retry")["err"], WorkerLost)
    # The runs in the closed loop sent no job_finished, each of the others one.
    assert heard.count("job_started") == 6
    assert heard.count("job_finished") == 3


def test_no_signal_is_sent_when_an_abandoned_loop_is_collected(
    new_loop: LoopFactory, namespace: str, heard: Heard
) -> None:
    engine = Engine(FailingBroker(), namespace)
    began: list[int] = []

    @engine.task
    async def job() -> None:
        began.append(1)
        await asyncio.Event().wait()

    async def first() -> None:
        await job.schedule()
        await engine.start_workers(block=False)
        await until(lambda: began)

    async def second() -> None:
        # The start drops the engine's references to the old pool; the garbage collector does the rest.
        await engine.start_workers(block=False)
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0.01)
        await engine.stop_workers()

    run_and_abandon(new_loop, first())
    before = heard.names()
    assert before == ["job_scheduled", "worker_started", "job_started"]
    run(new_loop, second())
    assert heard.names()[3:] == ["worker_started", "worker_terminated"]


def test_a_job_whose_loop_is_abandoned_three_times_is_poison(
    new_loop: LoopFactory, namespace: str, heard: Heard
) -> None:
    broker = FailingBroker(lease=0.1)
    engine = Engine(broker, namespace)
    ran: list[int] = []

    @engine.task(max_retries=10)
    async def killer() -> None:
        ran.append(1)
        await asyncio.Event().wait()

    async def work_until(number: int) -> None:
        await engine.start_workers(block=False)
        await until(lambda: len(ran) == number)

    run(new_loop, engine.schedule(killer))
    for number in (1, 2, 3):
        run_and_abandon(new_loop, work_until(number))
    run(new_loop, engine.start_workers(stop_when_queue_empty=True))
    assert len(ran) == 3
    assert isinstance(heard.last("job_failed")["err"], WorkerLost)
    assert list(run(new_loop, reasons_of_death(broker)).values()) == ["poison"]


def test_workers_of_an_abandoned_loop_can_be_stopped_and_replaced(
    new_loop: LoopFactory, namespace: str, heard: Heard
) -> None:
    engine = Engine(FailingBroker(), namespace)
    began: list[int] = []

    @engine.task
    async def job() -> None:
        began.append(1)
        await asyncio.Event().wait()

    async def first() -> None:
        await job.options(id="one").schedule()
        await engine.start_workers(block=False)
        await until(lambda: began)

    async def second() -> None:
        assert await engine.cancel("one") is JobStatus.RUNNING
        await engine.stop_workers()
        await engine.start_workers(block=False)
        await engine.stop_workers()

    run_and_abandon(new_loop, first())
    run(new_loop, second())


def test_loops_of_several_threads_schedule_for_one_pool(
    new_loop: LoopFactory, namespace: str, heard: Heard
) -> None:
    engine = Engine(FailingBroker(), namespace)
    ran: list[int] = []

    @engine.task
    async def job(number: int) -> None:
        ran.append(number)

    async def produce(start: int) -> None:
        for number in range(start, start + 200):
            await job.schedule(number)

    async def main() -> None:
        await engine.start_workers(4, block=False)
        threads = [
            threading.Thread(target=lambda start=start: run(new_loop, produce(start)), daemon=True)
            for start in range(0, 800, 200)
        ]
        for thread in threads:
            thread.start()
        await until(lambda: len(ran) >= 800)
        await until(lambda: not any(thread.is_alive() for thread in threads))
        await engine.stop_workers()

    run(new_loop, main())
    assert sorted(ran) == list(range(800))
