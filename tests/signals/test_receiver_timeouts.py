"""Receivers that block, that exceed their timeout, and that ignore their cancellation."""

from __future__ import annotations

import asyncio
import logging
import selectors
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from aiospinach.exceptions import InvalidValue
from aiospinach.signals import SafeNamedSignal

from ..waiting import until


@pytest.fixture
def signal() -> SafeNamedSignal:
    return SafeNamedSignal("news")


class Clock:
    """The clock of the signals, which a test advances."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self.passed

    perf_counter = monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, receivers_are_slow: None) -> Clock:
    clock = Clock()
    fake = SimpleNamespace(monotonic=clock.monotonic, perf_counter=clock.perf_counter)
    for module in ("signals.signal", "logs"):
        monkeypatch.setattr(f"aiospinach.{module}.time", fake)
    return clock


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "aiospinach.signals" and record.levelno == level
    ]


# Blocking.


async def test_a_plain_receiver_that_blocks_over_100_ms_is_logged_once_a_minute(
    signal: SafeNamedSignal, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    @signal.connect
    def blocking(sender: object, takes: float, **kwargs: Any) -> None:
        clock.passed += takes

    async def warnings_after(takes: float) -> int:
        await signal.send_async("shop", takes=takes)
        return len(messages(caplog, logging.WARNING))

    assert await warnings_after(0.099) == 0
    assert await warnings_after(0.101) == 1
    [message] = messages(caplog, logging.WARNING)
    assert "signal news" in message
    assert "blocking blocked the event loop for 101 ms" in message
    clock.passed += 59
    assert await warnings_after(0.2) == 1
    clock.passed += 1
    assert await warnings_after(0.2) == 2
    assert await warnings_after(0.2) == 2


async def test_every_blocking_receiver_has_its_own_warning(
    signal: SafeNamedSignal, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    class Blocking:
        def one(self, sender: object, **kwargs: Any) -> None:
            clock.passed += 0.2

        def two(self, sender: object, **kwargs: Any) -> None:
            clock.passed += 0.2

        def raising(self, sender: object, **kwargs: Any) -> None:
            clock.passed += 0.2
            raise ValueError("wrong")

    receivers = Blocking()
    for receiver in (receivers.one, receivers.two, receivers.raising):
        signal.connect(receiver)
    await signal.send_async("shop")
    signal.send("shop")
    warned = sorted(messages(caplog, logging.WARNING))
    assert len(warned) == 3
    for name, message in zip(["one", "raising", "two"], warned, strict=True):
        assert f"Blocking.{name} blocked" in message


async def test_a_receiver_that_blocks_in_real_time_is_logged(
    signal: SafeNamedSignal, receivers_are_slow: None, caplog: pytest.LogCaptureFixture
) -> None:
    signal.connect(lambda sender, **kwargs: time.sleep(0.11))
    await signal.send_async("shop")
    [message] = messages(caplog, logging.WARNING)
    assert "<lambda> blocked the event loop" in message


# The timeout.


@pytest.fixture
async def released() -> AsyncIterator[asyncio.Event]:
    """Ends abandoned receivers when it is set, at the latest after the test."""
    event = asyncio.Event()
    yield event
    event.set()


def hanging_receiver(released: asyncio.Event, ended: list[str]) -> Callable[..., Awaitable[None]]:
    async def hangs(sender: object, **kwargs: Any) -> None:
        try:
            await released.wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    return hangs


def stubborn(released: asyncio.Event, ended: list[str]) -> Callable[..., Awaitable[None]]:
    async def ignores(sender: object, **kwargs: Any) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                ended.append("ignored")

    return ignores


async def test_a_receiver_that_times_out_is_cancelled_and_the_results_of_others_are_kept(
    signal: SafeNamedSignal, released: asyncio.Event, caplog: pytest.LogCaptureFixture
) -> None:
    signal.timeout = 0.03
    ended: list[str] = []
    signal.connect(hanging_receiver(released, ended))

    @signal.connect
    async def quick(sender: object, **kwargs: Any) -> str:
        await asyncio.sleep(0)
        return "quick"

    @signal.connect
    def plain(sender: object, **kwargs: Any) -> str:
        return "plain"

    results = await signal.send_async("shop")
    assert len(results) == 2
    assert dict(results) == {quick: "quick", plain: "plain"}
    assert ended == ["cancelled"]
    [message] = messages(caplog, logging.ERROR)
    assert "signal news" in message
    assert "hanging_receiver.<locals>.hangs took longer than 0.03 s and was cancelled" in message


async def test_one_timeout_applies_to_all_receivers_together(
    signal: SafeNamedSignal, released: asyncio.Event, caplog: pytest.LogCaptureFixture
) -> None:
    signal.timeout = 0.2
    ended: list[str] = []
    for _ in range(30):
        signal.connect(hanging_receiver(released, ended))
    began = time.monotonic()
    assert await signal.send_async("shop") == []
    took = time.monotonic() - began
    assert 0.19 < took < 3  # not 30 times as long
    assert ended == ["cancelled"] * 30
    assert len(messages(caplog, logging.ERROR)) == 30


async def test_a_future_returned_by_a_receiver_is_cancelled_after_the_timeout(
    signal: SafeNamedSignal, caplog: pytest.LogCaptureFixture
) -> None:
    future = asyncio.get_running_loop().create_future()
    signal.timeout = 0.01
    signal.connect(lambda sender, **kwargs: future)
    assert await signal.send_async("shop") == []
    assert future.cancelled()
    assert "<lambda> took longer than 0.01 s and was cancelled" in caplog.text


async def test_an_error_of_a_cancelled_receiver_is_logged(
    signal: SafeNamedSignal, caplog: pytest.LogCaptureFixture
) -> None:
    signal.timeout = 0.01

    @signal.connect
    async def receiver(sender: object, **kwargs: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise SystemExit(5)

    assert await signal.send_async("shop") == []
    raised, late = messages(caplog, logging.ERROR)
    assert "raised SystemExit" in raised
    assert "took longer than 0.01 s and was cancelled" in late


def test_the_default_timeout_is_5_s(signal: SafeNamedSignal) -> None:
    class Fast(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> Any:
            return super().select(None if timeout is None else timeout / 100)

    class FastLoop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return super().time() * 100

    @signal.connect
    async def hangs(sender: object, **kwargs: Any) -> None:
        await asyncio.Event().wait()

    async def measure() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await signal.send_async("shop") == []
        return loop.time() - began

    loop = FastLoop(Fast())
    try:
        took = loop.run_until_complete(measure())
    finally:
        loop.close()
    assert 5 <= took < 60


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", True])
def test_a_timeout_is_a_positive_number_of_seconds(signal: SafeNamedSignal, seconds: Any) -> None:
    with pytest.raises(InvalidValue, match=r"news\.timeout"):
        signal.timeout = seconds
    assert signal.timeout is None


# Abandoned receivers.


async def test_a_receiver_that_ignores_its_cancellation_is_abandoned_and_logged(
    signal: SafeNamedSignal, released: asyncio.Event, caplog: pytest.LogCaptureFixture
) -> None:
    signal.timeout = 0.01
    ended: list[str] = []
    signal.connect(stubborn(released, ended))
    results = await signal.send_async("shop")
    assert results == []
    assert ended == ["ignored"]
    [message] = messages(caplog, logging.ERROR)
    assert (
        "stubborn.<locals>.ignores took longer than 0.01 s and ignores its cancellation and is left behind"
        in message
    )


class StubbornRuns:
    """Runs of one receiver that ignore their cancellation until they are released."""

    def __init__(self) -> None:
        self.releases: list[asyncio.Event] = []
        self.ended = 0

    async def receiver(self, sender: object, **kwargs: Any) -> None:
        release = asyncio.Event()
        self.releases.append(release)
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        self.ended += 1


@pytest.fixture
async def crowd() -> AsyncIterator[StubbornRuns]:
    crowd = StubbornRuns()
    yield crowd
    for release in crowd.releases:
        release.set()


async def test_a_receiver_with_100_abandoned_runs_is_skipped_until_one_ends(
    signal: SafeNamedSignal, crowd: StubbornRuns, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    signal.timeout = 0.01
    signal.connect(crowd.receiver)

    @signal.connect
    async def other(sender: object, **kwargs: Any) -> int:
        return 1

    def skips() -> list[str]:
        return [text for text in messages(caplog, logging.ERROR) if "is skipped" in text]

    await asyncio.gather(*(signal.send_async("shop") for _ in range(99)))
    assert skips() == []
    await signal.send_async("shop")
    assert len(crowd.releases) == 100

    assert await signal.send_async("shop") == [(other, 1)]
    assert len(crowd.releases) == 100
    [message] = skips()
    assert "signal news" in message
    assert "StubbornRuns.receiver is skipped: 100 of its runs" in message
    clock.passed += 59
    assert await signal.send_async("shop") == [(other, 1)]
    assert len(skips()) == 1
    clock.passed += 1
    assert await signal.send_async("bank") == [(other, 1)]
    assert len(skips()) == 2

    crowd.releases[40].set()
    await until(lambda: crowd.ended == 1)
    assert await signal.send_async("shop") == [(other, 1)]
    assert len(crowd.releases) == 101
    assert len(skips()) == 2


async def test_abandoned_runs_are_counted_per_receiver(
    signal: SafeNamedSignal, crowd: StubbornRuns, caplog: pytest.LogCaptureFixture
) -> None:
    signal.timeout = 0.01
    second = StubbornRuns()
    signal.connect(crowd.receiver)
    await asyncio.gather(*(signal.send_async("shop") for _ in range(100)))
    signal.connect(second.receiver)
    await signal.send_async("shop")
    assert (len(crowd.releases), len(second.releases)) == (100, 1)
    second.releases[0].set()


def test_abandoned_runs_of_an_ended_event_loop_do_not_count(signal: SafeNamedSignal) -> None:
    signal.timeout = 0.01
    loop = asyncio.new_event_loop()
    called: list[asyncio.Task[Any] | None] = []

    @signal.connect
    async def receiver(sender: object, **kwargs: Any) -> str:
        called.append(asyncio.current_task())
        while kwargs["stubborn"]:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                continue
        return "received"

    async def leave() -> None:
        await asyncio.gather(*(signal.send_async("shop", stubborn=True) for _ in range(100)))
        assert await signal.send_async("shop", stubborn=False) == []

    loop.run_until_complete(leave())
    loop.close()
    for task in called:
        task._log_destroy_pending = False  # type: ignore[union-attr]
    assert asyncio.run(signal.send_async("shop", stubborn=False)) == [(receiver, "received")]
    called.clear()
