"""progress(): a plain call that never waits and never fails, and is stored four times a second at most."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from aiospinach import (
    BrokerError,
    BrokerUnavailable,
    Engine,
    Job,
    JobStatus,
    Progress,
    current_job,
    progress,
    signals,
)
from aiospinach.brokers.progress import Step

from ..brokers_under_test import BROKERS, MakeBroker
from ..waiting import until

Notes = list[dict[str, Step]]


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    """An engine that keeps events."""
    make: MakeBroker = request.param
    async with Engine(make(events=100), namespace) as engine:
        yield engine
        await engine._broker.flush("default")


@pytest.fixture
def notes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Notes:
    """The calls of the broker that store progress."""
    calls: Notes = []
    note = engine._broker.note_progress

    async def noted(queue: str, steps: Mapping[str, tuple[str, Step]]) -> None:
        try:
            await note(queue, steps)
        finally:
            calls.append({lease.rpartition(":")[0]: step for lease, (_, step) in steps.items()})

    monkeypatch.setattr(engine._broker, "note_progress", noted)
    return calls


def has_more(calls: Sequence[object], number: int) -> bool:
    return len(calls) > number


async def progress_of(engine: Engine, job: Job) -> Progress | None:
    found = await engine.job(job)
    return None if found is None else found.progress


async def test_a_running_job_shows_its_last_step_everywhere(engine: Engine, notes: Notes) -> None:
    release = asyncio.Event()

    @engine.task
    async def load() -> None:
        for number in range(1000):
            progress(number + 1, 1000, "rows")
        await release.wait()

    job = await load.schedule()
    async with engine.events(job=job) as events:
        await engine.start_workers(2, block=False)
        await until(lambda: notes, "progress was stored")
        assert notes[0] == {job.id: Step(1000, 1000, "rows")}
        async with asyncio.timeout(10):
            event = await anext(events)
            while event.name != "job_progress":
                event = await anext(events)
    assert event.data == {"current": 1000, "total": 1000, "note": "rows"}
    found = await progress_of(engine, job)
    assert found is not None
    assert (found.current, found.total, found.note) == (1000, 1000, "rows")
    assert [each.progress async for each in engine.jobs(status=JobStatus.RUNNING)] == [found]
    assert [each.progress for each in (await engine.page()).jobs] == [found]
    explained = (await engine.explain(job)).job
    assert explained is not None
    assert explained.progress == found
    release.set()
    await engine.stop_workers()
    assert await progress_of(engine, job) is None


async def test_the_progress_of_a_failed_try_is_gone(engine: Engine, notes: Notes) -> None:
    release = asyncio.Event()

    @engine.task(max_retries=1, backoff=lambda attempt: 600.0)
    async def load() -> None:
        progress(1)
        await release.wait()
        raise ValueError

    job = await load.schedule()
    await engine.start_workers(2, block=False)
    await until(lambda: notes, "progress was stored")
    release.set()
    await engine.stop_workers()
    found = await engine.job(job)
    assert found is not None
    assert found.status is JobStatus.WAITING
    assert found.progress is None


async def test_a_million_steps_are_few_reports(engine: Engine, notes: Notes) -> None:
    took = 0.0

    @engine.task
    async def load() -> None:
        nonlocal took
        began = time.perf_counter()
        for first in range(0, 1_000_000, 20_000):
            for number in range(first, first + 20_000):
                progress(number, 1_000_000)
            await asyncio.sleep(0)
        took = time.perf_counter() - began

    await load.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert 1 <= len(notes) <= took * 4 + 2


async def test_the_jobs_of_a_queue_share_a_report(engine: Engine, notes: Notes) -> None:
    release = asyncio.Event()

    @engine.task
    async def load(number: int) -> None:
        progress(number)
        await release.wait()

    jobs = [await load.schedule(number) for number in range(50)]
    await engine.start_workers(50, block=False)
    await until(lambda: sum(map(len, notes)) >= 50, "progress was stored")
    assert len(notes) <= 3
    for number, job in enumerate(jobs):
        found = await progress_of(engine, job)
        assert found is not None
        assert found.current == number
    release.set()
    await engine.stop_workers()


async def test_plain_functions_and_threads_of_their_own_report(engine: Engine, notes: Notes) -> None:
    release = threading.Event()

    @engine.task
    def load() -> None:
        progress(1, None, "thread")
        release.wait(20)

    @engine.task
    async def spread() -> None:
        await asyncio.gather(asyncio.to_thread(progress, 2), asyncio.sleep(0))
        await asyncio.to_thread(release.wait, 20)

    jobs = [await load.schedule(), await spread.schedule()]
    await engine.start_workers(2, block=False)
    await until(lambda: {job_id for note in notes for job_id in note} == {job.id for job in jobs}, "both")
    release.set()
    await engine.stop_workers()


async def test_the_signal_is_sent_in_the_context_of_the_job(engine: Engine) -> None:
    got: list[tuple[Job, Job | None]] = []
    done = asyncio.Event()

    @signals.job_progress.connect
    async def note(namespace: str, job: Job, **kwargs: Any) -> None:
        got.append((job, current_job()))
        if job.progress is not None and job.progress.current == 2:
            done.set()

    @engine.task
    async def load() -> None:
        progress(1, 2)
        await until(lambda: got, "a receiver was called")
        progress(2, 2, "end")
        await done.wait()

    job = await load.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert [each.progress.current for each, _ in got if each.progress] == [1, 2]
    assert all(each == job == here for each, here in got)


async def test_a_slow_receiver_misses_steps_and_delays_no_job(engine: Engine, notes: Notes) -> None:
    release = asyncio.Event()
    calls = 0

    @signals.job_progress.connect
    async def hang(namespace: str, job: Job, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        await release.wait()

    @engine.task
    async def load() -> None:
        for number in range(3):
            progress(number)
            await until(partial(has_more, notes, number), "progress was stored")

    await load.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: len(notes) == 3, "the job goes on")
    assert calls == 1
    release.set()
    await engine.stop_workers()


@pytest.mark.parametrize(
    "arguments",
    [("50 %",), (True,), (float("nan"),), (1, float("inf")), (2**63,), (1, [2]), (1, 2, 3), (None,)],
)
async def test_a_wrong_argument_is_logged_once_and_fails_nothing(
    engine: Engine, notes: Notes, caplog: pytest.LogCaptureFixture, arguments: tuple[Any, ...]
) -> None:
    @engine.task
    async def load() -> str:
        for _ in range(100):
            progress(*arguments)
        return "done"

    await load.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert notes == []
    [record] = [record for record in caplog.records if "progress" in record.getMessage()]
    assert record.levelname == "WARNING"
    assert "load" in record.getMessage()
    assert "takes" in record.getMessage()


async def test_a_long_note_is_cut(engine: Engine, notes: Notes) -> None:
    @engine.task
    async def load() -> None:
        progress(1, note="é" * 201)
        await until(lambda: len(notes) == 1, "progress was stored")
        progress(2, note="\ud800" + "é" * 199)
        await until(lambda: len(notes) == 2, "progress was stored")

    await load.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    first, second = (step for note in notes for step in note.values())
    assert first.note == "é" * 199 + "…"
    assert second.note == "?" + "é" * 199


async def test_an_outage_delays_the_last_step(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Step] = []

    async def fail(queue: str, steps: Mapping[str, tuple[str, Step]]) -> None:
        calls.extend(step for _, step in steps.values())
        if len(calls) < 3:
            raise BrokerUnavailable("away")

    monkeypatch.setattr(engine._broker, "note_progress", fail)

    @engine.task
    async def load() -> None:
        progress(1)
        await until(lambda: len(calls) >= 3, "it was stored in the end")

    await load.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert calls == [Step(1)] * 3


async def test_a_store_that_refuses_is_logged_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    async def refuse(queue: str, steps: object) -> None:
        calls.append(queue)
        raise BrokerError("no right")

    monkeypatch.setattr(engine._broker, "note_progress", refuse)

    @engine.task
    async def load() -> None:
        for number in range(2):
            progress(number)
            await until(partial(has_more, calls, number), "it was tried")

    await load.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert len([record for record in caplog.records if "no right" in record.getMessage()]) == 1


async def test_outside_of_workers_it_does_nothing(engine: Engine, notes: Notes) -> None:
    @engine.task
    async def load() -> int:
        progress(1)
        progress("a mistake")  # type: ignore[arg-type]
        return 1

    progress(1)
    assert await engine.execute(load) == 1
    assert notes == []


async def test_a_job_within_a_job_has_no_progress_of_the_outer(engine: Engine, notes: Notes) -> None:
    @engine.task
    async def inner() -> None:
        progress(99)

    @engine.task
    async def outer() -> None:
        progress(1)
        await engine.execute(inner)
        await until(lambda: notes, "progress was stored")

    job = await outer.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert notes == [{job.id: Step(1)}]
