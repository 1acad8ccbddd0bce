from __future__ import annotations

from aiospinach import Engine

from .conftest import Heard


async def test_a_job_runs_and_its_signals_are_sent_in_order(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def add(a: int, b: int) -> int:
        return a + b

    job = await add.schedule(5, 3)
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names() == [
        "job_scheduled",
        "worker_started",
        "job_started",
        "job_finished",
        "worker_terminated",
    ]
    assert heard.last("job_finished")["job"] == job
    assert heard.last("job_finished")["result"] == 8
