"""Compares the costs of two kinds of a drain: ``python -m benchmarks.profiles.pairs``.

*singly*: jobs that were scheduled one by one, each for a moment of its own, beside jobs of batches, which
differ only in ids and arguments. *limits*: jobs of one of the 10,000 limited tasks of a queue, beside one
of 10. *lanes*: the same, but so few may run at once that the others are held back. The two kinds take turns
on one server. Figures are medians of all turns, and a ratio is the median of the ratios of the pairs. All of
it takes half a minute. ``--what`` chooses one comparison, which prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiospinach import Engine, RedisBroker
from benchmarks.ledger import send
from benchmarks.profiles.knobs import Cost, Meter, in_batches
from benchmarks.program import BATCH, CALLERS
from benchmarks.report import table
from benchmarks.server import Server, find_binary

NUMBER = 32
FEW, MANY = 10, 10_000
Drain = Callable[[Meter, int], Coroutine[Any, Any, Cost]]
"""Of so many jobs."""
Values = dict[str, float]


@dataclass(frozen=True)
class Pair:
    """Two kinds of a drain, and how they are measured and printed."""

    turns: int
    """How often each is measured."""
    jobs: int
    """How many are drained in a turn."""
    drains: dict[str, Drain]
    figures: dict[str, Callable[[Cost], float]]

    async def measured(self, meter: Meter, turns: int, jobs: int) -> Values:
        """The figures of both, and those of the first over those of the second."""
        costs: dict[str, list[Cost]] = {title: [] for title in self.drains}
        for turn in range(turns):
            in_order = list(self.drains.items())
            for title, drain in in_order if turn % 2 else reversed(in_order):
                costs[title].append(await drain(meter, jobs))
        values = {}
        for name, figure in self.figures.items():
            one, other = ([figure(cost) for cost in found] for found in costs.values())
            for title, found in zip(costs, (one, other), strict=True):
                values[f"{name}, {title}"] = statistics.median(found)
            values[f"{name}, ratio"] = statistics.median(a / b for a, b in zip(one, other, strict=True))
        return values


def scheduled(*, singly: bool) -> Drain:
    """No-op jobs that were scheduled one by one, or in batches."""

    async def drain(meter: Meter, jobs: int) -> Cost:
        engine = Engine(RedisBroker(meter.url), f"pairs-{time.monotonic_ns()}")

        @engine.task
        async def job(n: int) -> None: ...

        left, first = iter(range(jobs)), datetime.now(UTC) - timedelta(hours=1)

        async def caller() -> None:
            for n in left:  # not now(): many are stored within a millisecond, and would share a moment
                await job.schedule_at(first + timedelta(milliseconds=n), n)

        async with engine:
            if singly:
                await asyncio.gather(*(caller() for _ in range(CALLERS)))
            else:
                await in_batches(engine, job, left, BATCH)
            return await meter.cost(engine.start_workers(NUMBER, stop_when_queue_empty=True), jobs)

    return drain


def limited(limits: int, most: int) -> Drain:
    """No-op jobs of one of so many tasks that have a limit, when all these are registered."""

    async def drain(meter: Meter, jobs: int) -> Cost:
        engine = Engine(RedisBroker(meter.url), f"pairs-{time.monotonic_ns()}")
        held, go = asyncio.Semaphore(0), asyncio.Event()

        @engine.task
        async def hold(n: int) -> None:
            held.release()
            await go.wait()

        async def job(n: int) -> None: ...

        tasks = [engine.task(name=f"job-{n}", max_concurrency=most)(job) for n in range(limits)]

        async def work() -> None:
            go.set()
            await workers

        async with engine:
            await in_batches(engine, hold, range(NUMBER), NUMBER)
            await in_batches(engine, tasks[-1], range(jobs), BATCH)
            workers = asyncio.create_task(engine.start_workers(NUMBER, stop_when_queue_empty=True))
            for _ in range(NUMBER):
                await held.acquire()
            return await meter.cost(work(), jobs)

    return drain


REDIS, WORKER, BYTES = "redis us/job", "worker us/job", "bytes sent/job"
KINDS = {
    "singly": Pair(
        50,  # short turns: the speed of the machine changes by more than the kinds differ
        2_000,
        {"one by one": scheduled(singly=True), "in batches": scheduled(singly=False)},
        {REDIS: lambda cost: cost.redis, WORKER: lambda cost: cost.own},
    ),
    **{
        what: Pair(
            5,
            5_000,
            {f"{limits:,} limits": limited(limits, most) for limits in (MANY, FEW)},
            {REDIS: lambda cost: cost.redis, BYTES: lambda cost: cost.received},
        )
        for what, most in (("limits", NUMBER), ("lanes", NUMBER // 4))
    },
}
"""What is compared."""


def measured(what: str, arguments: argparse.Namespace) -> Values:
    """The figures of one comparison, on a server of its own."""
    pair, found = KINDS[what], dict[str, float]()
    turns, jobs = arguments.turns or pair.turns, arguments.jobs or pair.jobs

    async def once() -> None:
        found.update(await pair.measured(meter, turns, jobs))

    with Server(arguments.server or find_binary()) as server:
        meter = Meter([server], server.url)
        meter.run(once())
    return found


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--what", choices=KINDS, help="compare this alone; print one line of JSON")
    parser.add_argument("--turns", type=int, help="how often each is drained (default: 50; limits: 5)")
    parser.add_argument("--jobs", type=int, help="how many jobs in a turn (default: 2,000; limits: 5,000)")
    parser.add_argument("--server", metavar="BINARY", help="the server to measure on")
    arguments = parser.parse_args()
    if arguments.what:
        send(measured(arguments.what, arguments))  # the receiver may kill this process at once
        return
    for what in KINDS:
        rows = [[name, f"{value:.2f}"] for name, value in measured(what, arguments).items()]
        print("\n".join(table([what, ""], rows)), flush=True)


if __name__ == "__main__":
    main()
