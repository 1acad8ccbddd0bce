"""The interface through which all libraries are measured: a program that schedules or works.

    python -m benchmarks.libraries.arq schedule 20000 --url redis://127.0.0.1:6379/0 --how callers
    python -m benchmarks.libraries.arq work 20000 --url redis://127.0.0.1:6379/0 --concurrency 32

It runs in the environment of its library, so this file uses only the standard library. A job has one
argument, its number. Its body counts its run in the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator
from typing import Any

from benchmarks.ledger import Ledger, cpu_seconds, memory, send

CALLERS = 32
BATCH = 1000


class Program(ABC):
    """One library. Its async methods are awaited in one event loop."""

    uvloop = True
    """The library works in uvloop."""

    def __init__(self, arguments: argparse.Namespace, ledger: Ledger | None) -> None:
        self.url: str = arguments.url
        self.arguments = arguments
        self._ledger = ledger

    @property
    def ledger(self) -> Ledger:
        """The ledger in which bodies count their runs."""
        assert self._ledger is not None
        return self._ledger

    async def open(self) -> None:  # noqa: B027 (some need nothing)
        """Make ready to schedule."""

    @abstractmethod
    async def schedule(self, n: int) -> None:
        """Schedule job ``n``."""

    async def schedule_batch(self, numbers: range) -> None:
        """Schedule up to 1,000 jobs at once."""
        raise NotImplementedError

    async def result(self, n: int) -> int:
        """Schedule job ``n``, and return its result, which is ``n``."""
        raise NotImplementedError

    @abstractmethod
    async def work(self, concurrency: int) -> None:
        """Work until the process ends."""


class ThreadedProgram(Program):
    """A library without asyncio: its callers are threads."""

    uvloop = False

    async def schedule(self, n: int) -> None:
        self.schedule_now(n)

    @abstractmethod
    def schedule_now(self, n: int) -> None:
        """Schedule job ``n``, blocking."""


async def schedule(program: Program, arguments: argparse.Namespace) -> None:
    """Schedule jobs in one of the ways, and report how long it took."""
    await program.open()
    numbers = range(arguments.first, arguments.first + arguments.jobs)
    times: list[float] = []
    began, cpu = time.monotonic(), cpu_seconds()
    if arguments.how == "sequential":
        for n in numbers:
            await program.schedule(n)
    elif arguments.how == "batch":
        for first in range(numbers.start, numbers.stop, BATCH):
            await program.schedule_batch(range(first, min(first + BATCH, numbers.stop)))
    elif arguments.how == "results":
        if await asyncio.gather(*map(program.result, numbers)) != list(numbers):
            raise AssertionError("a result is wrong")
    elif arguments.how == "paced":
        for n in numbers:
            await asyncio.sleep(random.uniform(0.005, 0.02))
            times.append(time.monotonic())
            await program.schedule(n)
    elif isinstance(program, ThreadedProgram):
        await asyncio.to_thread(call_in_threads, program, iter(numbers))
    else:
        left = iter(numbers)

        async def caller() -> None:
            for n in left:
                await program.schedule(n)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    send(
        {
            "seconds": time.monotonic() - began,
            "cpu": cpu_seconds() - cpu,
            "times": times,
            "memory": memory(),
        }
    )


def call_in_threads(program: ThreadedProgram, numbers: Iterator[int]) -> None:
    """32 threads schedule what is left of the numbers."""

    def caller() -> None:
        for n in numbers:
            program.schedule_now(n)

    threads = [threading.Thread(target=caller) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run(main: Coroutine[Any, Any, None], *, uvloop: bool) -> None:
    """Run in the event loop that is fastest for the library."""
    if uvloop:
        import uvloop as loops

        loops.run(main)
    else:
        asyncio.run(main)


def main(kind: type[Program], parser: argparse.ArgumentParser | None = None) -> None:
    """The command line of a library's program."""
    logging.disable(logging.WARNING)
    parser = parser or argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["schedule", "work"])
    parser.add_argument("jobs", type=int, help="how many jobs, or numbers that they may have")
    parser.add_argument("--url", required=True, help="the Redis to use")
    parser.add_argument("--first", type=int, default=0, help="number of the first job")
    parser.add_argument(
        "--how", default="callers", choices=["sequential", "callers", "batch", "paced", "results"]
    )
    parser.add_argument("--results", action="store_true", help="keep the results of jobs")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--until", type=int, help="how many runs to wait for (default: as many as jobs)")
    parser.add_argument("--times", action="store_true", help="report when each job began")
    parser.add_argument(
        "--plain", action="store_true", help="have a plain function as the body, and threads that run it"
    )
    arguments = parser.parse_args()
    if arguments.what == "schedule":
        run(schedule(kind(arguments, None), arguments), uvloop=kind.uvloop)
        return
    until = arguments.jobs if arguments.until is None else arguments.until
    ledger = Ledger(arguments.jobs, until=until, times=arguments.times)
    ledger.watch()
    run(kind(arguments, ledger).work(arguments.concurrency), uvloop=kind.uvloop)
