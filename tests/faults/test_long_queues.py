"""The cost of a call does not depend on the length of the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis

from aiospinach import RedisBroker
from aiospinach.brokers.records import Envelope, Settlement
from aiospinach.outcome import Action

from ..redis.conftest import Counts
from ..servers import Server
from ..waiting import until
from .conftest import CHAOS, Report, Size
from .fleet import Store

SLOW = 10_000
"""In microseconds, the maximum of a call."""
IN_A_ROW = 3
"""A busy machine slows single calls; so many slow calls of one kind in a row are the calls' fault."""
HOUR = 3_600_000
Result = TypeVar("Result")


class Steps:
    """Runs steps, and looks each one up in the server's slow log."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._in_a_row: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self.slow: Counter[str] = Counter()
        self.most_in_a_row = 0
        client.config_set("slowlog-log-slower-than", SLOW)

    async def take(self, name: str, step: Callable[[], Awaitable[Result]]) -> Result:
        self._client.slowlog_reset()
        result = await step()
        entries = self._client.slowlog_get(10)
        is_slow = any(entry["command"].upper().startswith(b"EVAL") for entry in entries)
        self.taken[name] += 1
        self.slow[name] += is_slow
        self._in_a_row[name] = self._in_a_row[name] + 1 if is_slow else 0
        self.most_in_a_row = max(self.most_in_a_row, self._in_a_row[name])
        return result


class Filled:
    """A queue that is filled, and worked on without workers."""

    def __init__(self, broker: RedisBroker, client: redis.Redis) -> None:
        self.broker = broker
        self.steps = Steps(client)
        self._client = client
        self._number = 0

    async def add(self, count: int, *, due_in: int = 0) -> int:
        """Add jobs in batches of up to 1,000, due in ``due_in`` milliseconds; returns their moment."""
        at = self.broker.now() + due_in if due_in else 0
        for first in range(0, count, 1000):
            numbers = range(self._number, self._number + min(1000, count - first))
            self._number = numbers.stop
            jobs = [Envelope(f"job-{number}", "job", b"[[],{}]", at) for number in numbers]
            await self.steps.take("enqueue", lambda: self.broker.enqueue("default", jobs))  # noqa: B023
        return at

    async def add_due(self, count: int) -> None:
        """Add jobs for later, and return when they are due."""
        at = await self.add(count, due_in=1000)
        await until(lambda: self.broker.now() > at + 50, "they are due")

    async def work(self, settled: list[Settlement], want: int) -> list[Settlement]:
        """Settle jobs and lease others; returns settlements for these."""
        answer = await self.steps.take("exchange", lambda: self.broker.exchange("default", settled, want))
        assert not answer.fenced
        return [Settlement(lease, Action.DONE) for lease in answer.leases]

    async def tick(self) -> None:
        await self.steps.take("tick", lambda: self.broker.tick("default"))

    async def costs(self) -> dict[str, dict[str, int]]:
        """The commands of each kind of call, including those inside of scripts."""
        await self.work([], 0)
        await self.tick()  # so that the server has both scripts
        await self.add_due(10)
        costs, counts = {}, Counts(self._client)

        def note(name: str) -> None:
            costs[name] = {k: n for k, n in counts.by_name().items() if not k.startswith("slowlog")}
            counts.start()

        counts.start()
        await self.tick()
        note("tick of 10")
        done = await self.work([], 10)
        note("fetch of 10")
        assert len(done) == 10
        done = await self.work(done, 10)
        note("settling and fetching 10")
        await self.work(done, 0)
        return costs


async def test_a_long_queue_costs_no_more_commands_than_a_short_one(
    server: Server, namespace: str, store: Store, size: Size, report: Report
) -> None:
    queued, future = size(20_000, 1_000_000), size(5_000, 100_000)
    promoted = size(2_000, 20_000)
    broker = RedisBroker(server.unix_url)
    await broker.open(namespace)
    with server.client() as client:
        filled = Filled(broker, client)
        await filled.add(1000)
        await filled.add(100, due_in=HOUR)
        short = await filled.costs()

        await filled.add(queued - store.ready)
        await filled.add(future - 100, due_in=HOUR)
        assert (store.ready, store("ZCARD", "future")) == (queued, future)
        long = await filled.costs()

        await filled.add_due(promoted)
        before = store.ready
        done: list[Settlement] = []
        for _ in range(promoted // 1000):
            await filled.tick()
            for want in (1, 10, 100, 1000):
                done = await filled.work(done, want)
                assert len(done) == want
        await filled.work(done, 0)
        fetched = promoted // 1000 * 1111
        assert store.ready == before + promoted - fetched
        assert (store("ZCARD", "future"), store.leases) == (future, 0)
    await broker.aclose()

    steps = filled.steps
    report(
        queued=queued,
        future=future,
        commands={name: (sum(short[name].values()), sum(long[name].values())) for name in short},
        calls=dict(steps.taken),
        over_10_ms=dict(steps.slow),
        in_a_row_at_most=steps.most_in_a_row,
    )
    assert long == short
    assert sum(long["fetch of 10"].values()) <= 13
    if CHAOS:  # the suite asserts no durations
        assert steps.most_in_a_row < IN_A_ROW
