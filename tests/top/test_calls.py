"""How often the terminal view asks the store: less than once a second, also over a slow link.

The tests run ten times as fast: the interval is 0.2 seconds instead of 2, and a call takes 20 ms instead of
200. A slow machine makes fewer calls, so it fails no test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiospinach import Broker, Engine, MemoryBroker, RedisBroker
from aiospinach.top.overview_screen import OverviewScreen
from aiospinach.top.queue_screen import QueueScreen
from aiospinach.views import overview

from ..brokers_under_test import shared_server
from .screens import Driver, app_of

FASTER = 10
INTERVAL = 2.0 / FASTER
DELAY = 0.2 / FASTER
READS = 3
QUEUES = 5


class Link:
    """Counts the calls to a store, each of which takes a while."""

    def __init__(self) -> None:
        self.calls = 0

    async def pass_through(self) -> None:
        self.calls += 1
        await asyncio.sleep(DELAY)


def far(kind: type[Broker], link: Link, *arguments: Any) -> Broker:
    """A broker behind the link."""

    class Far(kind):  # type: ignore[valid-type, misc]
        async def overview(self, *args: Any) -> Any:
            await link.pass_through()
            return await super().overview(*args)

        async def look(self, *args: Any) -> Any:
            await link.pass_through()
            return await super().look(*args)

        async def steer(self, *args: Any) -> Any:
            await link.pass_through()
            return await super().steer(*args)

    broker: Broker = Far(*arguments)
    return broker


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture(params=["memory", "redis"])
async def engine(request: pytest.FixtureRequest, namespace: str, link: Link) -> AsyncIterator[Engine]:
    """An engine with five queues behind the link."""
    is_memory = request.param == "memory"
    broker = far(MemoryBroker, link) if is_memory else far(RedisBroker, link, shared_server().unix_url)
    async with Engine(broker, namespace) as engine:
        for number in range(QUEUES):

            @engine.task(queue=f"queue-{number}", name=f"task-{number}", max_retries=1)
            async def work() -> None: ...

            for _ in range(40):
                await work.schedule()
        yield engine


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([], id="overview"),
        pytest.param(["enter"], id="ready"),
        pytest.param(["enter", "right"], id="running"),
        pytest.param(["enter", "right", "right"], id="waiting"),
        pytest.param(["enter", "left"], id="dead"),
        pytest.param(["enter", "slash", "t", "a", "s", "k", "minus", "0", "enter"], id="filtered"),
        pytest.param(["enter", "enter"], id="job"),
        pytest.param(["w"], id="workers"),
    ],
)
async def test_less_than_one_call_a_second(
    engine: Engine, link: Link, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "REREAD_AFTER", 60.0 / FASTER)
    app = app_of(engine, interval=INTERVAL)
    async with app.run_test(size=(100, 30)) as pilot:
        user = Driver(app, pilot)
        await user.until("queue-0", "queue-4")
        for key in keys:
            await user.press(key)
            await user.until("aiospinach /")
        screen: Any = app.screen
        await reads(screen, 1)
        before, began = link.calls, time.monotonic()
        await reads(screen, READS)
        seconds = (time.monotonic() - began) * FASTER
        assert link.calls > before
        assert (link.calls - before) / seconds < 1


async def reads(screen: Any, count: int) -> None:
    """Wait until a screen has read so many snapshots."""
    for _ in range(count):
        snapshot = screen.snapshot
        while screen.snapshot is snapshot:
            await asyncio.sleep(0.005)


async def test_the_first_look_asks_for_the_past_of_each_queue_once(engine: Engine, link: Link) -> None:
    link.calls = 0
    reader = overview.OverviewReader(engine)
    await reader.read()
    assert link.calls == 1 + QUEUES
    await reader.read()
    assert link.calls == 2 + QUEUES


def test_a_slow_link_is_asked_less_often() -> None:
    engine = Engine(MemoryBroker())
    screen = OverviewScreen(engine, 2.0)
    assert [screen.pause_after(seconds) for seconds in (0.0, 0.2, 3.0)] == [2.0, 2.0, 15.0]
    assert QueueScreen(engine, 2.0, "mail").pause_after(0.0) == 3.0, "a read takes three calls"
