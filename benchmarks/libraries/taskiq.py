"""taskiq, with the streams of taskiq-redis."""

from __future__ import annotations

import argparse
from typing import Any

from taskiq.api import run_receiver_task
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.program import Program, main


class Taskiq(Program):
    def __init__(self, arguments: argparse.Namespace, ledger: Any) -> None:
        super().__init__(arguments, ledger)
        broker = RedisStreamBroker(self.url, consumer_id="0", xread_count=500)
        if arguments.results:
            backend: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(self.url, result_ex_time=300)
            broker = broker.with_result_backend(backend)
        self.broker = broker.with_serializer(ORJSONSerializer())

        @self.broker.task(task_name="job")
        async def job(n: int) -> int:
            self.ledger.note(n)
            return n

        self.job = job

    async def open(self) -> None:
        await self.broker.startup()

    async def schedule(self, n: int) -> None:
        await self.job.kiq(n)

    async def result(self, n: int) -> int:
        task = await self.job.kiq(n)
        result: int = (await task.wait_result(check_interval=0.01)).return_value
        return result

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
