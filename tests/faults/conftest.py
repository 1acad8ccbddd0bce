"""Fixtures: a server and workers to be harmed, a ledger of what ran, and the sizes of scenarios."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from aiospinach import Batch, Engine, RedisBroker

from ..servers import Server
from .fleet import Fleet, Store
from .ledger import Ledger
from .worker import faulty_tasks

CHAOS = os.environ.get("AIOSPINACH_CHAOS") == "1"
"""Whether scenarios have their full size, and not about a tenth of it."""


class Size(Protocol):
    """Returns the short size in the suite, and the full one with CHAOS."""

    def __call__(self, short: int, full: int) -> int: ...


class Report(Protocol):
    """Prints counts, which pytest shows with ``-s``."""

    def __call__(self, **counts: object) -> None: ...


class ScheduleAll(Protocol):
    """Schedules jobs, and returns their keys."""

    async def __call__(self, task: str, count: int, *args: object, name: str | None = None) -> list[str]: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.large)


@pytest.fixture
def size() -> Size:
    return lambda short, full: full if CHAOS else short


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    def print_counts(**counts: object) -> None:
        shown = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
        print(f"\n{request.node.name}: {shown}")

    return print_counts


@pytest.fixture
def server_options() -> list[str]:
    """The options of the server; a module may override them."""
    return []


@pytest.fixture
def server(server_options: list[str]) -> Iterator[Server]:
    """A server for one test."""
    server = Server(*server_options).start()
    yield server
    server.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger")
    yield ledger
    ledger.close()


@pytest.fixture
def fleet(server: Server, namespace: str, ledger: Ledger, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(server.url, namespace, ledger, tmp_path)
    yield fleet
    fleet.close()


@pytest.fixture
def store(server: Server, namespace: str) -> Store:
    return Store(server, namespace)


@pytest.fixture
async def engine(server: Server, namespace: str, ledger: Ledger) -> AsyncIterator[Engine]:
    """An engine that schedules jobs, and runs none."""
    async with Engine(RedisBroker(server.url), namespace) as engine:
        engine.attach_tasks(faulty_tasks(ledger))
        yield engine


@pytest.fixture
def schedule_all(engine: Engine) -> ScheduleAll:
    """Schedules jobs of a task, with keys ``task-0``, ``task-1`` and so on, in batches."""

    async def schedule(task: str, count: int, *args: object, name: str | None = None) -> list[str]:
        keys = [f"{name or task}-{number}" for number in range(count)]
        for first in range(0, count, 5000):
            batch = Batch()
            for key in keys[first : first + 5000]:
                batch.schedule(task, key, *args)
            await engine.schedule_batch(batch)
        return keys

    return schedule
