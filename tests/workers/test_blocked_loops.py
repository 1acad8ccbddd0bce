"""A body that blocks the event loop is logged with the line that blocks."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from types import SimpleNamespace

import pytest

from aiospinach import Engine
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
    monkeypatch.setattr(block_watch, "BLOCKED_AFTER", 0.5)
    caplog.set_level(logging.WARNING)

    @engine.task
    async def awaits() -> None:
        await asyncio.sleep(2.0)

    @engine.task
    def sleeps() -> None:
        time.sleep(2.0)

    await awaits.schedule()
    await sleeps.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.count("job_finished") == 2
    assert warnings(caplog) == []


async def test_a_body_that_blocks_for_less_than_a_second_is_not_logged(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The time between the last turn of the loop and the block does not count."""

    @engine.task
    async def greedy() -> None:
        for _ in range(4):
            time.sleep(0.8)
            await asyncio.sleep(0.24)

    await greedy.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert warnings(caplog) == []


async def test_the_watch_thread_ends_with_the_workers(engine: Engine) -> None:
    await engine.start_workers(block=False)

    def watch_threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if "aiospinach watch" in thread.name]

    await until(watch_threads)
    await engine.stop_workers()
    assert watch_threads() == []


async def test_a_busy_loop_rings_its_watch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that asks a busy loop for the lock of the interpreter is woken a thousand times in vain."""
    monkeypatch.setattr(block_watch, "BLOCKED_AFTER", 0.5)
    looks: list[bool] = []

    class Rung(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            is_rung = super().wait(timeout)
            if threading.current_thread() is not threading.main_thread():
                looks.append(is_rung)
            return is_rung

    mine = SimpleNamespace(Event=Rung, Thread=threading.Thread, get_ident=threading.get_ident)
    monkeypatch.setattr(block_watch, "threading", mine)

    @engine.task
    async def busy() -> None:
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            await asyncio.sleep(0)

    await busy.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert looks.count(True) >= 5, "four times in half a second"
    assert looks.count(False) <= 2, "it need not look"
