"""arq."""

from __future__ import annotations

from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

from benchmarks.program import Program, main


class Arq(Program):
    async def open(self) -> None:
        self.pool = await create_pool(RedisSettings.from_dsn(self.url))

    async def schedule(self, n: int) -> None:
        await self.pool.enqueue_job("job", n)

    async def result(self, n: int) -> int:
        job = await self.pool.enqueue_job("job", n)
        assert job is not None
        result: int = await job.result(poll_delay=0.1)
        return result

    async def work(self, concurrency: int) -> None:
        async def job(context: dict[Any, Any], n: int) -> int:
            self.ledger.note(n)
            return n

        worker = Worker(
            [func(job, name="job")],
            redis_settings=RedisSettings.from_dsn(self.url),
            max_jobs=concurrency,
            keep_result=300 if self.arguments.results else 0,
            poll_delay=0.1,
            log_results=False,
        )
        await worker.async_run()


if __name__ == "__main__":
    main(Arq)
