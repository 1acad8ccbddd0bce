"""aiospinach."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aiospinach import Batch, Engine, RedisBroker, Task, signals
from aiospinach.signals import SafeNamedSignal
from benchmarks.program import Program, main

JOB_SIGNALS = [
    signals.job_scheduled,
    signals.job_started,
    signals.job_schedule_retry,
    signals.job_failed,
    signals.job_cancelled,
    signals.job_finished,
]


def connect(kind: str) -> None:
    """Connect a receiver to every signal of jobs: of no kind, ``sync`` or ``async``."""
    for signal in JOB_SIGNALS:
        if kind != "none":
            signal.connect(receiver(kind, signal))


def receiver(kind: str, signal: SafeNamedSignal) -> Callable[..., Any]:
    """A new one, that does nothing."""

    async def receiver(namespace: str, **kwargs: Any) -> None:
        pass

    return receiver if kind == "async" else lambda namespace, **kwargs: None


class Aiospinach(Program):
    def __init__(self, arguments: argparse.Namespace, ledger: Any) -> None:
        super().__init__(arguments, ledger)
        self.engine = Engine(RedisBroker(self.url), "bench")

        async def job(n: int) -> int | None:
            self.ledger.note(n)
            return n if arguments.results else None

        def plain(n: int) -> None:
            self.ledger.note(n)

        result_ttl = 300 if arguments.results else None
        self.queues = [f"queue-{number}" for number in range(arguments.queues)]
        self.jobs: list[Task[[int], Any]] = [
            self.engine.task(name=f"job-{queue}", queue=queue, result_ttl=result_ttl)(
                plain if arguments.plain else job
            )
            for queue in self.queues
        ]
        if arguments.blocked:

            @self.engine.task(name="blocked", queue=self.queues[0], max_concurrency=1)
            async def blocked(n: int) -> None:
                await asyncio.sleep(3600)

            self.jobs = [blocked]
        self.at = datetime.fromtimestamp(arguments.at, UTC) if arguments.at else None
        connect(arguments.receivers)

    async def schedule(self, n: int) -> None:
        await self.engine.schedule(self._job(n), n)

    async def schedule_batch(self, numbers: range) -> None:
        batch = Batch()
        for n in numbers:
            if self.at is None:
                batch.schedule(self._job(n), n)
            else:
                batch.schedule_at(self._job(n), self.at, n)
        await self.engine.schedule_batch(batch)

    async def result(self, n: int) -> int:
        job = await self.engine.schedule(self._job(n), n)
        result: int = await self.engine.result(job)
        return result

    async def work(self, concurrency: int) -> None:
        await self.engine.start_workers(concurrency, queue=self.queues)

    def _job(self, n: int) -> Task[[int], Any]:
        return self.jobs[n % len(self.jobs)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--receivers", default="none", choices=["none", "sync", "async"])
    parser.add_argument("--blocked", action="store_true", help="have a task of which one job may run, too")
    parser.add_argument("--queues", type=int, default=1, help="over how many queues to jitter the jobs")
    parser.add_argument("--at", type=float, help="when the jobs are due, in seconds since 1970")
    main(Aiospinach, parser)
