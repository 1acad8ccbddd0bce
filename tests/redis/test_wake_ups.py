"""Wake-ups that a wait does not use, and sessions of event loops that have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from aiospinach import RedisBroker
from aiospinach.brokers.records import Envelope
from aiospinach.brokers.redis.transports import Transport

from ..brokers_under_test import shared_server
from .conftest import key


class WakingTransport:
    """Wraps a transport, and answers each wait with the next element of a list."""

    def __init__(self, transport: Transport, *popped: tuple[str, bytes] | None) -> None:
        self.worker_call, self.producer_call, self.aclose = (
            transport.worker_call,
            transport.producer_call,
            transport.aclose,
        )
        self.popped = list(popped)

    async def blocking_pop(self, keys: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
        return self.popped.pop(0)


@pytest.mark.parametrize(("token", "has_earlier_due"), [(b"run", False), (b"due", True)])
async def test_the_next_exchange_reports_an_earlier_due_moment_of_a_wake_up(
    namespace: str, token: bytes, has_earlier_due: bool
) -> None:
    broker = RedisBroker(shared_server().url)
    await broker.open(namespace)
    here = broker._calls.here()
    here.transport = WakingTransport(here.transport, (key(namespace, "wake", "mail"), token))  # type: ignore[assignment]
    assert await broker.wait(["files", "mail"], 5) == "mail"
    assert not (await broker.exchange("files", [], 1)).has_earlier_due
    assert (await broker.exchange("mail", [], 1)).has_earlier_due is has_earlier_due
    assert not (await broker.exchange("mail", [], 1)).has_earlier_due, "it is reported once"
    await broker.aclose()


async def test_a_nudge_for_an_earlier_wait_does_not_end_the_next(namespace: str) -> None:
    broker = RedisBroker(shared_server().url)
    await broker.open(namespace)
    await broker.nudge(["mail"])  # kept, since there is no wait
    waiting = asyncio.create_task(broker.wait(["mail"], 20))
    await broker.enqueue("mail", [Envelope("a", "send", b"")])
    assert await waiting == "mail"
    await broker.flush("mail")
    await broker.aclose()


async def test_cancelled_waits_make_no_new_connections(namespace: str, plain: redis.Redis) -> None:
    broker = RedisBroker(shared_server().url)
    await broker.open(namespace)
    assert await broker.wait(["mail"], 0.01) is None
    await broker.nudge(["mail"])
    before = plain.info("stats")["total_connections_received"]
    for _ in range(10):
        waiting = asyncio.create_task(broker.wait(["mail"], 20))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert plain.info("stats")["total_connections_received"] == before
    await broker.aclose()


class HoldingTransport(WakingTransport):
    """A transport that references its event loop, as an open connection does."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.end: str | None = None

    async def aclose(self) -> None:
        self.end = "closed"

    def let_go(self) -> None:
        self.end = "let go"


def test_sessions_of_closed_event_loops_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a transport that references them was not closed."""
    broker = RedisBroker()
    monkeypatch.setattr(broker._calls.endpoint, "transport", lambda patience: HoldingTransport())

    async def use() -> Any:
        return broker._calls.here().transport

    created = []
    for _ in range(5):
        loop = asyncio.new_event_loop()
        created.append(loop.run_until_complete(use()))
        loop.close()
        assert len(broker._calls._loops) == 1
    assert [transport.end for transport in created] == ["let go"] * 4 + [None]


def test_an_event_loop_that_is_shut_down_closes_its_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = RedisBroker()
    monkeypatch.setattr(broker._calls.endpoint, "transport", lambda patience: HoldingTransport())

    async def use() -> Any:
        assert broker._calls.here() is broker._calls.here()
        return broker._calls.here().transport

    created = [asyncio.run(use()) for _ in range(5)]
    assert [transport.end for transport in created] == ["closed"] * 5
    assert len(broker._calls._loops) == 0
