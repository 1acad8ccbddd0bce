"""Fixtures of the tests of workers: an engine whose broker can be looked at, and loops of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aiospinach import Engine

from ..conftest import LoopFactory, loop_factories
from .failing import FailingBroker


@pytest.fixture
def broker() -> FailingBroker:
    """The broker of ``engine``: one in memory, that works until the test breaks it."""
    return FailingBroker()


@pytest.fixture
async def engine(broker: FailingBroker, namespace: str) -> AsyncIterator[Engine]:
    """An engine on ``broker``; its workers are stopped after the test."""
    async with Engine(broker, namespace) as engine:
        yield engine


@pytest.fixture
def new_loop(loop_name: str, request: pytest.FixtureRequest) -> LoopFactory:
    """Makes event loops of the kind that ``--loop`` asks for."""
    return loop_factories(request.config)[loop_name]
