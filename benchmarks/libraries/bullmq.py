"""BullMQ for Python."""

from __future__ import annotations

from typing import Any

from bullmq import Queue, Worker

from benchmarks.program import Program, main

OPTIONS = {"removeOnComplete": True}


class BullMQ(Program):
    async def open(self) -> None:
        self.queue = Queue("bench", {"connection": self.url})

    async def schedule(self, n: int) -> None:
        await self.queue.add("job", {"n": n}, OPTIONS)

    async def schedule_batch(self, numbers: range) -> None:
        await self.queue.addBulk([{"name": "job", "data": {"n": n}, "opts": OPTIONS} for n in numbers])

    async def work(self, concurrency: int) -> None:
        async def job(given: Any, token: str) -> None:
            self.ledger.note(given.data["n"])

        options = {"connection": self.url, "concurrency": concurrency, "autorun": False}
        await Worker("bench", job, options).run()


if __name__ == "__main__":
    main(BullMQ)
