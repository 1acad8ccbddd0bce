"""The threads of a pool: their number, wake-ups of threads and event loop, and the ends of calls."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import pytest

from aiospinach.workers import Threads

from ..waiting import until

MakeThreads = Callable[[int], Threads]


@pytest.fixture
async def make_threads() -> AsyncIterator[MakeThreads]:
    """Creates thread pools that end with the test."""
    made: list[Threads] = []

    def make(number: int) -> Threads:
        made.append(Threads(number, "aiospinach test"))
        return made[-1]

    yield make
    for threads in made:
        threads.end()


@contextlib.contextmanager
def taking_turns(interval: float) -> Iterator[None]:
    """Set the interpreter's switch interval: a busy thread runs for so long before another one."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def own_threads() -> list[str]:
    """The names of the threads of the test's pools."""
    return sorted(thread.name for thread in threading.enumerate() if "aiospinach test" in thread.name)


def start(threads: Threads, function: Callable[..., Any], *args: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(threads.run(function, args, {}))


class Gate:
    """A function that blocks until it is opened."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.open = threading.Event()

    def __call__(self, number: int = 0) -> int:
        self.began.append(number)
        assert self.open.wait(10)
        return number


async def test_consecutive_calls_use_one_thread(make_threads: MakeThreads) -> None:
    threads = make_threads(8)
    assert own_threads() == []
    for number in range(50):
        assert await threads.run(lambda n: n + 1, (number,), {}) == number + 1
    assert own_threads() == ["aiospinach test thread 1"]


async def test_blocking_calls_get_a_thread_each_up_to_the_number(make_threads: MakeThreads) -> None:
    threads, gate = make_threads(3), Gate()
    calls = [start(threads, gate, number) for number in range(5)]
    await until(lambda: len(gate.began) == 3)
    await asyncio.sleep(0.02)
    assert gate.began == [0, 1, 2]
    assert own_threads() == [f"aiospinach test thread {number}" for number in (1, 2, 3)]
    gate.open.set()
    assert await asyncio.gather(*calls) == [0, 1, 2, 3, 4]


async def test_a_woken_thread_wakes_the_next(make_threads: MakeThreads) -> None:
    threads, warm_up, gate = make_threads(3), threading.Barrier(3), Gate()
    await asyncio.gather(*(start(threads, warm_up.wait, 10) for _ in range(3)))
    await until(lambda: len(threads._idle) == 3)
    with taking_turns(10):  # all calls are handed over before the first thread runs
        calls = [start(threads, gate, number) for number in range(3)]
        await asyncio.sleep(0)
        await until(lambda: len(gate.began) == 3, timeout=2)
    gate.open.set()
    assert await asyncio.gather(*calls) == [0, 1, 2]


class LateSleepers(list[Any]):
    """The list of idle threads' bells; calls ``happens`` before the first one is added."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self._happens = [happens]

    def append(self, bell: Any) -> None:
        if self._happens:
            self._happens.pop()()
        super().append(bell)


async def test_a_call_made_while_the_only_thread_becomes_idle_is_run(
    make_threads: MakeThreads,
) -> None:
    threads, loop = make_threads(1), asyncio.get_running_loop()
    late: list[Future[int]] = []

    def happens() -> None:
        late.append(asyncio.run_coroutine_threadsafe(threads.run(lambda: 2, (), {}), loop))
        while not threads._calls:
            time.sleep(0.001)

    threads._idle = LateSleepers(happens)
    assert await threads.run(lambda: 1, (), {}) == 1
    await until(lambda: late and late[0].done(), timeout=2)
    assert late[0].result() == 2


async def test_calls_that_end_together_wake_the_loop_once(
    make_threads: MakeThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, loop = make_threads(4), asyncio.get_running_loop()
    wake, woken = loop.call_soon_threadsafe, 0

    def count(*args: Any, **kwargs: Any) -> asyncio.Handle:
        nonlocal woken
        woken += 1
        return wake(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    ended = threading.Semaphore(0)
    calls = [start(threads, ended.release) for _ in range(200)]
    await asyncio.sleep(0)  # all calls are handed over
    for _ in calls:  # the loop is blocked, as a busy one is
        assert ended.acquire(timeout=10)
    await asyncio.gather(*calls)
    # Twice if the last call ended after the loop had begun to collect results.
    assert 1 <= woken <= 2


async def test_every_call_is_run_at_any_switch_interval(make_threads: MakeThreads) -> None:
    threads, running, most = make_threads(3), 0, 0
    lock = threading.Lock()

    def call(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if number % 7 == 0:
            time.sleep(0.0001)
        with lock:
            running -= 1
        return number

    async def caller(first: int) -> list[int]:
        return [await threads.run(call, (number,), {}) for number in range(first, first + 100)]

    with taking_turns(1e-6):
        got = await asyncio.gather(*(caller(first) for first in range(0, 2000, 100)))
    assert [number for numbers in got for number in numbers] == list(range(2000))
    assert most <= 3
    assert len(own_threads()) <= 3


async def test_a_call_cancelled_before_it_begins_is_not_run(make_threads: MakeThreads) -> None:
    threads, gate = make_threads(1), Gate()
    first, second, third = (start(threads, gate, number) for number in (1, 2, 3))
    await until(lambda: gate.began)
    second.cancel()
    await until(second.done, timeout=2)
    assert second.cancelled()
    gate.open.set()
    assert await first == 1
    assert await third == 3
    assert gate.began == [1, 3]


async def test_a_call_that_has_begun_is_awaited_despite_cancellations(
    make_threads: MakeThreads,
) -> None:
    threads, gate = make_threads(1), Gate()
    call = start(threads, gate, 5)
    await until(lambda: gate.began)
    for _ in range(3):
        call.cancel()
        await asyncio.sleep(0)
        assert not call.done()
    gate.open.set()
    assert await call == 5
    assert call.cancelling() == 3


async def test_a_call_that_ends_while_it_is_cancelled_returns(make_threads: MakeThreads) -> None:
    threads, gate = make_threads(1), Gate()
    call = start(threads, gate, 5)
    await until(lambda: gate.began)
    gate.open.set()
    await until(lambda: (call.cancel() and threads._ended) or call.done())
    assert await call == 5


async def test_without_a_new_thread_a_call_fails_or_waits_for_another_thread(
    make_threads: MakeThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads, gate = make_threads(4), Gate()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start"):
            await threads.run(gate, (0,), {})
    first = start(threads, gate, 1)
    await until(lambda: gate.began)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        others = [start(threads, gate, number) for number in (2, 3)]
        await asyncio.sleep(0.01)
        assert gate.began == [1]
    gate.open.set()
    assert await asyncio.gather(first, *others) == [1, 2, 3]


class Thing:
    """An object that can be referenced weakly."""


class Broken(Exception):
    pass


async def test_a_thread_keeps_no_reference_to_a_call_that_has_ended(make_threads: MakeThreads) -> None:
    threads, kept = make_threads(1), []

    async def call() -> None:
        argument = Thing()
        kept.append(weakref.ref(argument))
        result = await threads.run(lambda given: Thing(), (argument,), {})
        kept.append(weakref.ref(result))

    await call()
    await until(lambda: not any(ref() for ref in kept), timeout=2)


async def test_an_error_of_a_call_is_freed_when_its_handler_ends(make_threads: MakeThreads) -> None:
    threads, kept = make_threads(1), []

    def fail() -> None:
        raise Broken

    async def call() -> None:
        try:
            await threads.run(fail, (), {})
        except Broken as error:
            kept.append(weakref.ref(error))

    gc.disable()
    try:
        await call()
        await until(lambda: kept[0]() is None, timeout=2)
    finally:
        gc.enable()


async def test_a_thread_does_not_count_as_an_event_loop(
    make_threads: MakeThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = ModuleType("sniffio")
    variable: ContextVar[str | None] = ContextVar("library", default=None)
    library.current_async_library_cvar = variable  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sniffio", library)
    variable.set("asyncio")
    assert await make_threads(1).run(variable.get, (), {}) is None
    assert variable.get() == "asyncio"


async def test_ended_threads_finish_their_running_calls(make_threads: MakeThreads) -> None:
    threads, gate = make_threads(2), Gate()
    call = start(threads, gate, 5)
    await until(lambda: gate.began)
    threads.end()
    threads.join()  # does not wait for a running call
    assert not gate.open.is_set()
    gate.open.set()
    assert await call == 5
    threads.join()
    assert own_threads() == []
