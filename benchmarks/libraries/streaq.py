"""streaq."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from streaq import Worker

from benchmarks.program import CALLERS, Program, main

WAITS = 30
"""Waits for results at once. Each one holds a connection and needs another one to read. Many more hold all
connections of the pool, and wait for ever."""


class Streaq(Program):
    def __init__(self, arguments: argparse.Namespace, ledger: Any) -> None:
        super().__init__(arguments, ledger)
        concurrency = arguments.concurrency if arguments.what == "work" else CALLERS
        self.worker: Worker[None] = Worker(
            redis_url=self.url, concurrency=concurrency, prefetch=concurrency, handle_signals=False
        )

        @self.worker.task(name="job", ttl=300 if arguments.results else 0, silent=True)
        async def job(n: int) -> int:
            self.ledger.note(n)
            return n

        self.job = job
        self.waits = asyncio.Semaphore(WAITS)

    async def open(self) -> None:
        await self.worker.__aenter__()

    async def schedule(self, n: int) -> None:
        await self.job.enqueue(n)

    async def schedule_batch(self, numbers: range) -> None:
        await self.worker.enqueue_many([self.job.enqueue(n) for n in numbers])

    async def result(self, n: int) -> int:
        task = await self.job.enqueue(n)
        async with self.waits:
            result: int = (await task.result(60)).result
        return result

    async def work(self, concurrency: int) -> None:
        await self.worker.run_async()


if __name__ == "__main__":
    main(Streaq)
