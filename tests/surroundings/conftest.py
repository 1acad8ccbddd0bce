"""Fixtures: engines on both brokers, and a second one that shares the store where there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aiospinach import Broker, Engine

from ..brokers_under_test import BROKERS, MakeBroker


@pytest.fixture(params=BROKERS)
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    make: MakeBroker = request.param
    return make


@pytest.fixture
def broker(make_broker: MakeBroker) -> Broker:
    return make_broker()


@pytest.fixture
async def engine(broker: Broker, namespace: str) -> AsyncIterator[Engine]:
    async with Engine(broker, namespace) as engine:
        yield engine
