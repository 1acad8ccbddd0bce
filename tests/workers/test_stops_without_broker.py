"""A stop while the broker is unavailable waits only for running jobs and their settlements."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import pytest

from aiospinach import BrokerUnavailable, Engine, Interrupted, JobStatus, MemoryBroker
from aiospinach.brokers.records import (
    NO_PARKING,
    ExchangeResult,
    Parking,
    RenewResult,
    Settlement,
    SweepResult,
    TickResult,
)
from aiospinach.workers import draining

from .. import asking
from ..conftest import Heard
from ..waiting import until
from .job_results import finish_of, reasons_of_death


class PartlyAway(MemoryBroker):
    """Each queue may be unavailable by itself, as on a Cluster; its calls then fail or hang."""

    def __init__(self, *, lease: float = 60.0) -> None:
        super().__init__(lease=lease)
        self.away: set[str] = set()
        self.hangs = False
        self.refused = 0
        self.back = asyncio.Event()
        """Ends the calls that hang."""

    def spans(self, queues: Sequence[str]) -> list[tuple[str, ...]]:
        return [(queue,) for queue in queues]

    async def exchange(
        self, queue: str, settled: Sequence[Settlement], want: int, parking: Parking = NO_PARKING
    ) -> ExchangeResult:
        await self._reach(queue)
        return await super().exchange(queue, settled, want, parking)

    async def renew(self, queue: str, leases: Collection[str]) -> RenewResult:
        await self._reach(queue)
        return await super().renew(queue, leases)

    async def tick(self, queue: str) -> TickResult:
        await self._reach(queue)
        return await super().tick(queue)

    async def sweep(self, queues: Sequence[str], *report: Any, **last: Any) -> list[SweepResult]:
        await self._reach(*queues)
        return await super().sweep(queues, *report, **last)

    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        await self._reach(*queues)
        return await super().wait(queues, timeout)

    async def nudge(self, queues: Sequence[str]) -> None:
        await self._reach(*queues)
        await super().nudge(queues)

    async def _reach(self, *queues: str) -> None:
        if not self.away.isdisjoint(queues):
            self.refused += 1
            if not self.hangs:
                raise BrokerUnavailable("it is away")
            await self.back.wait()


@pytest.fixture
def broker() -> PartlyAway:
    return PartlyAway()


@pytest.fixture
async def engine(broker: PartlyAway, namespace: str) -> AsyncIterator[Engine]:
    async with Engine(broker, namespace) as engine:
        yield engine


def consumers_of(engine: Engine) -> Any:
    pool: Any = engine._workers.pool
    return pool.consumers


KINDS = pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])


@KINDS
@pytest.mark.parametrize("asks", [False, True], ids=["idle", "asking"])
@pytest.mark.parametrize("queues", [["a"], ["a", "b", "c"]], ids=["one", "three"])
@pytest.mark.parametrize("block", [False, True])
async def test_idle_workers_stop_within_two_seconds(
    engine: Engine, broker: PartlyAway, heard: Heard, hangs: bool, asks: bool, queues: list[str], block: bool
) -> None:
    start = asyncio.create_task(engine.start_workers(5, queue=queues, block=block))
    await until(lambda: engine.health().is_connected)
    broker.away, broker.hangs = {queues[-1]}, hangs
    if asks:
        consumers_of(engine)[-1].wake()
        await until(lambda: broker.refused)
    began = time.monotonic()
    await engine.stop_workers()
    assert time.monotonic() - began < 3.0
    await start
    assert heard.names()[-1] == "worker_terminated"


@KINDS
async def test_a_job_is_settled_although_another_queue_is_unavailable(
    engine: Engine, broker: PartlyAway, heard: Heard, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    monkeypatch.setattr(draining, "INTERRUPT_GRACE", 0.2)
    end = asyncio.Event()

    @engine.task(queue="a")
    async def other() -> None:
        pass

    @engine.task(queue="b")
    async def job() -> str:
        await end.wait()
        return "to the end"

    scheduled = await job.schedule()
    await engine.start_workers(5, queue=["a", "b"], block=False)
    await until(lambda: heard.count("job_started"))
    broker.away, broker.hangs = {"a"}, hangs
    consumers_of(engine)[0].wake()
    await until(lambda: broker.refused)
    stopping = asyncio.create_task(engine.stop_workers())
    await asyncio.sleep(0.5)  # much longer than idle workers would take to stop
    assert not stopping.done()
    end.set()
    await stopping
    finish = await finish_of(heard, scheduled)
    assert (finish["result"], finish["job"].status) == ("to the end", JobStatus.SUCCEEDED)
    assert (await asking.counts(broker, "b")).running == 0


async def test_jobs_that_arrive_after_the_stop_are_released(
    engine: Engine, broker: PartlyAway, heard: Heard
) -> None:
    @engine.task(queue="a")
    async def job() -> None:
        raise AssertionError("it should be released")

    await engine.start_workers(5, queue="a", block=False)
    await until(lambda: engine.health().is_connected)
    broker.away, broker.hangs = {"a"}, True
    for _ in range(3):
        await job.schedule()
    consumers_of(engine)[0].wake()
    await until(lambda: broker.refused)
    stopping = asyncio.create_task(engine.stop_workers())
    await asyncio.sleep(0.1)
    assert not stopping.done()
    broker.away.clear()
    broker.back.set()
    await stopping
    counts = await asking.counts(broker, "a")
    assert (counts.ready, counts.running, counts.dead) == (3, 0, 0)
    assert heard.count("job_started") == 0


async def test_a_hanging_call_is_abandoned_after_the_shutdown_timeout(
    engine: Engine, broker: PartlyAway, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "INTERRUPT_GRACE", 0.1)

    @engine.task(queue="a")
    async def job() -> None:
        broker.away, broker.hangs = {"a"}, True

    scheduled = await job.schedule()
    await engine.start_workers(5, queue="a", block=False, shutdown_timeout=0.2)
    await until(lambda: broker.refused)
    async with asyncio.timeout(10):
        await engine.stop_workers()
    assert (await finish_of(heard, scheduled))["job"].status is JobStatus.NOT_SET
    assert heard.names()[-1] == "worker_terminated"


@KINDS
async def test_a_job_in_a_thread_is_settled_after_an_outage_during_the_stop(
    engine: Engine, broker: PartlyAway, heard: Heard, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    monkeypatch.setattr(draining, "INTERRUPT_GRACE", 0.05)
    began, release = threading.Event(), threading.Event()

    @engine.task(queue="a")
    def job() -> str:
        began.set()
        assert release.wait(30)
        return "to the end"

    scheduled = await job.schedule()
    await engine.start_workers(2, queue="a", block=False, shutdown_timeout=0)
    await until(began.is_set)
    broker.away, broker.hangs = {"a"}, hangs
    stopping = asyncio.create_task(engine.stop_workers())
    await until(lambda: broker.refused)
    await asyncio.sleep(0.3)  # several times the limit of the stop
    broker.away.clear()
    broker.back.set()
    release.set()
    await stopping
    finish = await finish_of(heard, scheduled)
    assert (finish["result"], finish["job"].status) == ("to the end", JobStatus.SUCCEEDED)


async def test_running_jobs_are_settled_after_a_defect(
    namespace: str, heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = PartlyAway(lease=0.6)
    engine = Engine(broker, namespace)

    @engine.task(queue="a")
    async def job() -> None:
        await asyncio.Event().wait()

    async def defect(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a defect")

    scheduled = await job.schedule()
    await engine.start_workers(2, queue="a", block=False)
    await until(lambda: heard.count("job_started"))
    monkeypatch.setattr(broker, "sweep", defect)
    await until(lambda: heard.count("worker_terminated"))
    assert [r.levelno for r in caplog.records if r.exc_info and "crashed" in r.getMessage()] == [
        logging.CRITICAL
    ]
    assert isinstance((await finish_of(heard, scheduled))["err"], Interrupted)
    assert await reasons_of_death(broker, "a") == {scheduled.id: "interrupted"}
    with pytest.raises(RuntimeError, match="a defect"):
        await engine.stop_workers()
