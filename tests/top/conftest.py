"""Engines of the terminal view's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aiospinach import Broker, Engine

from ..brokers_under_test import BROKERS, MakeBroker


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    """An engine on every broker, whose workers report every second, and live long on a busy machine."""
    make: MakeBroker = request.param
    broker: Broker = make(lease=12.0)
    async with Engine(broker, namespace) as engine:
        yield engine
