"""Fixtures of all tests: engines that end with their test, and checks that nothing is left behind."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from signal import SIG_IGN, SIGINT, default_int_handler, getsignal
from signal import signal as set_handler
from typing import Any

import pytest

from aiospinach import Engine, MemoryBroker, signals
from aiospinach.signals import SafeNamedSignal

from .waiting import until

ALL_SIGNALS: list[SafeNamedSignal] = [
    value for value in vars(signals).values() if isinstance(value, SafeNamedSignal)
]
TESTS = Path(__file__).parent
LARGE_TIMEOUT = 300
_numbers = itertools.count(1)


LoopFactory = Callable[[], asyncio.AbstractEventLoop]

# Tests that run callbacks and threads of the package: debug mode checks these, and makes them slower.
WATCHED = ("workers/", "redis/test_connection.", "redis/test_deadlines", "redis/test_threads")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=["asyncio", "uvloop"],
        default="asyncio",
        help="the event loop that async tests run in",
    )


def pytest_configure() -> None:
    """Let tests and their programs be interrupted, also if a shell has started pytest in the background."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and getsignal(SIGINT) is SIG_IGN:
        set_handler(SIGINT, default_int_handler)


def loop_factory(config: pytest.Config) -> tuple[str, LoopFactory]:
    """The event loop of the option ``--loop``."""
    name: str = config.getoption("--loop")
    if name == "asyncio":
        return name, asyncio.new_event_loop
    import uvloop

    return name, uvloop.new_event_loop


def pytest_asyncio_loop_factories(config: pytest.Config) -> dict[str, LoopFactory]:
    return dict([loop_factory(config)])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Large tests run first, so that no process of the suite ends long after the others."""
    for item in items:
        if item.get_closest_marker("large"):
            item.add_marker(pytest.mark.timeout(LARGE_TIMEOUT))
    items.sort(key=lambda item: item.get_closest_marker("large") is None)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(report: object) -> Generator[None, object, object]:
    """Makes reports encodable: the suite's processes exchange them as UTF-8, which has no lone surrogates."""
    return encodable((yield))


def encodable(value: Any) -> Any:
    """Returns a copy of ``value`` with lone surrogates escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {name: encodable(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(encodable, value))
    return value


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test has."""
    return f"test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """Resets the signals after each test: receivers and settings are global."""
    yield
    for signal in ALL_SIGNALS:
        signal._clear_state()
        signal.timeout = None
        signal.is_muted = False


@pytest.fixture(autouse=True)
async def nothing_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """No task, thread or timer of the engine outlives a test."""
    loop = asyncio.get_running_loop()
    part = str(request.path.relative_to(TESTS))
    if request.node.get_closest_marker("large") or not part.startswith(WATCHED):
        loop.set_debug(False)
    elif loop.get_debug():
        loop.slow_callback_duration = 60.0  # on a busy machine any callback may be slow, and would be logged
    before = asyncio.all_tasks()
    threads = set(threading.enumerate())
    yield
    current = {asyncio.current_task()}

    def tasks() -> list[str]:
        return [repr(t) for t in asyncio.all_tasks() - before - current if not t.done()]

    await until(lambda: not tasks(), "no task is left", show=tasks)

    def leaked_threads() -> list[str]:
        # Threads of anyio and of asyncio's executor end with the event loop.
        own = ("AnyIO worker thread", "asyncio_", "uvloop_")
        return [t.name for t in set(threading.enumerate()) - threads if not t.name.startswith(own)]

    await until(lambda: not leaked_threads(), "no thread is left", show=leaked_threads)
    timers = [
        repr(handle)
        for handle in getattr(asyncio.get_running_loop(), "_scheduled", [])
        if not handle.cancelled()
        and "aiospinach" in repr(handle)
        # An engine that is neither left nor stopped looks once more at the queues of its jobs.
        and "QueueWatch" not in repr(handle)
    ]
    assert not timers


@pytest.fixture
async def engine(namespace: str) -> AsyncIterator[Engine]:
    """An engine on a broker in memory; its workers are stopped after the test."""
    async with Engine(MemoryBroker(), namespace) as engine:
        yield engine


class Heard(list[tuple[str, dict[str, Any]]]):
    """Signals sent in one namespace, in order: (signal's name, keyword arguments)."""

    def names(self, job_id: str | None = None) -> list[str]:
        return [
            name
            for name, kwargs in self
            if job_id is None or getattr(kwargs.get("job"), "id", None) == job_id
        ]

    def last(self, name: str) -> dict[str, Any]:
        return next(kwargs for heard, kwargs in reversed(self) if heard == name)

    def count(self, name: object) -> int:
        return self.names().count(str(name))


@pytest.fixture
def heard(namespace: str) -> Heard:
    """Records every signal of the test's namespace, with a sync receiver on each."""
    record = Heard()

    def connect(signal: SafeNamedSignal) -> None:
        def receiver(sender: str, **kwargs: Any) -> None:
            record.append((signal.name, kwargs))

        signal.connect_via(namespace)(receiver)

    for signal in ALL_SIGNALS:
        connect(signal)
    return record
