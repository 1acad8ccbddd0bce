"""Messages about a queue reach every subscription to their channel, and no other."""

from __future__ import annotations

import asyncio

from aiospinach.brokers.base import Broker
from aiospinach.brokers.subscriptions import Message

PATIENCE = 10.0
"""Seconds: a message that does not come within that time is lost."""


async def test_a_message_reaches_every_subscription_to_its_channel(broker: Broker, queue: str) -> None:
    async with broker.subscribe(queue) as one, broker.subscribe(queue) as another:
        await one.add(["orders"])
        await another.add(["orders"])
        await broker.publish(queue, "orders", b"cancel a")
        assert await one.next(PATIENCE) == await another.next(PATIENCE) == Message("orders", b"cancel a")


async def test_other_channels_and_queues_are_not_received(
    broker: Broker, queue: str, other_queue: str
) -> None:
    async with broker.subscribe(queue) as subscription:
        await subscription.add(["done:a"])
        await broker.publish(queue, "done:b", b"")
        await broker.publish(other_queue, "done:a", b"other")
        await broker.publish(queue, "done:a", b"own")
        assert await subscription.next(PATIENCE) == Message("done:a", b"own")
        assert await subscription.next(0.01) is None


async def test_messages_arrive_in_their_order_and_unchanged(broker: Broker, queue: str) -> None:
    async with broker.subscribe(queue) as subscription:
        await subscription.add(["replies é*[x]"])
        sent = [bytes([number]) * number for number in range(100)]
        for data in sent:
            await broker.publish(queue, "replies é*[x]", data)
        got = [await subscription.next(PATIENCE) for _ in sent]
        assert [message.data for message in got if message is not None] == sent


async def test_a_channel_that_was_removed_is_not_received(broker: Broker, queue: str) -> None:
    async with broker.subscribe(queue) as subscription:
        await subscription.add(["a", "b"])
        await subscription.remove(["a", "unknown"])
        await broker.publish(queue, "a", b"")
        await broker.publish(queue, "b", b"")
        assert await subscription.next(PATIENCE) == Message("b", b"")
        await subscription.add(["a"])
        await broker.publish(queue, "a", b"again")
        assert await subscription.next(PATIENCE) == Message("a", b"again")


async def test_another_subscription_keeps_a_channel_that_one_has_removed(broker: Broker, queue: str) -> None:
    async with broker.subscribe(queue) as one:
        await one.add(["a"])
        async with broker.subscribe(queue) as another:
            await another.add(["a", "a"])
            await another.add(["a"])
        await broker.publish(queue, "a", b"")
        assert await one.next(PATIENCE) == Message("a", b"")


async def test_a_closed_subscription_ends_its_wait(broker: Broker, queue: str) -> None:
    subscription = broker.subscribe(queue)
    await subscription.add(["a"])
    waiting = asyncio.create_task(subscription.next(600))
    await asyncio.sleep(0)
    await subscription.aclose()
    assert await asyncio.wait_for(waiting, PATIENCE) is None
    await subscription.aclose()


async def test_a_wait_may_be_cancelled_and_loses_no_message(broker: Broker, queue: str) -> None:
    async with broker.subscribe(queue) as subscription:
        await subscription.add(["a"])
        waiting = asyncio.create_task(subscription.next(600))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await broker.publish(queue, "a", b"")
        assert await subscription.next(PATIENCE) == Message("a", b"")


async def test_ten_thousand_channels_are_added_and_removed(broker: Broker, queue: str) -> None:
    channels = [f"done:{number}" for number in range(10_000)]
    async with broker.subscribe(queue) as subscription:
        await subscription.add(channels)
        for channel in (channels[0], channels[-1]):
            await broker.publish(queue, channel, b"")
            assert await subscription.next(PATIENCE) == Message(channel, b"")
        await subscription.remove(channels[1:])
        await broker.publish(queue, channels[-1], b"")
        await broker.publish(queue, channels[0], b"last")
        assert await subscription.next(PATIENCE) == Message(channels[0], b"last")


async def test_a_reader_that_does_not_read_keeps_a_bounded_number_of_messages(
    broker: Broker, queue: str
) -> None:
    async with broker.subscribe(queue) as slow, broker.subscribe(queue) as quick:
        await slow.add(["a"])
        await quick.add(["a", "end"])
        for first in range(0, 10_100, 100):
            await asyncio.gather(*(broker.publish(queue, "a", b"") for _ in range(100)))
            for _ in range(100):
                assert await quick.next(PATIENCE) is not None, first
        assert await slow.next(PATIENCE) is None
        assert sum([await slow.next(0) is not None for _ in range(10_100)]) == 10_000


async def test_another_event_loop_receives_messages(broker: Broker, queue: str) -> None:
    subscribed = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def elsewhere() -> Message | None:
        async with broker.subscribe(queue) as subscription:
            await subscription.add(["a"])
            loop.call_soon_threadsafe(subscribed.set)
            return await subscription.next(PATIENCE)

    receiving = asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
    await asyncio.wait_for(subscribed.wait(), PATIENCE)
    await broker.publish(queue, "a", b"across")
    assert await receiving == Message("a", b"across")
    await broker.publish(queue, "a", b"to nobody")
