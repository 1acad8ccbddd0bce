"""Channels in memory: other threads, loops that have ended, and forks."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import AbstractContextManager

from aiospinach import MemoryBroker
from aiospinach.brokers.subscriptions import Message, Subscription

QUEUE = "mail"


def subscribed_in_a_closed_loop(broker: MemoryBroker, channel: str) -> Subscription:
    """A subscription that its reader has left open."""

    async def subscribe() -> Subscription:
        subscription = broker.subscribe(QUEUE)
        await subscription.add([channel])
        return subscription

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(subscribe())
    finally:
        loop.close()


async def test_a_message_to_a_closed_loop_drops_its_subscription() -> None:
    broker = MemoryBroker()
    await asyncio.to_thread(subscribed_in_a_closed_loop, broker, "a")
    assert broker._channels._by_channel
    await broker.publish(QUEUE, "a", b"")
    assert not broker._channels._by_channel
    assert not broker._channels._by_loop


async def test_a_new_subscription_drops_those_of_closed_loops() -> None:
    """Channels that nobody publishes to would be kept for ever."""
    broker = MemoryBroker()
    for number in range(10):
        await asyncio.to_thread(subscribed_in_a_closed_loop, broker, f"done:{number}")
    async with broker.subscribe(QUEUE):
        assert not broker._channels._by_channel
        assert list(broker._channels._by_loop) == [asyncio.get_running_loop()]
    assert not broker._channels._by_loop


async def test_threads_subscribe_while_others_publish() -> None:
    broker, rounds, failures = MemoryBroker(), 200, list[BaseException]()
    is_over = threading.Event()

    async def subscribe_and_leave() -> None:
        for number in range(rounds):
            async with broker.subscribe(QUEUE) as subscription:
                await subscription.add(["all", f"own:{number}"])
                assert await subscription.next(10) is not None

    async def publish() -> None:
        while not is_over.is_set():
            await broker.publish(QUEUE, "all", b"")
            await asyncio.sleep(0)

    publishing = asyncio.create_task(asyncio.to_thread(asyncio.run, publish()))
    try:
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, subscribe_and_leave()) for _ in range(3)))
    except BaseException as error:
        failures.append(error)
    is_over.set()
    await publishing
    assert failures == []
    assert not broker._channels._by_channel


def hold(lock: AbstractContextManager[object], held: threading.Event, may_release: threading.Event) -> None:
    """Hold a lock in this thread."""
    with lock:
        held.set()
        may_release.wait()


async def test_a_forked_child_has_no_subscription_of_its_parent() -> None:
    broker = MemoryBroker()
    async with broker.subscribe(QUEUE) as subscription:
        await subscription.add(["a"])
        held, may_release = threading.Event(), threading.Event()
        thread = threading.Thread(target=hold, args=(broker._channels._lock, held, may_release))
        thread.start()
        held.wait()
        child = os.fork()
        if child == 0:
            is_free = broker._channels._lock.acquire(timeout=5)
            os._exit(0 if is_free and not broker._channels._by_channel else 1)
        may_release.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        await broker.publish(QUEUE, "a", b"parent")
        assert await subscription.next(10) == Message("a", b"parent")
