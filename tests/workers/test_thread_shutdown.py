"""Threads end with the workers that started them, and do not keep a program running."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest

from aiospinach import Engine

from ..conftest import Heard, LoopFactory
from ..waiting import until
from .failing import FailingBroker


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("aiospinach ")]


async def start_and_use_threads(engine: Engine, **options: Any) -> None:
    """Start workers and use three of their threads; a fourth one watches the loop."""
    meeting = threading.Barrier(3)

    @engine.task
    def meet() -> None:
        meeting.wait(10)

    for _ in range(3):
        await meet.schedule()
    await engine.start_workers(3, **options)


async def use_threads(engine: Engine, heard: Heard) -> None:
    await start_and_use_threads(engine, block=False)
    await until(lambda: heard.count("job_finished") == 3)
    assert len(own_threads()) == 1 + 3


async def test_threads_are_named_after_the_worker(engine: Engine, heard: Heard) -> None:
    names: list[str] = []

    @engine.task
    def job() -> None:
        names.append(threading.current_thread().name)

    await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert names == [f"aiospinach {heard.last('worker_started')['worker_name']} thread 1"]


async def test_a_stop_ends_the_threads(engine: Engine, heard: Heard) -> None:
    await use_threads(engine, heard)
    await engine.stop_workers()
    assert own_threads() == []


async def test_an_empty_queue_ends_the_threads(engine: Engine, heard: Heard) -> None:
    await start_and_use_threads(engine, stop_when_queue_empty=True)
    assert heard.count("job_finished") == 3
    assert own_threads() == []


async def test_a_crash_ends_the_threads(namespace: str, heard: Heard) -> None:
    engine = Engine(FailingBroker(), namespace)
    await use_threads(engine, heard)
    pool: Any = engine._workers.pool
    pool.state.crash(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await pool.wait_closed()
    assert own_threads() == []


def test_the_end_of_the_event_loop_ends_the_threads(
    new_loop: LoopFactory, namespace: str, heard: Heard
) -> None:
    engine = Engine(FailingBroker(), namespace)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(use_threads(engine, heard))
    assert own_threads() == []


async def test_an_execution_without_workers_ends_its_thread(engine: Engine) -> None:
    @engine.task
    def name() -> str:
        return threading.current_thread().name

    assert await engine.execute(name) == "aiospinach execute thread 1"
    assert own_threads() == []


WITHOUT_STOP = """
import asyncio, sys, threading, time
from aiospinach import Engine, MemoryBroker

engine = Engine(MemoryBroker())
began = threading.Event()

@engine.task
def job():
    began.set()
    time.sleep(float(sys.argv[1]))
    print("ended", flush=True)

async def main():
    await engine.schedule(job)
    await engine.start_workers(block=False)
    while not began.is_set():
        await asyncio.sleep(0.01)
    await asyncio.sleep(float(sys.argv[2]))

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
print("leaves", flush=True)
"""


@pytest.mark.parametrize(
    ("takes", "stays", "lines"),
    [("0.3", "0", ["leaves", "ended"]), ("0", "0.3", ["ended", "leaves"])],
    ids=["running", "idle"],
)
def test_a_program_without_a_stop_ends_after_its_running_functions(
    takes: str, stays: str, lines: list[str]
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_STOP, takes, stays],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == lines
