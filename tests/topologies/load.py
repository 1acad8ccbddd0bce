"""Load for topologies, and a record of the jobs that ran."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from aiospinach import Broker, Engine

from ..waiting import until


class Work:
    """An engine with a task for each queue, and counts of the jobs scheduled and run."""

    def __init__(self, broker: Broker, namespace: str, queues: Sequence[str]) -> None:
        self.engine = Engine(broker, namespace)
        self.queues = queues
        self.runs: Counter[str] = Counter()
        self.scheduled: Counter[str] = Counter()
        for queue in queues:
            self._add(queue)

    def _add(self, queue: str) -> None:
        @self.engine.task(name=f"run.{queue}", queue=queue)
        async def run(number: int) -> None:
            await asyncio.sleep(0.001)
            self.runs[f"{queue}/{number}"] += 1

    async def schedule(self, queue: str, number: int) -> None:
        await self.engine.schedule(f"run.{queue}", number)
        self.scheduled[f"{queue}/{number}"] += 1

    async def schedule_soon(self, queue: str, number: int) -> None:
        """Schedule a job for later, which a tick queues."""
        at = datetime.now(UTC) + timedelta(milliseconds=300)
        await self.engine.schedule_at(f"run.{queue}", at, number)
        self.scheduled[f"{queue}/{number}"] += 1

    async def schedule_all(self, numbers: range) -> None:
        for number in numbers:
            await asyncio.gather(*(self.schedule(queue, number) for queue in self.queues))

    def missing(self) -> Counter[str]:
        return self.scheduled - self.runs

    async def done(self) -> None:
        """Return when every scheduled job has run once."""
        await until(lambda: not self.missing(), "every job ran", timeout=30, show=self.missing)
        assert self.runs == self.scheduled
