"""The costs of many queues of one worker: ``python -m benchmarks.profiles.queues``.

A worker process drains jobs that are spread over its queues (*drain*), gets 300 jobs a second (*trickle*), or
has nothing to do (*idle*). Figures of many queues are printed with their ratios to those of one. All of it
takes a minute and a half. ``--what`` and ``--queues`` choose one case, which prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.ledger import runs_in, send
from benchmarks.libraries.aiospinach import Aiospinach
from benchmarks.measure import check, costs
from benchmarks.processes import Process, cpu_seconds_of
from benchmarks.profiles.memory import drain as drain_memory
from benchmarks.program import BATCH, run
from benchmarks.report import table
from benchmarks.server import Reading, Server, find_binary

CLIENT = ("evalsha", "fcall", "blpop", "brpop", "client|unblock")
"""Commands that a worker sends; the server also counts commands in scripts and those of connecting."""
COUNTS = (1, 10, 100)
MEMORY_COUNTS = (1, 30, 100)
Values = dict[str, float]


@dataclass(frozen=True)
class Case:
    """So many queues, jobs and seconds, on one server."""

    binary: str
    queues: int
    jobs: int = 10_000
    rate: float = 300.0
    seconds: float = 4.0
    """How long jobs trickle."""
    idle: float = 10.0
    """How long an idle worker is watched; it ticks every five seconds."""

    async def drain(self) -> Values:
        """Jobs spread over all queues, which the worker does as fast as it can."""
        with Server(self.binary) as server:
            async with self._producer(server) as producer:
                for first in range(0, self.jobs, BATCH):
                    await producer.schedule_batch(range(first, min(first + BATCH, self.jobs)))
            before = server.reading()
            with self._worker(server, self.jobs) as worker:
                await asyncio.to_thread(worker.receive)
                report = await asyncio.to_thread(worker.receive, 300)
                done = server.reading().since(before)
        check(runs_in(report))
        return {**costs(report, self.jobs), **of_jobs(done, self.jobs)}

    async def trickle(self) -> Values:
        """Jobs that come one by one, in turn for each queue, and are begun at once."""
        jobs = int(self.rate * self.seconds)
        with Server(self.binary) as server, self._worker(server, jobs + 1) as worker:
            async with self._producer(server) as producer:
                await producer.schedule(0)
                await asyncio.to_thread(worker.receive)
                first = cpu_seconds_of(worker.number)
                await asyncio.sleep(1)
                idle = cpu_seconds_of(worker.number) - first
                before, began = server.reading(), time.monotonic()
                for n in range(1, jobs + 1):
                    await asyncio.sleep(began + (n - 1) / self.rate - time.monotonic())
                    await producer.schedule(n)
                report = await asyncio.to_thread(worker.receive, 300)
                done, took = server.reading().since(before), report["ended_at"] - began
        check(runs_in(report))
        return {
            **of_jobs(done, jobs),
            "jobs/s": jobs / took,
            "worker us/job": (report["cpu"] - idle) / jobs * 1e6,
            "connections/s": done.connections / took,
        }

    async def idle_(self) -> Values:
        """Nothing to do."""
        with Server(self.binary) as server, self._worker(server, 1, until=2) as worker:
            async with self._producer(server) as producer:
                await producer.schedule(0)
            await asyncio.to_thread(worker.receive)
            await asyncio.sleep(2)
            before, cpu = server.reading(), cpu_seconds_of(worker.number)
            await asyncio.sleep(self.idle)
            done, used = server.reading().since(before), cpu_seconds_of(worker.number) - cpu
        return {
            "calls/5 s": calls(done) / self.idle * 5,
            "commands/5 s": done.count / self.idle * 5,
            "worker ms/s": used / self.idle * 1e3,
            "redis ms/s": done.cpu / self.idle * 1e3,
            "connections/s": done.connections / self.idle,
        }

    async def memory(self) -> Values:
        """A drain of the MemoryBroker, in this process."""
        return await drain_memory(self.jobs, 32, self.queues)

    def _worker(self, server: Server, jobs: int, *, until: int | None = None) -> Process:
        call = [sys.executable, "-m", "benchmarks.libraries.aiospinach", "work", str(jobs)]
        options = ["--url", server.url, "--queues", str(self.queues), "--until", str(until or jobs)]
        return Process([*call, *options])

    @contextlib.asynccontextmanager
    async def _producer(self, server: Server) -> AsyncIterator[Aiospinach]:
        arguments = argparse.Namespace(
            url=server.url, queues=self.queues, plain=False, blocked=False, at=None, receivers="none"
        )
        producer = Aiospinach(arguments, None)
        async with producer.engine:
            yield producer


def of_jobs(done: Reading, jobs: int) -> Values:
    """The work of a server per job."""
    scripts = done.commands.get("evalsha", 0) + done.commands.get("fcall", 0)
    return {
        "scripts/job": scripts / jobs,
        "commands/job": done.count / jobs,
        "redis us/job": done.cpu / jobs * 1e6,
    }


def calls(done: Reading) -> int:
    """How many commands came from clients."""
    return sum(done.commands.get(name, 0) for name in CLIENT)


KINDS: dict[str, tuple[Callable[[Case], Any], tuple[int, ...]]] = {
    "trickle": (Case.trickle, COUNTS),
    "drain": (Case.drain, COUNTS),
    "idle": (Case.idle_, COUNTS),
    "memory": (Case.memory, MEMORY_COUNTS),
}
"""What is measured, and with how many queues."""


def measured(what: str, case: Case) -> Values:
    """The figures of one case, in an event loop of its own."""
    found: list[Values] = []

    async def once() -> None:
        found.append(await KINDS[what][0](case))

    run(once(), uvloop=True)
    return found[0]


def rows(what: str, binary: str) -> Iterator[list[str]]:
    """Titles, then a row for each number of queues; ratios to the first stand in brackets."""
    first: Values = {}
    for queues in KINDS[what][1]:
        values = measured(what, Case(binary, queues))
        print(".", end="", file=sys.stderr, flush=True)
        if not first:
            first = values
            yield [f"{what}, queues", *values]
        yield [str(queues), *(compared(value, first[name]) for name, value in values.items())]


def compared(value: float, first: float) -> str:
    """A figure, and its ratio to the first."""
    text = f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"
    return f"{text} ({value / first:.2f})" if first else text


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--what", choices=KINDS, help="measure this alone")
    parser.add_argument("--queues", type=int, help="with so many queues alone; print one line of JSON")
    parser.add_argument("--jobs", type=int, default=10_000, help="how many jobs to drain (default: 10,000)")
    parser.add_argument("--server", metavar="BINARY", help="the server to measure on")
    arguments = parser.parse_args()
    binary = arguments.server or find_binary()
    if arguments.queues is not None:
        what = arguments.what or parser.error("--queues needs --what")
        send(measured(what, Case(binary, arguments.queues, arguments.jobs)))
        return
    for what in [arguments.what] if arguments.what else KINDS:
        titles, *found = rows(what, binary)
        print(file=sys.stderr)
        print("\n".join(table(titles, found)), flush=True)


if __name__ == "__main__":
    main()
