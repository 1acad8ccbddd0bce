"""saq."""

from __future__ import annotations

from typing import Any

import orjson
from saq import Job, Queue, Worker

from benchmarks.program import CALLERS, Program, main


class Saq(Program):
    async def open(self) -> None:
        self.queue = Queue.from_url(
            self.url,
            dump=orjson.dumps,
            load=orjson.loads,
            max_concurrent_ops=max(CALLERS, self.arguments.concurrency),
        )
        await self.queue.connect()

    async def schedule(self, n: int) -> None:
        await self.queue.enqueue(Job("job", kwargs={"n": n}, ttl=-1))

    async def result(self, n: int) -> int:
        result: int = await self.queue.apply("job", n=n, timeout=60)
        return result

    async def work(self, concurrency: int) -> None:
        async def job(context: dict[str, Any], *, n: int) -> int:
            self.ledger.note(n)
            return n

        await self.open()
        await Worker(self.queue, functions=[("job", job)], concurrency=concurrency).start()


if __name__ == "__main__":
    main(Saq)
