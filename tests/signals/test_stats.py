"""The numbers about sendings: calls that raised, took too long or were left out, and the slowest receiver."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from aiospinach import Engine, signals
from aiospinach.signals import SafeNamedSignal, SignalStats, faults

from ..waiting import until

NOTHING = SignalStats(sent=0, failed=0, timed_out=0, skipped=0, slowest=None, slowest_seconds=0.0)


async def test_sendings_are_counted_if_they_have_receivers() -> None:
    signal = SafeNamedSignal("order_paid")
    await signal.send_async("shop")
    assert signal.stats() == NOTHING
    signal.connect(lambda sender, **kwargs: None, "shop")
    await signal.send_async("shop")
    signal.send("shop")
    await signal.send_async("another")
    with signal.muted():
        await signal.send_async("shop")
    stats = signal.stats()
    assert (stats.sent, stats.failed, stats.timed_out, stats.skipped) == (2, 0, 0, 0)
    with pytest.raises(AttributeError):
        stats.sent = 3  # type: ignore[misc]


async def test_each_call_that_raised_is_counted() -> None:
    signal = SafeNamedSignal("order_paid")

    def plain(sender: str, **kwargs: Any) -> None:
        raise ValueError

    async def asynchronous(sender: str, **kwargs: Any) -> None:
        raise ValueError

    signal.connect(plain)
    signal.connect(asynchronous)
    signal.connect(lambda sender, **kwargs: None)
    for _ in range(3):
        await signal.send_async("shop")
    assert (signal.stats().sent, signal.stats().failed) == (3, 6)


async def test_calls_that_take_too_long_and_calls_that_are_left_out_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faults, "LEFT_BEHIND_AT_MOST", 2)
    signal = SafeNamedSignal("order_paid")
    signal.timeout = 0.01
    release = asyncio.Event()
    ended: list[str] = []

    async def stubborn(sender: str, **kwargs: Any) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        ended.append(sender)

    signal.connect(stubborn)
    for _ in range(5):
        await signal.send_async("shop")
    stats = signal.stats()
    assert (stats.sent, stats.failed, stats.timed_out, stats.skipped) == (5, 0, 2, 3)
    assert stats.slowest is not None
    assert stats.slowest.endswith("stubborn")
    assert stats.slowest_seconds >= 0.01
    release.set()
    await until(lambda: len(ended) == 2, "the receivers ended")


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_the_slowest_receiver_is_named_with_its_time(kind: str) -> None:
    signal = SafeNamedSignal("order_paid")

    def plain(sender: str, **kwargs: Any) -> None:
        time.sleep(0.05)

    async def asynchronous(sender: str, **kwargs: Any) -> None:
        await asyncio.sleep(0.05)

    signal.connect(lambda sender, **kwargs: None)
    signal.connect(plain if kind == "plain" else asynchronous)
    await signal.send_async("shop")
    first = signal.stats()
    assert first.slowest is not None
    assert first.slowest.endswith("plain" if kind == "plain" else "asynchronous")
    assert first.slowest_seconds >= 0.04  # timers of some loops have whole milliseconds
    signal.disconnect(plain if kind == "plain" else asynchronous)
    await signal.send_async("shop")
    assert signal.stats().slowest_seconds == first.slowest_seconds  # a faster call changes nothing
    assert signal.stats().sent == 2


async def test_the_signals_of_jobs_are_counted(engine: Engine) -> None:
    @signals.job_finished.connect_via(engine.namespace)
    def broken(namespace: str, **kwargs: Any) -> None:
        raise ValueError

    @engine.task
    async def work() -> None: ...

    before = signals.job_finished.stats()
    for _ in range(3):
        await work.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    after = signals.job_finished.stats()
    assert (after.sent - before.sent, after.failed - before.failed) == (3, 3)
