"""Fixtures: engines on every broker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aiospinach import Broker, Engine
from aiospinach.signals import signal

from ..brokers_under_test import BROKERS, MakeBroker

SLOW_AFTER = signal.SLOW_AFTER


@pytest.fixture(params=BROKERS)
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    """Creates brokers of one kind."""
    make: MakeBroker = request.param
    return make


@pytest.fixture
def broker(make_broker: MakeBroker) -> Broker:
    return make_broker()


@pytest.fixture
async def engine(broker: Broker, namespace: str) -> AsyncIterator[Engine]:
    """An engine on ``broker``; its workers are stopped after the test."""
    async with Engine(broker, namespace) as engine:
        yield engine


@pytest.fixture
def hasty_broker(make_broker: MakeBroker) -> Broker:
    """A broker with short leases, so that lost jobs are found soon."""
    return make_broker(lease=0.5)


@pytest.fixture
async def hasty(hasty_broker: Broker, namespace: str) -> AsyncIterator[Engine]:
    """An engine on ``hasty_broker``."""
    async with Engine(hasty_broker, namespace) as engine:
        yield engine


@pytest.fixture(autouse=True)
def no_receiver_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disables the warning about slow receivers: on a busy machine any receiver may be slow."""
    monkeypatch.setattr(signal, "SLOW_AFTER", 60.0)


@pytest.fixture
def receivers_are_slow(monkeypatch: pytest.MonkeyPatch, no_receiver_is_slow: None) -> None:
    """Enables that warning after 100 ms, as outside of tests."""
    monkeypatch.setattr(signal, "SLOW_AFTER", SLOW_AFTER)
