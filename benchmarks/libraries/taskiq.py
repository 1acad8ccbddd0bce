"""taskiq, with the streams of taskiq-redis."""

from __future__ import annotations

import argparse
from typing import Any

from taskiq.api import run_receiver_task
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisStreamBroker

from benchmarks.program import Program, main


class Taskiq(Program):
    def __init__(self, arguments: argparse.Namespace, ledger: Any) -> None:
        super().__init__(arguments, ledger)
        broker = RedisStreamBroker(self.url, consumer_id="0", xread_count=500)
        self.broker = broker.with_serializer(ORJSONSerializer())

        @self.broker.task(task_name="job")
        async def job(n: int) -> None:
            self.ledger.note(n)

        self.job = job

    async def open(self) -> None:
        await self.broker.startup()

    async def schedule(self, n: int) -> None:
        await self.job.kiq(n)

    async def work(self, concurrency: int) -> None:
        self.broker.is_worker_process = True
        await run_receiver_task(
            self.broker,
            max_async_tasks=concurrency,
            max_prefetch=500,
            validate_params=False,
            run_startup=True,
        )


if __name__ == "__main__":
    main(Taskiq)
