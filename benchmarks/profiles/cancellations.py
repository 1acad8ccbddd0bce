"""How long a cancellation takes to reach a running body: ``python -m benchmarks.profiles.cancellations``.

The lease is 60 s, so no renewal helps. The time ends when the body of the job is cancelled. Workers and the
caller have brokers of their own, and share a process and its clock.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time

from aiospinach import Engine, RedisBroker
from benchmarks.ledger import send
from benchmarks.program import run
from benchmarks.server import Server, find_binary


async def measure(url: str, count: int, running: int) -> None:
    workers, caller = Engine(RedisBroker(url), "bench"), Engine(RedisBroker(url), "bench")
    seconds: list[float] = []
    asked: dict[int, float] = {}
    started, ended = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def job(number: int) -> None:
        started.release()
        try:
            await asyncio.Event().wait()
        finally:
            if number in asked:
                seconds.append(time.perf_counter() - asked[number])
                ended.release()

    for engine in (workers, caller):
        engine.task(name="job")(job)
    async with workers, caller:
        await workers.start_workers(running, block=False, shutdown_timeout=0)
        jobs = [await caller.schedule("job", number) for number in range(count + running)]
        for number in range(count):
            await started.acquire()
            asked[number] = time.perf_counter()
            await caller.cancel(jobs[number])
            await ended.acquire()
        await workers.stop_workers()
    seconds.sort()
    send(
        {
            "cancelled": count,
            "running": running,
            "p50 ms": 1000 * seconds[count // 2],
            "p99 ms": 1000 * seconds[count * 99 // 100],
            "max ms": 1000 * seconds[-1],
        }
    )


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many jobs to cancel (default: 1000)")
    parser.add_argument("--running", type=int, default=50, help="how many jobs run (default: 50)")
    arguments = parser.parse_args()
    with Server(find_binary()) as server:
        run(measure(server.url, arguments.count, arguments.running), uvloop=True)


if __name__ == "__main__":
    main()
