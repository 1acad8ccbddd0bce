"""Services of the workers survive cancellations by user code: only the end of the event loop ends them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from aiospinach import Engine, signals

from ..conftest import Heard
from ..waiting import until
from .job_results import finish_of


async def test_workers_keep_running_after_a_job_cancelled_their_services(
    engine: Engine, heard: Heard
) -> None:
    this_test = asyncio.current_task()
    cancelled: list[str] = []

    @engine.task
    async def cancels() -> str:
        pool: Any = engine._workers.pool
        spared = {this_test, asyncio.current_task(), pool.supervisor.task}
        for task in asyncio.all_tasks() - spared:
            task.cancel()
            cancelled.append(str(task.get_coro()))
        return "continued"

    @engine.task(periodicity=timedelta(seconds=0.2))
    async def ticks() -> None:
        pass

    await engine.start_workers(2, block=False)
    for _ in range(3):
        job = await cancels.schedule()
        assert (await finish_of(heard, job))["result"] == "continued"
    assert len(cancelled) >= 3 * 5  # consumer, maintenance, listener, sweeper, heartbeat and watchdog
    ticked = heard.count("job_scheduled")
    await until(lambda: heard.count("job_scheduled") > ticked, "it ticks")
    assert heard.count("worker_terminated") == 0
    assert engine.health().is_running
    await engine.stop_workers()
    assert heard.names()[-1] == "worker_terminated"


async def test_a_receiver_that_cancels_its_own_task_does_not_stop_the_workers(
    engine: Engine, heard: Heard
) -> None:
    cancelled: list[bool] = []

    @engine.task(periodicity=timedelta(seconds=0.1))
    async def ticks() -> None:
        pass

    @signals.job_scheduled.connect_via(engine.namespace)
    def cancels(namespace: str, **kwargs: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        cancelled.append(task.cancel())

    @signals.job_scheduled.connect_via(engine.namespace)
    async def waits(namespace: str, **kwargs: Any) -> None:
        await asyncio.sleep(0)

    await engine.start_workers(2, block=False)
    await until(lambda: heard.count("job_scheduled") >= 3, "it ticks")
    await until(lambda: heard.count("job_finished") >= 2, "the jobs run")
    assert len(cancelled) >= 3
    assert all(cancelled)
    assert heard.count("worker_terminated") == 0
    await engine.stop_workers()
