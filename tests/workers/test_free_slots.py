"""Free slots go to queues that have jobs, also after failed exchanges, late answers and missed wake-ups."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence

import msgspec
import pytest

from aiospinach import BrokerUnavailable, Engine, MemoryBroker
from aiospinach.brokers.records import NO_PARKING, ExchangeResult, Parking, RenewResult, Settlement
from aiospinach.workers import listener
from aiospinach.workers.pool import Pool

from ..waiting import until
from .failing import FailingBroker


def pool_of(engine: Engine) -> Pool:
    assert engine._workers.pool is not None
    return engine._workers.pool


class Held(MemoryBroker):
    """Delays the first exchange of one queue, and then reports that jobs are left in it."""

    def __init__(self) -> None:
        super().__init__()
        self.held_queue = "b"
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.exchanges: Counter[str] = Counter()

    async def exchange(
        self, queue: str, settled: Sequence[Settlement], want: int, parking: Parking = NO_PARKING
    ) -> ExchangeResult:
        exchanged = await super().exchange(queue, settled, want, parking)
        self.exchanges[queue] += 1
        if queue == self.held_queue and want and not self.asked.is_set():
            self.asked.set()
            await self.answer.wait()
            return msgspec.structs.replace(exchanged, is_something_left=True)
        return exchanged


async def test_slots_left_by_an_exchange_go_to_an_earlier_queue_woken_meanwhile(
    namespace: str,
) -> None:
    broker = Held()
    ran: list[str] = []
    async with Engine(broker, namespace) as engine:

        @engine.task(queue="a")
        async def first() -> None:
            ran.append("first")

        @engine.task(queue="b")
        async def second() -> None:
            ran.append("second")

        cancelled = await second.schedule()
        await engine.cancel(cancelled)  # its id stays in the queue, so that the queue is exchanged with
        await engine.start_workers(1, ["a", "b"], block=False)
        await asyncio.wait_for(broker.asked.wait(), 10)
        await first.schedule()
        await until(
            lambda: broker.exchanges["a"] >= 1, "the earlier queue is exchanged with, without a free slot"
        )
        broker.answer.set()
        await until(lambda: ran == ["first"], "its job runs", timeout=3)
        await engine.stop_workers()


async def test_all_free_slots_are_used_although_waiting_for_jobs_failed(
    engine: Engine, broker: FailingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PAUSE", 60.0)
    may_end = asyncio.Event()
    began: list[int] = []

    @engine.task
    async def job(number: int) -> None:
        began.append(number)
        await may_end.wait()
        may_end.clear()

    broker.go_away("wait")
    await job.schedule(0)
    await engine.start_workers(10, block=False)
    await until(lambda: began == [0])
    for number in (1, 2, 3):
        await job.schedule(number)
    may_end.set()
    await until(lambda: began == [0, 1, 2, 3], "they start when the first has ended", timeout=3)
    broker.come_back()
    await engine._workers.pool.state.broker.nudge(["default"])  # type: ignore[union-attr]
    pool_of(engine).interrupt()
    await engine.stop_workers()


class OneQueueAway(MemoryBroker):
    """Refuses the exchanges of one queue."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    async def exchange(
        self, queue: str, settled: Sequence[Settlement], want: int, parking: Parking = NO_PARKING
    ) -> ExchangeResult:
        if queue == "away":
            self.refused += 1
            raise BrokerUnavailable("it is away")
        return await super().exchange(queue, settled, want, parking)


async def test_a_queue_that_is_away_takes_no_turn_when_woken(namespace: str) -> None:
    ran: list[int] = []
    async with Engine(OneQueueAway(), namespace) as engine:

        @engine.task(queue="away")
        async def lost() -> None: ...

        @engine.task(queue="here")
        async def job(number: int) -> None:
            ran.append(number)

        await lost.schedule()
        await engine.start_workers(2, ["away", "here"], block=False)
        pool = pool_of(engine)
        await until(lambda: pool.consumers[0].is_failing)
        for number in range(20):
            pool.consumers[0].wake()
            assert pool.slots.turns.first != 0, "it would be served before the others"
            assert pool.listeners[0]._span.asking == 0, "no wake-up would be noticed"
            await job.schedule(number)
            await until(lambda: ran[-1:] == [number], timeout=3)  # noqa: B023
        await engine.stop_workers()


class SlowNudge(FailingBroker):
    """Answers a nudge long after the wait has ended."""

    async def nudge(self, queues: Sequence[str]) -> None:
        await super().nudge(queues)
        await asyncio.sleep(30)


async def test_a_late_answer_to_a_nudge_does_not_replace_the_next_nudge(namespace: str) -> None:
    broker = SlowNudge()
    async with Engine(broker, namespace) as engine:
        may_end = asyncio.Event()
        began = 0

        @engine.task(queue="a")
        async def earlier() -> None: ...

        @engine.task(queue="b")
        async def job() -> None:
            nonlocal began
            began += 1
            await may_end.wait()
            may_end.clear()

        def waits_for(*queues: str) -> bool:
            return [waiter.queues for waiter in broker._waits.waiters] == [set(queues)]

        await engine.start_workers(1, ["a", "b"], block=False)
        await until(lambda: waits_for("a", "b"))
        for number in range(1, 4):
            await job.schedule()
            await until(lambda: began == number, timeout=3)  # noqa: B023
            await until(lambda: waits_for("a"), "it waits for earlier jobs", timeout=3)
            may_end.set()
            await until(lambda: waits_for("a", "b"), "and for all again", timeout=3)
        await engine.stop_workers()


class SlowRenewal(FailingBroker):
    """Answers a renewal when the test allows it."""

    def __init__(self) -> None:
        super().__init__()
        self.renewed: list[int] = []
        self.answers = asyncio.Semaphore(0)

    async def renew(self, queue: str, leases: Collection[str]) -> RenewResult:
        self.renewed.append(len(leases))
        await self.answers.acquire()
        return await super().renew(queue, leases)


async def test_a_lease_received_during_a_renewal_is_renewed_after_it(namespace: str) -> None:
    broker = SlowRenewal()
    async with Engine(broker, namespace) as engine:
        end = asyncio.Event()

        @engine.task
        async def job() -> None:
            await end.wait()

        await job.schedule()
        await engine.start_workers(5, block=False)
        pool = pool_of(engine)
        await until(lambda: len(pool.runs) == 1)
        pool.heartbeat.renew(pool.consumers[0]._outbox)
        await until(lambda: broker.renewed == [1])
        await job.schedule()
        await until(lambda: len(pool.runs) == 2)
        pool.heartbeat.renew(pool.consumers[0]._outbox)  # as for a lease that ends soon
        broker.answers.release()
        await until(lambda: broker.renewed == [1, 2], "the new one is renewed as well", timeout=3)
        broker.answers.release()
        end.set()
        await engine.stop_workers()


@pytest.mark.parametrize("where", ["drain", "answer"])
async def test_a_defect_during_a_drain_or_settlement_ends_the_pool(
    namespace: str, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    engine = Engine(MemoryBroker(), namespace)
    end = asyncio.Event()

    def fail(*arguments: object) -> None:
        raise RuntimeError("a defect")

    @engine.task
    async def job() -> None:
        await end.wait()

    for _ in range(3):
        await job.schedule()
    await engine.start_workers(5, block=False, shutdown_timeout=0.1)
    pool = pool_of(engine)
    await until(lambda: len(pool.runs) == 3)
    if where == "drain":
        monkeypatch.setattr(pool.supervisor.draining, "_is_idle", fail)
    else:
        monkeypatch.setattr(pool.consumers[0]._outbox, "on_answer", fail)
    end.set()
    with pytest.raises(RuntimeError, match="a defect"):
        await asyncio.wait_for(engine.stop_workers(), 8)
    await until(lambda: not pool.runs, "every run ends")
