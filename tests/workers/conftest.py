"""Fixtures: an engine on a broker that can be inspected and broken, and event loops."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aiospinach import Engine

from ..conftest import LoopFactory, loop_factory
from .failing import FailingBroker


@pytest.fixture
def broker() -> FailingBroker:
    """The broker of ``engine``: in memory, and working until the test breaks it."""
    return FailingBroker()


@pytest.fixture
async def engine(broker: FailingBroker, namespace: str) -> AsyncIterator[Engine]:
    """An engine on ``broker``; its workers are stopped after the test."""
    async with Engine(broker, namespace) as engine:
        yield engine


@pytest.fixture
def loop_name(request: pytest.FixtureRequest) -> str:
    """The kind of event loop chosen by ``--loop``."""
    return loop_factory(request.config)[0]


@pytest.fixture
def new_loop(request: pytest.FixtureRequest) -> LoopFactory:
    """Creates event loops of that kind."""
    return loop_factory(request.config)[1]
