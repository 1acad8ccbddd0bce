"""``should_stop()``: a plain function learns that its job has to end, and its error does not count then."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiospinach import (
    Engine,
    Interrupted,
    JobStatus,
    JobTimeout,
    LeaseLost,
    MemoryBroker,
    current_job,
    should_stop,
)

from .. import asking
from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker
from .job_results import finish_of


class Stopped(Exception):
    """Raised by a body that was asked to stop."""


def work_until_asked() -> None:
    while not should_stop():
        threading.Event().wait(0.001)
    raise Stopped


async def test_nobody_asks_code_to_stop_that_runs_in_no_worker(engine: Engine) -> None:
    @engine.task
    def job() -> bool:
        return should_stop()

    assert not should_stop()
    assert await engine.execute(job) is False


async def test_a_time_limit_that_has_passed(engine: Engine, heard: Heard) -> None:
    """An async body that cleans up, or asks a thread, sees the reason as well."""
    answers = []

    @engine.task(timeout=0.05)
    async def job() -> None:
        answers.append(should_stop())
        try:
            await asyncio.Event().wait()
        finally:
            answers.append(await asyncio.to_thread(should_stop))

    await engine.start_workers(1, block=False)
    finish = await finish_of(heard, await job.schedule())
    assert isinstance(finish["err"], JobTimeout)
    assert answers == [False, True]
    await engine.stop_workers()


async def test_workers_that_wait_no_longer_put_the_job_back(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    """The try does not count."""

    @engine.task(max_retries=1)
    def job() -> None:
        work_until_asked()

    await engine.start_workers(1, block=False, shutdown_timeout=0)
    scheduled = await job.schedule()
    await until(lambda: heard.count("job_started"))
    await engine.stop_workers()
    finish = await finish_of(heard, scheduled)
    assert isinstance(finish["err"], Interrupted)
    assert (finish["job"].status, finish["job"].retries) == (JobStatus.QUEUED, 0)
    assert (await asking.counts(broker, "default")).ready == 1


async def test_a_job_whose_lease_was_lost(heard: Heard, namespace: str) -> None:
    async with Engine(broker := MemoryBroker(lease=0.4), namespace) as engine:

        @engine.task
        def job() -> None:
            work_until_asked()

        await engine.start_workers(1, block=False)
        scheduled = await job.schedule()
        await until(lambda: heard.count("job_started"))
        await broker.flush("default")
        assert isinstance((await finish_of(heard, scheduled))["err"], LeaseLost)
        await engine.stop_workers()


async def test_a_lease_that_cannot_be_renewed_in_time(heard: Heard, namespace: str) -> None:
    async with Engine(broker := FailingBroker(lease=0.4), namespace) as engine:
        asked = threading.Event()

        @engine.task(max_retries=1)
        def job() -> None:
            if not asked.is_set():
                try:
                    work_until_asked()
                finally:
                    asked.set()

        await engine.start_workers(1, block=False)
        await job.schedule()
        await until(lambda: heard.count("job_started"))
        broker.go_away("renew")
        await until(asked.is_set)
        broker.come_back()
        await until(lambda: heard.count("job_finished") == 2)
        assert [kwargs["job"].status for name, kwargs in heard if name == "job_finished"] == [
            JobStatus.QUEUED,
            JobStatus.SUCCEEDED,
        ]
        await engine.stop_workers()


async def test_a_function_that_returns_all_the_same_has_succeeded(engine: Engine, heard: Heard) -> None:
    @engine.task
    def job() -> str:
        with contextlib.suppress(Stopped):
            work_until_asked()
        return "half"

    await engine.start_workers(1, block=False)
    scheduled = await job.schedule()
    await until(lambda: heard.count("job_started"))
    await engine.cancel(scheduled)
    finish = await finish_of(heard, scheduled)
    assert (finish["result"], finish["job"].status) == ("half", JobStatus.SUCCEEDED)
    await engine.stop_workers()


async def test_only_the_job_that_was_cancelled_is_asked(engine: Engine, heard: Heard) -> None:
    asked: set[str] = set()

    @engine.task
    def job() -> None:
        try:
            work_until_asked()
        finally:
            running = current_job()
            assert running is not None
            asked.add(running.id)

    await engine.start_workers(3, block=False)
    jobs = [await job.schedule() for _ in range(3)]
    await until(lambda: heard.count("job_started") == 3)
    await engine.cancel(jobs[1])
    await finish_of(heard, jobs[1])
    assert asked == {jobs[1].id}
    for other in (jobs[0], jobs[2]):
        await engine.cancel(other)
        await finish_of(heard, other)
    await engine.stop_workers()


@contextlib.contextmanager
def plain_around(job: Any) -> Iterator[None]:
    yield


@pytest.mark.parametrize("call", [lambda: should_stop(), lambda: asyncio.run(asyncio.to_thread(should_stop))])
async def test_it_works_within_context_managers_and_in_other_threads(
    engine: Engine, heard: Heard, call: Callable[[], bool]
) -> None:
    engine.around(plain_around)
    answers = []

    @engine.task
    def job() -> None:
        answers.append(call())
        with contextlib.suppress(Stopped):
            work_until_asked()
        answers.append(call())

    await engine.start_workers(1, block=False)
    scheduled = await job.schedule()
    await until(lambda: len(answers) == 1)
    await engine.cancel(scheduled)
    await finish_of(heard, scheduled)
    assert answers == [False, True]
    await engine.stop_workers()
