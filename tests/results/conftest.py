"""An engine on every broker, and its workers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aiospinach import Broker, Engine

from ..brokers_under_test import BROKERS, MakeBroker


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Broker:
    """A broker of each kind."""
    make: MakeBroker = request.param
    return make()


@pytest.fixture
async def engine(broker: Broker, namespace: str) -> AsyncIterator[Engine]:
    """An engine without workers, on every broker."""
    async with Engine(broker, namespace) as engine:
        yield engine
