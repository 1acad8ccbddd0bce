"""The pool survives outages of the broker, stops in time during one, and reports defects."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import BrokerError, Engine, JobStatus, LeaseLost
from aiospinach.workers import draining, listener

from .. import asking
from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker
from .job_results import finish_of

METHODS = ["exchange", "renew", "tick", "sweep", "wait"]


class Errors(BrokerError):
    """A broker's error other than BrokerUnavailable."""


@pytest.mark.parametrize("error", [None, Errors], ids=["unavailable", "other"])
@pytest.mark.parametrize("methods", [*([method] for method in METHODS), METHODS], ids="-".join)
async def test_nothing_is_lost_while_the_broker_is_away(
    namespace: str, heard: Heard, methods: list[str], error: type[Exception] | None
) -> None:
    broker = FailingBroker(lease=2)
    ran: Counter[int] = Counter()
    async with Engine(broker, namespace) as engine:

        @engine.task
        async def job(number: int) -> None:
            ran[number] += 1
            await asyncio.sleep(0.001)

        @engine.task
        async def held() -> None:
            await end.wait()

        end = asyncio.Event()
        await held.schedule()
        await engine.start_workers(4, block=False)
        for number in range(100):
            await job.schedule(number)
        await until(lambda: ran)
        broker.go_away(*methods)
        if error is not None:
            broker.broken = dict.fromkeys(broker.broken, error)
        for number in range(100, 200):
            await job.schedule(number)
        first = methods[0] if methods != METHODS else "exchange"
        if first == "wait":
            await until(lambda: heard.count("job_finished") == 200)
        await until(lambda: broker.refused[first] >= 2)
        broker.come_back()
        end.set()
        await until(lambda: heard.count("job_finished") == 201, show=lambda: heard.count("job_finished"))
        await engine.stop_workers()
    assert ran == Counter(dict.fromkeys(range(200), 1))
    assert {kwargs["err"] for name, kwargs in heard if name == "job_finished"} == {None}
    counts = await asking.counts(broker, "default")
    assert (counts.ready, counts.running, counts.waiting, counts.dead) == (0, 0, 0, 0)


async def test_signals_after_a_settlement_wait_for_the_broker(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    @engine.task
    async def job() -> None:
        broker.go_away()

    scheduled = await job.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: broker.refused["exchange"] >= 2)
    assert heard.names(scheduled.id) == ["job_scheduled", "job_started"]
    broker.come_back()
    assert (await finish_of(heard, scheduled))["job"].status is JobStatus.SUCCEEDED
    await engine.stop_workers()


@pytest.mark.parametrize("method", ["exchange", "tick", "sweep", "wait"])
async def test_an_outage_is_logged_once(
    engine: Engine,
    broker: FailingBroker,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    monkeypatch.setattr(listener, "PAUSE", 0.01)

    @engine.task
    async def job() -> None:
        pass

    broker.go_away(method)
    await job.schedule()
    await job.schedule_at(datetime.now(UTC) + timedelta(milliseconds=200))
    await engine.start_workers(1, block=False)
    await until(lambda: broker.refused[method] >= 3)
    broker.come_back()
    await engine.stop_workers()
    assert [r.levelname for r in caplog.records if f"{method} is broken" in r.getMessage()] == ["ERROR"]


@pytest.mark.parametrize("methods", [[], ["exchange"]], ids=["everything", "exchange"])
async def test_a_stop_during_an_outage_ends_in_time(
    engine: Engine,
    broker: FailingBroker,
    heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
    methods: list[str],
) -> None:
    monkeypatch.setattr(draining, "INTERRUPT_GRACE", 0.05)
    end = asyncio.Event()

    @engine.task
    async def job() -> None:
        await end.wait()

    scheduled = await job.schedule()
    await engine.start_workers(2, block=False, shutdown_timeout=0.1)
    await until(lambda: heard.count("job_started"))
    broker.go_away(*methods)
    end.set()
    await until(lambda: broker.refused["exchange"])
    await asyncio.wait_for(engine.stop_workers(), 10)
    finish = await finish_of(heard, scheduled)
    assert isinstance(finish["err"], LeaseLost)
    assert finish["job"].status is JobStatus.NOT_SET
    assert heard.names()[-1] == "worker_terminated"
    broker.come_back()


async def test_a_stop_waits_for_a_broker_that_comes_back_in_time(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    end = asyncio.Event()

    @engine.task
    async def job() -> None:
        await end.wait()

    scheduled = await job.schedule()
    await engine.start_workers(2, block=False)
    await until(lambda: heard.count("job_started"))
    broker.go_away()
    end.set()
    await until(lambda: broker.refused["exchange"])
    stopping = asyncio.create_task(engine.stop_workers())
    await until(lambda: broker.refused["exchange"] >= 2)
    broker.come_back()
    await stopping
    assert (await finish_of(heard, scheduled))["job"].status is JobStatus.SUCCEEDED
    assert (await asking.counts(broker, "default")).running == 0


async def test_a_stop_of_idle_workers_during_an_outage_ends_in_time(
    engine: Engine, broker: FailingBroker, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "INTERRUPT_GRACE", 0.05)
    await engine.start_workers(2, block=False, shutdown_timeout=0.1)
    broker.go_away()
    await asyncio.wait_for(engine.stop_workers(), 10)
    assert heard.names() == ["worker_started", "worker_terminated"]
    broker.come_back()


# Defects.


@pytest.mark.parametrize("method", METHODS)
async def test_a_defect_is_logged_at_once_and_raised_by_the_stop(
    namespace: str, heard: Heard, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    broker = FailingBroker(lease=1)
    engine = Engine(broker, namespace)
    cancelled = asyncio.Event()

    @engine.task
    async def job() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @engine.task
    async def other() -> None:
        pass

    scheduled = await job.schedule()
    await engine.start_workers(2, block=False)
    await until(lambda: heard.count("job_started"))
    broker.broken[method] = RuntimeError
    await other.schedule()
    await until(lambda: heard.count("worker_terminated"))
    [record] = [r for r in caplog.records if r.levelno == logging.CRITICAL]
    assert record.name == "aiospinach"
    assert record.exc_info is not None
    assert cancelled.is_set()
    assert len([1 for name in heard.names(scheduled.id) if name == "job_finished"]) == 1
    with pytest.raises(RuntimeError, match=f"{method} is broken"):
        await engine.stop_workers()
    broker.come_back()
    await engine.start_workers(block=False)
    await finish_of(heard, await other.schedule())
    await engine.stop_workers()


async def test_a_defect_is_raised_by_a_blocking_start(namespace: str, heard: Heard) -> None:
    broker = FailingBroker()
    engine = Engine(broker, namespace)
    broker.broken["sweep"] = RuntimeError
    with pytest.raises(RuntimeError, match="sweep is broken"):
        await asyncio.wait_for(engine.start_workers(), 10)
    assert heard.names() == ["worker_started", "worker_terminated"]


async def test_a_defect_in_the_check_for_an_empty_queue_ends_the_pool(namespace: str, heard: Heard) -> None:
    broker = FailingBroker()
    engine = Engine(broker, namespace)
    broker.broken["look"] = RuntimeError
    with pytest.raises(RuntimeError, match="look is broken"):
        await asyncio.wait_for(engine.start_workers(stop_when_queue_empty=True), 10)


async def test_the_check_for_an_empty_queue_survives_an_outage(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    broker.go_away("look")
    task = asyncio.create_task(engine.start_workers(stop_when_queue_empty=True))
    await until(lambda: broker.refused["look"])
    assert not task.done()
    broker.come_back()
    await asyncio.wait_for(task, 10)


async def test_errors_of_a_crashed_pool_are_not_raised_by_a_later_one(namespace: str, heard: Heard) -> None:
    broker = FailingBroker()
    engine = Engine(broker, namespace)
    broker.broken["sweep"] = RuntimeError
    await engine.start_workers(block=False)
    await until(lambda: heard.count("worker_terminated"))
    broker.come_back()
    await engine.start_workers(block=False)
    await engine.stop_workers()
    results: list[Any] = await asyncio.gather(*(engine.stop_workers() for _ in range(2)))
    assert results == [None, None]


async def test_an_exchange_is_repeated_often_enough_for_a_short_lease(namespace: str) -> None:
    """With a short lease, other workers soon recover jobs of an exchange whose answer was lost."""
    broker = FailingBroker(lease=0.6)
    async with Engine(broker, namespace) as engine:

        @engine.task
        async def job() -> None:
            pass

        broker.go_away("exchange")
        await job.schedule()
        await engine.start_workers(block=False)
        await until(lambda: broker.refused["exchange"] >= 30)
        broker.come_back()
        await engine.stop_workers()
