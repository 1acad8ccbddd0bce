"""A broker in memory that a test can break, and that counts waiting workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from aiospinach import BrokerUnavailable, MemoryBroker
from aiospinach.brokers.questions import Question
from aiospinach.brokers.records import (
    NO_PARKING,
    ExchangeResult,
    Parking,
    RenewResult,
    Settlement,
    SweepResult,
    TickResult,
)

T = TypeVar("T")


class FailingBroker(MemoryBroker):
    """Raises the errors in ``broken`` in the methods that are its keys."""

    def __init__(self, *, lease: float = 60.0) -> None:
        super().__init__(lease=lease)
        self.broken: dict[str, type[Exception]] = {}
        self.refused: Counter[str] = Counter()
        """The number of calls that raised, by method."""
        self.exchanges = 0
        self.sleepers = 0
        """The number of workers that wait for work."""

    def go_away(self, *methods: str) -> None:
        """Make these methods unavailable, or all."""
        for method in methods or ("open", "register", "exchange", "renew", "tick", "sweep", "wait", "look"):
            self.broken[method] = BrokerUnavailable

    def come_back(self) -> None:
        self.broken.clear()

    def _check(self, method: str) -> None:
        error = self.broken.get(method)
        if error is not None:
            self.refused[method] += 1
            raise error(f"{method} is broken")

    async def open(self, namespace: str, **options: Any) -> None:
        self._check("open")
        await super().open(namespace, **options)

    async def register(
        self, queue: str, limits: Mapping[str, int], periodic: Mapping[str, int], worker: str = "-"
    ) -> Mapping[str, int]:
        self._check("register")
        return await super().register(queue, limits, periodic, worker)

    async def exchange(
        self, queue: str, settled: Sequence[Settlement], want: int, parking: Parking = NO_PARKING
    ) -> ExchangeResult:
        self.exchanges += 1
        self._check("exchange")
        return await super().exchange(queue, settled, want, parking)

    async def renew(self, queue: str, leases: Collection[str]) -> RenewResult:
        self._check("renew")
        return await super().renew(queue, leases)

    async def tick(self, queue: str) -> TickResult:
        self._check("tick")
        return await super().tick(queue)

    async def sweep(self, queues: Sequence[str], *report: Any, **last: Any) -> list[SweepResult]:
        self._check("sweep")
        return await super().sweep(queues, *report, **last)

    async def look(self, queue: str, question: Question[T]) -> T:
        self._check("look")
        return await super().look(queue, question)

    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        self._check("wait")
        self.sleepers += 1
        try:
            return await super().wait(queues, timeout)
        finally:
            self.sleepers -= 1
