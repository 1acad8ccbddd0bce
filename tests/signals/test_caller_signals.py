"""A call to schedule or cancel waits for receivers only briefly: it may be part of a web request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiospinach import Batch, Engine, signals
from aiospinach.signals import SafeNamedSignal

from ..brokers_under_test import MakeBroker

Call = Callable[[Engine], Awaitable[Any]]


async def cancel(engine: Engine) -> None:
    await engine.cancel(await engine.schedule("job"))


CALLS: list[Any] = [
    pytest.param(lambda engine: engine.schedule("job"), signals.job_scheduled, id="schedule"),
    pytest.param(
        lambda engine: engine.schedule_batch(Batch().schedule("job").schedule("job")),
        signals.job_scheduled,
        id="batch",
    ),
    pytest.param(cancel, signals.job_cancelled, id="cancel"),
]


def patient_engine(make_broker: MakeBroker, namespace: str) -> Engine:
    """An engine whose receivers have ten minutes within jobs."""
    engine = Engine(make_broker(), namespace, signal_timeout=600)
    engine.task(name="job")(lambda: None)
    return engine


@pytest.mark.parametrize(("call", "signal"), CALLS)
async def test_a_caller_waits_for_receivers_for_one_second_at_most(
    make_broker: MakeBroker,
    namespace: str,
    call: Call,
    signal: SafeNamedSignal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    @signal.connect_via(namespace)
    async def hangs(sender: str, **kwargs: Any) -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(30), patient_engine(make_broker, namespace) as engine:
        await call(engine)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors
    assert all("took longer than 1 s and was cancelled" in line for line in errors)


@pytest.mark.parametrize(("call", "signal"), CALLS)
async def test_a_timeout_of_the_signal_overrides_the_limit_of_callers(
    make_broker: MakeBroker,
    namespace: str,
    call: Call,
    signal: SafeNamedSignal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiospinach.engine.producer.RECEIVERS_WITHIN", 0.001)
    signal.timeout = 60
    received = []

    @signal.connect_via(namespace)
    async def is_slow(sender: str, **kwargs: Any) -> None:
        await asyncio.sleep(0.05)
        received.append(kwargs["job"])

    async with patient_engine(make_broker, namespace) as engine:
        await call(engine)
    assert received


async def test_receivers_of_an_execution_have_the_timeout_of_the_engine(
    make_broker: MakeBroker, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiospinach.engine.producer.RECEIVERS_WITHIN", 0.001)
    received = []

    @signals.job_started.connect_via(namespace)
    async def is_slow(sender: str, **kwargs: Any) -> None:
        await asyncio.sleep(0.05)
        received.append(kwargs["job"])

    async with patient_engine(make_broker, namespace) as engine:
        await engine.execute("job")
    assert received
