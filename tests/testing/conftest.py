"""Fixtures: the engine of an application on a broker that no test may reach, and its jobs in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aiospinach import Engine, RedisBroker, testing


class Shop:
    """An application with some tasks, and what its bodies did."""

    def __init__(self, namespace: str) -> None:
        self.engine = Engine(RedisBroker("redis://127.0.0.1:1/0"), namespace)  # nothing listens there
        self.done: list[Any] = []

        @self.engine.task(name="note", max_retries=3)
        async def note(what: str, *more: str, shout: bool = False) -> str:
            self.done.append(what)
            return what.upper() if shout else what


@pytest.fixture
def shop(namespace: str) -> Shop:
    return Shop(namespace)


@pytest.fixture
def jobs(shop: Shop) -> Iterator[testing.Jobs]:
    with testing.memory(shop.engine) as jobs:
        yield jobs
