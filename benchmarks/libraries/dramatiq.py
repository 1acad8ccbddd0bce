"""dramatiq, which runs all functions in threads."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.program import ThreadedProgram, main


class Dramatiq(ThreadedProgram):
    def __init__(self, arguments: argparse.Namespace, ledger: Any) -> None:
        super().__init__(arguments, ledger)
        self.broker = RedisBroker(url=self.url)

        @dramatiq.actor(actor_name="job", broker=self.broker)
        def job(n: int) -> None:
            self.ledger.note(n)

        self.job = job

    def schedule_now(self, n: int) -> None:
        self.job.send(n)

    async def work(self, concurrency: int) -> None:
        dramatiq.Worker(self.broker, worker_threads=concurrency).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    main(Dramatiq)
