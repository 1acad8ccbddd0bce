"""What a job costs on the MemoryBroker: ``python benchmarks/memory.py [--jobs 100000] [--number 32]``.

Schedules no-op jobs in batches, drains them with one pool, and prints microseconds of CPU per job, with
no receiver, with a sync and with an async one on every signal; checks that each job ran exactly once and
that its signals came in order. Then what one dispatch of a signal costs. Read the ratios: the figures
themselves are of this machine, at this moment.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import platform
import resource
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from aiospinach import Batch, Engine, MemoryBroker, RetryException, signals
from aiospinach.signals import SafeNamedSignal

JOB_SIGNALS = [
    signals.job_scheduled,
    signals.job_started,
    signals.job_schedule_retry,
    signals.job_failed,
    signals.job_cancelled,
    signals.job_finished,
]
BATCH = 1000


class Drain:
    """Jobs in batches, drained once; ``failing`` of ten fail, half of those for ever."""

    def __init__(self, jobs: int, number: int, failing: int = 0) -> None:
        self.jobs = jobs
        self.number = number
        self.failing = failing
        self.runs: Counter[int] = Counter()

    async def run(self) -> tuple[float, float, float]:
        """Microseconds of CPU per job to schedule and to drain, and jobs per second drained."""
        engine = Engine(MemoryBroker(), "bench")

        @engine.task(max_retries=1, backoff=lambda attempt: 0.0)
        async def job(n: int) -> None:
            self.runs[n] += 1
            if n % 10 < self.failing and (self.runs[n] == 1 or n % 2):
                raise RetryException("as arranged")

        began = time.process_time()
        for first in range(0, self.jobs, BATCH):
            batch = Batch()
            for n in range(first, min(first + BATCH, self.jobs)):
                batch.schedule(job, n)
            await engine.schedule_batch(batch)
        scheduled, clock = time.process_time(), time.perf_counter()
        await engine.start_workers(self.number, stop_when_queue_empty=True)
        drained, seconds = time.process_time(), time.perf_counter() - clock
        for n in range(self.jobs):
            expected = 2 if n % 10 < self.failing else 1
            assert self.runs[n] == expected, f"job {n} ran {self.runs[n]} times"
        per_job = 1e6 / self.jobs
        return (scheduled - began) * per_job, (drained - scheduled) * per_job, self.jobs / seconds


def connect_everywhere(make: Callable[[SafeNamedSignal], Callable[..., Any]]) -> None:
    for signal in JOB_SIGNALS:
        signal.connect(make(signal))


def disconnect_all() -> None:
    for signal in JOB_SIGNALS:
        for receiver in list(signal.receivers_for("bench")):
            signal.disconnect(receiver)


def sync_receiver(signal: SafeNamedSignal) -> Callable[..., Any]:
    return lambda namespace, **kwargs: None


def async_receiver(signal: SafeNamedSignal) -> Callable[..., Any]:
    async def receiver(namespace: str, **kwargs: Any) -> None:
        pass

    return receiver


async def ordered(jobs: int, number: int) -> str:
    """Three in ten jobs fail at first, with an async receiver on every signal that notes what it hears."""
    heard: defaultdict[str, list[str]] = defaultdict(list)

    def noting(signal: SafeNamedSignal) -> Callable[..., Any]:
        async def receiver(namespace: str, job: Any, **kwargs: Any) -> None:
            heard[job.id].append(signal.name)

        return receiver

    connect_everywhere(noting)
    await Drain(jobs, number, failing=3).run()
    disconnect_all()
    retried = ("job_started", "job_schedule_retry", "job_finished")
    allowed = {
        ("job_started", "job_finished"),
        (*retried, "job_started", "job_finished"),
        (*retried, "job_started", "job_failed", "job_finished"),
    }
    for names in heard.values():
        told = tuple(name for name in names if name != "job_scheduled")
        assert told in allowed, told
    assert len(heard) == jobs
    return f"{jobs:,} jobs, signals in order for each: " + ", ".join(
        f"{count:,} {name}"
        for name, count in Counter(name for names in heard.values() for name in names).items()
    )


async def dispatch(make: Callable[[SafeNamedSignal], Callable[..., Any]] | None) -> float:
    """Microseconds of CPU for one sending."""
    signal = SafeNamedSignal("bench")
    if make is not None:
        signal.connect(make(signal))
    count = 20_000
    began = time.process_time()
    for _ in range(count):
        await signal.send_async("bench", job=None)
    return (time.process_time() - began) / count * 1e6


async def measure(arguments: argparse.Namespace) -> None:
    print(f"Python {platform.python_version()}, {type(asyncio.get_running_loop()).__module__};", end=" ")
    print(f"{arguments.jobs:,} no-op jobs, number={arguments.number}, median of {arguments.repeat}")
    print(f"\n| receivers on every job signal | {'schedule us':>11} | {'drain us':>8} | {'jobs/s':>8} |")
    print("|---|---:|---:|---:|")
    for title, make in (("none", None), ("one sync", sync_receiver), ("one async", async_receiver)):
        rows = []
        for _ in range(arguments.repeat):
            if make is not None:
                connect_everywhere(make)
            rows.append(await Drain(arguments.jobs, arguments.number).run())
            disconnect_all()
        schedule, drain, speed = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"| {title:29} | {schedule:11.1f} | {drain:8.1f} | {speed:8,.0f} |")
    print("\n| dispatch of one signal | us |\n|---|---:|")
    for title, make in (("none", None), ("one sync", sync_receiver), ("one async", async_receiver)):
        print(f"| {title} | {await dispatch(make):.2f} |")
    print(f"\n{await ordered(arguments.jobs, arguments.number)}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def main() -> None:
    logging.disable(logging.CRITICAL)  # thousands of failures are arranged here
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000, help="how many jobs (default: 100,000)")
    parser.add_argument("--number", type=int, default=32, help="how many at once (default: 32)")
    parser.add_argument("--repeat", type=int, default=3, help="how often; the median counts (default: 3)")
    parser.add_argument("--uvloop", action="store_true", help="run in uvloop")
    arguments = parser.parse_args()
    if arguments.uvloop:
        import uvloop

        uvloop.run(measure(arguments))
    else:
        asyncio.run(measure(arguments))


if __name__ == "__main__":
    main()
