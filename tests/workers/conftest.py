"""Fixtures of the tests of workers: an engine whose broker can be looked at, and loops of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from aiospinach import Engine

from .failing import FailingBroker

NewLoop = Callable[[], asyncio.AbstractEventLoop]


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
def new_loop(request: pytest.FixtureRequest) -> NewLoop:
    """Makes event loops of the kind that ``--loop`` asks for."""
    if request.config.getoption("--loop") == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop
