"""Spinach, with its asyncio workers, or its threads for plain functions; jobs are scheduled by threads."""

from __future__ import annotations

import argparse
from typing import Any

import uvloop
from redis import Redis
from spinach import AsyncioWorkers, Batch, Engine, RedisBroker, ThreadWorkers

from benchmarks.program import ThreadedProgram, main


class Spinach(ThreadedProgram):
    def __init__(self, arguments: argparse.Namespace, ledger: Any) -> None:
        super().__init__(arguments, ledger)
        self.engine = Engine(RedisBroker(Redis.from_url(self.url)), namespace="bench")

        async def job(n: int) -> None:
            self.ledger.note(n)

        def plain(n: int) -> None:
            self.ledger.note(n)

        self.engine.task(name="job")(plain if arguments.plain else job)

    async def open(self) -> None:
        self.engine._broker.start()

    def schedule_now(self, n: int) -> None:
        self.engine.schedule("job", n)

    async def schedule_batch(self, numbers: range) -> None:
        batch = Batch()
        for n in numbers:
            batch.schedule("job", n)
        self.engine.schedule_batch(batch)

    async def work(self, concurrency: int) -> None:
        uvloop.install()  # for the thread of its workers
        kind = ThreadWorkers if self.arguments.plain else AsyncioWorkers
        self.engine.start_workers(number=concurrency, block=True, workers_class=kind)


if __name__ == "__main__":
    main(Spinach)
