"""Fixtures: an engine on each broker, and a diary of what factories do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from aiospinach import Broker, Engine

from ..brokers_under_test import BROKERS, MakeBroker


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Broker:
    make: MakeBroker = request.param
    return make()


@pytest.fixture
async def engine(broker: Broker, namespace: str) -> AsyncIterator[Engine]:
    async with Engine(broker, namespace) as engine:
        yield engine


class Diary(list[str]):
    """What happened, in order."""

    def scope(self, name: str) -> Callable[[], AsyncIterator[str]]:
        """A factory of ``name`` that notes its opening, its closing, and the error that it sees."""

        async def factory() -> AsyncIterator[str]:
            self.append(f"open {name}")
            try:
                yield name
            except BaseException as error:
                self.append(f"close {name} with {type(error).__name__}")
                raise
            self.append(f"close {name}")

        return factory

    def count(self, start: Any) -> int:
        """The number of notes that begin so."""
        return sum(note.startswith(str(start)) for note in self)


@pytest.fixture
def diary() -> Diary:
    return Diary()
