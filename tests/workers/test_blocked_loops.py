"""A body that blocks the event loop is logged with the line that blocks."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time

import pytest

from aiospinach import Batch, Engine
from aiospinach.workers import block_watch

from ..conftest import Heard
from ..waiting import until


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "blocked the event loop" in r.getMessage()]


def block() -> None:
    time.sleep(2.0)


@pytest.mark.parametrize("is_deep", [False, True])
async def test_a_blocking_body_is_logged_once_with_its_line(
    engine: Engine,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    is_deep: bool,
) -> None:
    monkeypatch.setattr(block_watch, "BLOCKED_AFTER", 0.2)

    @engine.task(name="greedy")
    async def greedy() -> None:
        if is_deep:
            block()
        else:
            time.sleep(2.0)

    job = await greedy.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    [line] = warnings(caplog)
    first = greedy.function.__code__.co_firstlineno
    # It was logged while the body blocked.
    assert re.match(rf"job greedy {job.id} \([01] s\) has blocked the event loop for [01]\.", line)
    assert f"at {__file__}:{first + (3 if is_deep else 5)} greedy" in line
    assert (f", in {__file__}:{block.__code__.co_firstlineno + 1} block:" in line) is is_deep
    assert line.endswith(": have it await, or make it a plain function")


async def test_awaiting_bodies_and_plain_functions_are_not_logged(
    engine: Engine, heard: Heard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_watch, "BLOCKED_AFTER", 0.1)
    caplog.set_level(logging.WARNING)

    @engine.task
    async def awaits() -> None:
        await asyncio.sleep(0.4)

    @engine.task
    def sleeps() -> None:
        time.sleep(0.4)

    await awaits.schedule()
    await sleeps.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.count("job_finished") == 2
    assert warnings(caplog) == []


async def test_the_watch_thread_ends_with_the_workers(engine: Engine) -> None:
    await engine.start_workers(block=False)

    def watch_threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if "aiospinach watch" in thread.name]

    await until(watch_threads)
    await engine.stop_workers()
    assert watch_threads() == []


async def test_the_watch_costs_a_busy_loop_next_to_nothing(
    engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that asks a busy loop for the lock of the interpreter is woken a thousand times in vain."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(block_watch, "BLOCKED_AFTER", 0.1)
    caplog.set_level(logging.WARNING)

    @engine.task
    async def tiny() -> None:
        pass

    for _ in range(3):
        batch = Batch()
        for _ in range(10_000):
            batch.schedule(tiny)
        await engine.schedule_batch(batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    await engine.start_workers(stop_when_queue_empty=True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before < 500
    assert warnings(caplog) == []
