"""Draining the MemoryBroker, and dispatching one signal: ``python -m benchmarks.profiles.memory``."""

from __future__ import annotations

import argparse
import logging
import time
from typing import Any

from aiospinach import Batch, Engine, MemoryBroker
from aiospinach.signals import SafeNamedSignal
from benchmarks.ledger import send
from benchmarks.libraries.aiospinach import receiver
from benchmarks.program import BATCH, run

DISPATCHES = 20_000


async def drain(jobs: int, number: int, queues: int = 1) -> dict[str, Any]:
    """Schedule in batches, drain with one pool; each job must run exactly once. Queues have jobs in turn."""
    engine = Engine(MemoryBroker(), "bench")
    runs = bytearray(jobs)

    async def job(n: int) -> None:
        runs[n] += 1

    names = [f"queue-{number}" for number in range(queues)]
    tasks = [engine.task(name=f"job-{name}", queue=name)(job) for name in names]
    began, cpu = time.perf_counter(), time.process_time()
    for first in range(0, jobs, BATCH):
        batch = Batch()
        for n in range(first, min(first + BATCH, jobs)):
            batch.schedule(tasks[n % queues], n)
        await engine.schedule_batch(batch)
    scheduled, used = time.perf_counter(), time.process_time()
    await engine.start_workers(number, queue=names, stop_when_queue_empty=True)
    ended = time.perf_counter()
    assert bytes(runs) == b"\1" * jobs, "a job was lost, or ran twice"
    return {
        "schedule/s": jobs / (scheduled - began),
        "drain/s": jobs / (ended - scheduled),
        "worker us/job": (time.process_time() - used) / jobs * 1e6,
        "client us/job": (used - cpu) / jobs * 1e6,
    }


async def dispatch(kind: str) -> float:
    """Microseconds of one sending: to no receiver, a sync or an async one."""
    signal = SafeNamedSignal("bench")
    if kind != "none":
        signal.connect(receiver(kind, signal))
    began = time.process_time()
    for _ in range(DISPATCHES):
        await signal.send_async("bench", job=None)
    return (time.process_time() - began) / DISPATCHES * 1e6


async def measure(arguments: argparse.Namespace) -> None:
    values = await drain(arguments.jobs, arguments.number)
    for kind in ("none", "sync", "async"):
        values[f"dispatch {kind} us"] = await dispatch(kind)
    send(values)


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000, help="how many jobs (default: 20,000)")
    parser.add_argument("--number", type=int, default=32, help="how many at once (default: 32)")
    parser.add_argument("--asyncio", action="store_true", help="run in asyncio's own loop, not in uvloop")
    arguments = parser.parse_args()
    run(measure(arguments), uvloop=not arguments.asyncio)


if __name__ == "__main__":
    main()
