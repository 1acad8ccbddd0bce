"""A broker can be opened and closed repeatedly, by several owners in turn, and in several event loops."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiospinach import MemoryBroker
from aiospinach.brokers.base import Broker
from aiospinach.brokers.questions import Counts
from aiospinach.brokers.records import Envelope
from aiospinach.exceptions import InvalidValue
from aiospinach.outcome import Action

from ..asking import counts
from ..waiting import until
from .conftest import LEASE, ids, job, put, put_and_take, settle, take, take_when_expired


async def test_opening_an_open_broker_does_nothing(broker: Broker, queue: str, namespace: str) -> None:
    await put(broker, queue, "a")
    await broker.open(namespace)
    assert ids(await take(broker, queue)) == ["a"]


async def test_stored_jobs_survive_closing_the_broker(broker: Broker, queue: str, namespace: str) -> None:
    await put(broker, queue, "a", "b")
    (lease,) = await take(broker, queue, 1)
    for _ in range(2):
        await broker.aclose()
    await broker.open(namespace)
    assert await settle(broker, queue, lease, Action.DONE)
    assert ids(await take(broker, queue)) == ["b"]


class Owner:
    """An object that can be referenced weakly."""


async def test_a_broker_belongs_to_one_owner(broker: Broker) -> None:
    first, second = Owner(), Owner()
    broker._belong_to(first)
    broker._belong_to(first)
    with pytest.raises(InvalidValue, match="belongs to another engine"):
        broker._belong_to(second)
    del first
    gc.collect()
    broker._belong_to(second)


@pytest.mark.parametrize("lease", [0.05, 0, -1, float("nan"), float("inf"), "long"])
def test_an_invalid_length_of_leases_is_refused(lease: Any) -> None:
    with pytest.raises(InvalidValue, match="lease"):
        MemoryBroker(lease=lease)


def test_jobs_outlive_the_event_loop_that_stored_them() -> None:
    broker = MemoryBroker(lease=LEASE)

    async def first() -> None:
        await broker.open("loops")
        await put(broker, "mail", "a", "b", max_retries=1)
        (lease,) = await take(broker, "mail", 1)
        assert lease.job.id == "a"
        asyncio.get_running_loop().create_task(broker.wait(["mail.slow"], 60))
        await asyncio.sleep(0)

    async def second() -> None:
        await broker.open("loops")
        assert ids(await take(broker, "mail")) == ["b"]
        # Both were leased; the lease of the loop that has ended expires first.
        assert ids(await take_when_expired(broker, "mail"))[0] == "a"
        waiting = asyncio.create_task(broker.wait(["mail.slow"], 5))
        await asyncio.sleep(0)
        await put(broker, "mail.slow", "c")
        assert await waiting == "mail.slow"
        await broker.aclose()

    asyncio.run(first())
    asyncio.run(second())


async def in_thread(function: Callable[..., object], *args: object) -> None:
    """Run a function in a new thread."""
    thread = threading.Thread(target=function, args=args)
    thread.start()
    await until(lambda: not thread.is_alive(), "the thread has ended")


def abandon_a_wait(broker: Broker, queue: str, *, woken: bool = False) -> None:
    """Start a wait in an event loop that is then closed."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)

    async def begin() -> None:
        asyncio.get_running_loop().create_task(broker.wait([queue], 60))
        await asyncio.sleep(0)

    loop.run_until_complete(begin())
    if woken:
        asyncio.run(put(broker, queue, "a"))
    loop.close()


class Collecting(list[Envelope]):
    """A batch whose iteration collects garbage."""

    def __iter__(self) -> Iterator[Envelope]:
        gc.collect()
        return super().__iter__()


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
async def test_a_wait_in_a_closed_loop_consumes_no_wake_up() -> None:
    broker = MemoryBroker(lease=LEASE)
    await in_thread(abandon_a_wait, broker, "mail")
    await put(broker, "mail", "a")
    assert await broker.wait(["mail"], 5) == "mail"
    gc.collect()


@pytest.mark.usefixtures("no_collection")
async def test_collecting_an_abandoned_wait_during_a_call_does_not_block_it() -> None:
    broker = MemoryBroker(lease=LEASE)
    await in_thread(abandon_a_wait, broker, "mail")
    assert await broker.enqueue("mail", Collecting([job("a")])) == [True]
    assert await broker.wait(["mail"], 5) == "mail"


@pytest.mark.usefixtures("no_collection")
def test_a_wake_up_not_delivered_to_a_closed_loop_is_kept() -> None:
    broker = MemoryBroker(lease=LEASE)
    abandon_a_wait(broker, "mail", woken=True)
    gc.collect()
    assert asyncio.run(broker.wait(["mail"], 5)) == "mail"


async def test_several_threads_with_their_own_loops_share_a_broker() -> None:
    broker = MemoryBroker()
    taken: list[str] = []

    async def work() -> None:
        while len(taken) < 300:
            if await broker.wait(["mail"], 0.2) is None:
                continue
            for lease in await take(broker, "mail", 3):
                taken.append(lease.job.id)
                assert await settle(broker, "mail", lease, Action.DONE)

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(100):
        await put(broker, "mail", *(f"{number}-{part}" for part in "abc"))
        await asyncio.sleep(0)
    await until(lambda: not any(thread.is_alive() for thread in threads), "the threads have ended")
    assert len(taken) == len(set(taken)) == 300
    assert await counts(broker, "mail") == Counts(0, 0, 0, 0)


async def test_a_wait_is_woken_from_another_thread() -> None:
    broker = MemoryBroker()
    waiting = asyncio.create_task(broker.wait(["mail"], 10))
    await asyncio.sleep(0)
    await in_thread(asyncio.run, put_and_take(broker, "mail.slow", "a"))
    await in_thread(asyncio.run, put(broker, "mail", "a"))
    assert await waiting == "mail"
