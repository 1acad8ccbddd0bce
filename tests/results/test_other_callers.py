"""Results in code without an event loop, in other event loops, and in forked processes."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

import pytest

from aiospinach import Broker, Engine, Job, JobFailed, WouldBlock
from aiospinach.engine.result_hubs import ResultHubs
from aiospinach.exceptions import InvalidResult
from aiospinach.job import JobStatus
from aiospinach.outcome import Action, judge
from aiospinach.timing import from_milliseconds


async def test_plain_code_waits_for_a_result(engine: Engine) -> None:
    @engine.task(result_ttl=timedelta(hours=1))
    async def half(number: int) -> float:
        if number % 2:
            raise ValueError("odd")
        return number / 2

    @engine.task(result_ttl=60)
    def plain(number: int) -> float:
        job = engine.blocking.schedule(half, number)
        return engine.blocking.result(job, timeout=10)

    await engine.start_workers(3, block=False)
    assert await engine.result(await plain.schedule(4), timeout=20) == 2.0
    with pytest.raises(JobFailed, match="odd"):
        await engine.result(await plain.schedule(3), timeout=20)
    with pytest.raises(WouldBlock, match=r"await engine\.result\(job\)"):
        engine.blocking.result("x")

    def wait_for_nothing() -> None:
        with pytest.raises(TimeoutError, match=r"has not ended within 0\.05 s"):
            engine.blocking.result(
                engine.blocking.schedule_at(half, from_milliseconds(4e12), 1), timeout=0.05
            )

    await asyncio.to_thread(wait_for_nothing)
    await asyncio.to_thread(engine.blocking.close)


def test_each_event_loop_has_waits_of_its_own(broker: Broker, namespace: str) -> None:
    engine = Engine(broker, namespace)

    @engine.task(result_ttl=60)
    async def one() -> int:
        return 1

    async def run() -> Job[int]:
        async with engine:
            await engine.start_workers(1, block=False)
            job = await one.schedule()
            assert await engine.result(job, timeout=10) == 1
            return job

    async def read(job: Job[int]) -> int:
        return await engine.result(job, timeout=10)  # the engine was left, and is not entered again

    job = asyncio.run(run())
    assert asyncio.run(run()) != job
    assert asyncio.run(read(job)) == 1
    assert len(engine._hubs._by_loop) == 1, "closed loops are forgotten"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
async def test_a_forked_child_has_no_waits_of_its_parent(broker: Broker, namespace: str) -> None:
    hubs = ResultHubs(broker, namespace)
    hubs.of("mail")
    child = os.fork()
    if not child:
        os._exit(len(hubs._by_loop))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(hubs._by_loop) == 1


def test_a_result_that_cannot_be_kept_is_judged_dead_whatever_retries_are_left() -> None:
    at = from_milliseconds(0)
    job = Job(
        id="a",
        task_name="t",
        queue="q",
        namespace="n",
        at=at,
        created_at=at,
        status=JobStatus.RUNNING,
        max_retries=9,
    )
    outcome = judge(job, InvalidResult("too large"), 0)
    assert (outcome.action, outcome.status, outcome.reason) == (Action.FAIL, JobStatus.FAILED, "result")
