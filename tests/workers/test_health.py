"""``engine.health()``, for readiness probes."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from aiospinach import Engine, MemoryBroker

from ..waiting import until
from .failing import FailingBroker


async def test_an_engine_without_workers_is_not_running(engine: Engine) -> None:
    health = engine.health()
    assert not health.is_running
    assert not health.is_connected
    assert (health.exchange_age, health.renewal_age, health.loop_lag) == (None, None, 0.0)


async def test_healthy_workers_are_running_and_connected_until_they_stop(engine: Engine) -> None:
    await engine.start_workers(block=False)
    await until(lambda: engine.health().is_connected, "the broker has answered")
    health = engine.health()
    assert health.is_running
    assert health.exchange_age is not None
    assert health.renewal_age is not None
    assert 0 <= health.exchange_age < 5
    assert 0 <= health.renewal_age < 5
    await engine.stop_workers()
    assert not engine.health().is_running


@pytest.mark.parametrize("method", ["exchange", "tick", "sweep"])
async def test_workers_whose_broker_is_away_are_not_connected(
    engine: Engine, broker: FailingBroker, method: str
) -> None:
    @engine.task
    async def body() -> None:
        pass

    await engine.start_workers(block=False)
    await until(lambda: engine.health().is_connected)
    broker.go_away(method)
    await body.schedule()
    await body.schedule_at(datetime.now(UTC) + timedelta(milliseconds=20))
    await until(lambda: not engine.health().is_connected, "the outage shows")
    assert engine.health().is_running
    broker.come_back()
    await until(lambda: engine.health().is_connected, "the recovery shows")


async def test_workers_whose_first_queue_is_busy_are_connected(engine: Engine, broker: FailingBroker) -> None:
    ran = 0

    @engine.task(queue="first")
    async def busy() -> None:
        nonlocal ran
        ran += 1
        await busy.schedule()  # so that the second queue is never exchanged with

    @engine.task(queue="second")
    async def later() -> None:
        pass

    await busy.schedule()
    await engine.start_workers(1, ["first", "second"], block=False)
    await until(lambda: ran > 20)
    assert engine.health().is_connected
    age = engine.health().exchange_age
    assert age is not None
    assert age < 10
    await engine.stop_workers()


async def test_a_blocked_event_loop_shows_as_loop_lag(namespace: str) -> None:
    async with Engine(MemoryBroker(lease=1.2), namespace) as engine:  # ticks every 0.1 s
        await engine.start_workers(block=False)
        await until(lambda: engine.health().is_connected)
        await asyncio.sleep(0.01)
        time.sleep(0.4)
        await until(lambda: engine.health().loop_lag > 0.2, "the lag shows")
