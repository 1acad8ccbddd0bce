"""How each setting changes speed and cost, and how cost grows: ``python -m benchmarks.profiles.knobs``.

Each row is the median of several runs against a fresh server. One process schedules and works, without
receivers. CPU is that of this process, and that of the server by its own statistics.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from aiospinach import Batch, Engine, RedisBroker, RetryException, Task
from benchmarks.program import BATCH, CALLERS, run
from benchmarks.report import table
from benchmarks.server import Cluster, Reading, Server, find_binary

JOBS, REPEATS = 20_000, 3
BATCH_BYTES = 4_000_000
Table = tuple[list[str], list[list[str]]]
"""Titles, and rows."""
DRAINED = ["drain/s", "worker CPU us", "Redis CPU us", "commands", "bytes to Redis", "bytes from Redis"]
SCHEDULED = ["schedule/s", "client CPU us", "Redis CPU us", "commands", "bytes to Redis", "bytes from Redis"]
"""Each but the first of one job."""


@dataclass(frozen=True)
class Cost:
    """Of one job."""

    rate: float
    """Jobs a second."""
    own: float
    """Microseconds of this process."""
    redis: float
    """Microseconds of all servers."""
    commands: float
    calls: float
    """Round trips."""
    received: float
    """Bytes that the servers got."""
    sent: float

    @staticmethod
    def median(costs: Sequence[Cost]) -> Cost:
        return Cost(*(statistics.median(getattr(cost, f.name) for cost in costs) for f in fields(Cost)))


class Meter:
    """Measures calls against some servers."""

    def __init__(self, servers: Sequence[Server], url: str, *, uvloop: bool = True) -> None:
        self._servers = servers
        self._uvloop = uvloop
        self.url = url

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        run(main, uvloop=self._uvloop)

    async def cost(self, work: Coroutine[Any, Any, None], jobs: int) -> Cost:
        before = self._readings()
        began, cpu = time.perf_counter(), time.process_time()
        await work
        own, took = time.process_time() - cpu, time.perf_counter() - began
        done = [now.since(then) for now, then in zip(self._readings(), before, strict=True)]
        return Cost(
            rate=jobs / took,
            own=own / jobs * 1e6,
            redis=sum(each.cpu for each in done) / jobs * 1e6,
            commands=sum(each.count for each in done) / jobs,
            calls=sum(each.commands.get(name, 0) for each in done for name in ("evalsha", "blpop")) / jobs,
            received=sum(each.received for each in done) / jobs,
            sent=sum(each.sent for each in done) / jobs,
        )

    def _readings(self) -> list[Reading]:
        return [server.reading() for server in self._servers]


Case = Callable[[Meter], Coroutine[Any, Any, tuple[Cost, Cost]]]


def measured(meter: Meter, case: Case) -> tuple[Cost, Cost]:
    """The costs of scheduling, and of draining."""
    found: list[tuple[Cost, Cost]] = []

    async def once() -> None:
        found.append(await case(meter))

    for _ in range(REPEATS):
        meter.run(once())
        print(".", end="", file=sys.stderr, flush=True)
    return Cost.median([scheduled for scheduled, _ in found]), Cost.median([drained for _, drained in found])


async def in_batches(engine: Engine, task: Task[..., Any], arguments: Iterable[Any], size: int) -> None:
    batch = Batch()
    for argument in arguments:
        batch.schedule(task, argument)
        if len(batch) == size:
            await engine.schedule_batch(batch)
            batch = Batch()
    if len(batch):
        await engine.schedule_batch(batch)


def usual(
    *, jobs: int = JOBS, number: int = 32, text: int = 0, limited: int = 0, ends: str = "succeeds"
) -> Case:
    """Jobs that are scheduled in batches, and drained."""

    async def case(meter: Meter) -> tuple[Cost, Cost]:
        engine = Engine(RedisBroker(meter.url), f"knobs-{time.monotonic_ns()}")
        tried: set[int | str] = set()

        @engine.task(max_retries=1 if ends == "again" else 0, backoff=lambda attempt: timedelta(0))
        async def job(argument: int | str) -> None:
            if ends == "fails":
                raise ValueError(argument)
            if ends == "again" and argument not in tried:
                tried.add(argument)
                raise RetryException("once more", at=timedelta(0))

        for place in range(limited):
            engine.task(name=f"limited-{place}", max_concurrency=1)(job.function)
        arguments = ["x" * text] * jobs if text else range(1000, 1000 + jobs)
        size = min(BATCH, BATCH_BYTES // max(text, 1))
        async with engine:
            if limited:  # registers the limits
                await engine.start_workers(1, block=False)
                await engine.stop_workers()
            scheduled = await meter.cost(in_batches(engine, job, arguments, size), jobs)
            drained = await meter.cost(engine.start_workers(number, stop_when_queue_empty=True), jobs)
        return scheduled, drained

    return case


def scheduled(how: str, jobs: int) -> Case:
    """Jobs that are scheduled in one of the ways."""

    async def case(meter: Meter) -> tuple[Cost, Cost]:
        engine = Engine(RedisBroker(meter.url), f"knobs-{time.monotonic_ns()}")

        @engine.task
        async def job(n: int) -> None: ...

        left = iter(range(jobs))

        async def caller() -> None:
            for n in left:
                await job.schedule(n)

        async def work() -> None:
            if how == "batch":
                await in_batches(engine, job, left, BATCH)
            else:
                await asyncio.gather(*(caller() for _ in range(CALLERS if how == "callers" else 1)))

        async with engine:
            await job.schedule(0)
            cost = await meter.cost(work(), jobs)
        return cost, cost

    return case


def idle(pools: int, seconds: int) -> Case:
    """Workers that have nothing to do; the cost is per second, and not per job."""

    async def case(meter: Meter) -> tuple[Cost, Cost]:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(pools):
                engine = await stack.enter_async_context(Engine(RedisBroker(meter.url), "idle"))
                engine.task(name="job")(print)
                await engine.start_workers(5, block=False)
            await asyncio.sleep(5)
            cost = await meter.cost(asyncio.sleep(seconds), seconds)
        return cost, cost

    return case


def cells(cost: Cost) -> list[str]:
    return [
        f"{cost.rate:,.0f}",
        f"{cost.own:.1f}",
        f"{cost.redis:.1f}",
        f"{cost.commands:.2f}",
        f"{cost.received:,.0f}",
        f"{cost.sent:,.0f}",
    ]


def drains(meter: Meter, title: str, cases: dict[str, Case]) -> Table:
    return [title, *DRAINED], [[name, *cells(measured(meter, case)[1])] for name, case in cases.items()]


def schedules(meter: Meter, title: str, cases: dict[str, Case]) -> Table:
    return [title, *SCHEDULED], [[name, *cells(measured(meter, case)[0])] for name, case in cases.items()]


def tables(server: Server, cluster: Cluster) -> Iterator[Table]:
    one = Meter([server], server.url)
    numbers = {str(n): usual(number=n, jobs=2_000 if n == 1 else JOBS) for n in (1, 8, 32, 128, 256)}
    yield drains(one, "`number`", numbers)
    yield drains(one, "in uvloop", {"`number=32`": usual()})
    yield drains(Meter([server], server.url, uvloop=False), "in asyncio", {"`number=32`": usual()})
    ways = {
        "`schedule`, one after the other": scheduled("sequential", 4_000),
        "`schedule`, 32 callers at once": scheduled("callers", JOBS),
        "`schedule_batch` of 1,000": scheduled("batch", JOBS),
    }
    yield schedules(one, "", ways)
    texts = {
        f"{size:,}": usual(text=size, jobs=jobs)
        for size, jobs in ((10, JOBS), (1_000, JOBS), (10_000, 5_000), (100_000, 1_000))
    }
    yield schedules(one, "bytes", texts)
    yield drains(one, "bytes", texts)
    limits = {str(count): usual(limited=count) for count in (0, 1, 10, 50)}
    yield drains(one, "limited tasks in the queue", limits)
    ends = {
        "succeeds": usual(jobs=5_000),
        "fails, is tried again at once, succeeds": usual(jobs=5_000, ends="again"),
        "fails for ever, is stored as dead": usual(jobs=5_000, ends="fails"),
    }
    yield drains(one, "a job that", ends)
    sizes = {f"`number={n}`": usual(number=n) for n in (32, 256)}
    yield drains(one, "on one server", sizes)
    yield drains(Meter(cluster.servers, cluster.url), "on one of three masters", sizes)
    yield schedules(Meter(cluster.servers, cluster.url), "on one of three masters", {"batches": usual()})
    waiting, _ = measured(one, idle(20, 20))
    row = [
        "20 idle workers",
        f"{waiting.calls:.1f}",
        f"{waiting.own / 1e3:.2f}",
        f"{waiting.redis / 1e3:.2f}",
    ]
    yield ["each second", "calls", "CPU ms", "Redis CPU ms"], [row]


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.parse_args()
    binary = find_binary()
    with Server(binary) as server, Cluster(binary) as cluster:
        for titles, rows in tables(server, cluster):
            print(file=sys.stderr)
            print("\n".join(table(titles, rows)), flush=True)


if __name__ == "__main__":
    main()
