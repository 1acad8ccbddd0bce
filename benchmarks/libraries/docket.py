"""docket."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from docket import Docket, Worker

from benchmarks.program import Program, main


class DocketProgram(Program):
    def __init__(self, arguments: argparse.Namespace, ledger: Any) -> None:
        super().__init__(arguments, ledger)
        # redis-py allows 100 connections by default, and each running job may need one.
        url = f"{self.url}?max_connections=1000"
        self.docket = Docket(
            "bench", url=url, execution_ttl=timedelta(seconds=300 if arguments.results else 0)
        )

        async def job(n: int) -> int:
            self.ledger.note(n)
            return n

        self.job = job

    async def open(self) -> None:
        await self.docket.__aenter__()
        self.docket.register(self.job)

    async def schedule(self, n: int) -> None:
        await self.docket.add(self.job)(n)

    async def schedule_batch(self, numbers: range) -> None:
        await self.docket.add_many([self.docket.call(self.job)(n) for n in numbers])

    async def result(self, n: int) -> int:
        execution = await self.docket.add(self.job)(n)
        result: int = await execution.get_result()
        return result

    async def work(self, concurrency: int) -> None:
        await self.open()
        # The pause between two looks when all slots are taken; 250 ms by default.
        pause = timedelta(milliseconds=2)
        async with Worker(self.docket, concurrency=concurrency, minimum_check_interval=pause) as worker:
            await worker.run_forever()


if __name__ == "__main__":
    main(DocketProgram)
