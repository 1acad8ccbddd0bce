"""The subscriptions of one event loop to channels in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from ...exceptions import BrokerError, BrokerUnavailable
from ..mailbox import Mailbox
from ..subscriptions import Message, Subscription
from .errors import CLIENT_ERRORS, to_broker_error, to_channel_error
from .subscriber import QueueChannels, Subscriber
from .transports import Transport

ADD_WITHIN = 5.0
"""Seconds in which the store has to confirm new channels."""
SOMEWHERE = ""
"""The place of a queue before its server is known."""


class _Channel:
    """The readers of one channel."""

    __slots__ = ("name", "readers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.readers: dict[Mailbox, None] = {}


class Subscriptions:
    """All subscriptions of one event loop. They share one connection to each server that has such a queue."""

    def __init__(self, endpoint: str, transport: Transport) -> None:
        self._endpoint = endpoint
        self._transport = transport
        self._channels: dict[bytes, _Channel] = {}
        """By their full names."""
        self._queues: dict[str, QueueChannels] = {}
        """By the prefixes of their keys."""
        self._subscribers: dict[str, Subscriber] = {}
        """By the places of their servers."""
        self._is_closed = False

    async def add(self, prefix: str, channels: Collection[str], mailbox: Mailbox) -> None:
        """Have a mailbox receive the messages of channels that it does not receive yet."""
        if self._is_closed:
            raise BrokerUnavailable("the broker was closed, and its subscriptions with it")
        queue = self._queue(prefix)
        new = [key for channel in channels if (key := self._want(queue, channel, mailbox)) is not None]
        try:
            async with asyncio.timeout(ADD_WITHIN):
                await self._confirm(queue, new)
        except TimeoutError as late:
            queue.may_lack = True
            raise queue.subscriber.error or to_broker_error(late, self._endpoint) from late
        except BrokerError:  # the store refuses
            self.remove(prefix, channels, mailbox)
            raise

    def remove(self, prefix: str, channels: Collection[str], mailbox: Mailbox) -> None:
        """Have a mailbox receive messages of channels no more."""
        if (queue := self._queues.get(prefix)) is None:
            return
        left = [key for channel in channels if (key := self._unwant(queue, channel, mailbox)) is not None]
        if left:
            queue.subscriber.leave(left)
        if not queue.keys:
            del self._queues[prefix]
            queue.subscriber.drop(queue)

    async def aclose(self) -> None:
        """End all subscriptions, and close the connections."""
        self._is_closed = True
        self._queues.clear()
        self._channels.clear()
        for subscriber in self._subscribers.values():
            await subscriber.aclose()

    def let_go(self) -> None:
        """Give up the connections outside of their event loop, which has ended or is the parent's."""
        self._is_closed = True
        for subscriber in self._subscribers.values():
            subscriber.let_go()

    # Within.

    def _queue(self, prefix: str) -> QueueChannels:
        queue = self._queues.get(prefix)
        if queue is None:
            queue = self._queues[prefix] = QueueChannels(prefix)
            self._subscriber(SOMEWHERE).take(queue)
        return queue

    def _subscriber(self, place: str) -> Subscriber:
        subscriber = self._subscribers.get(place)
        if subscriber is None:
            subscriber = self._subscribers[place] = Subscriber(
                place,
                self._endpoint,
                self._transport,
                on_message=self._on_message,
                relocate=self._relocate,
            )
        return subscriber

    def _want(self, queue: QueueChannels, name: str, mailbox: Mailbox) -> bytes | None:
        """Note a reader of a channel. Returns the full name if it is the first one."""
        key = f"{queue.prefix}{name}".encode()
        channel = self._channels.get(key)
        is_new = channel is None
        if channel is None:
            channel = self._channels[key] = _Channel(name)
            queue.keys[key] = None
        if mailbox not in channel.readers:
            channel.readers[mailbox] = None
            queue.mailboxes[mailbox] = queue.mailboxes.get(mailbox, 0) + 1
        return key if is_new else None

    def _unwant(self, queue: QueueChannels, name: str, mailbox: Mailbox) -> bytes | None:
        """Forget a reader of a channel. Returns the full name if no reader is left."""
        key = f"{queue.prefix}{name}".encode()
        channel = self._channels.get(key)
        if channel is None or mailbox not in channel.readers:
            return None
        del channel.readers[mailbox]
        queue.mailboxes[mailbox] -= 1
        if not queue.mailboxes[mailbox]:
            del queue.mailboxes[mailbox]
        if channel.readers:  # guard: another reader of a channel
            return None
        del self._channels[key], queue.keys[key]
        return key

    async def _confirm(self, queue: QueueChannels, new: Sequence[bytes]) -> None:
        """Wait until the store has confirmed the channels."""
        while True:
            try:
                if await queue.subscriber.confirm(new):
                    return
            except CLIENT_ERRORS as error:
                fault = to_channel_error(error, self._endpoint)
                if not isinstance(fault, BrokerUnavailable):
                    raise fault from error
            new = ()  # the next connection subscribes to them

    async def _relocate(self, subscriber: Subscriber, has_failed: bool) -> None:
        """Move queues to the subscribers of their servers, which are looked up anew after a failure."""
        if has_failed:
            await self._transport.look_around()
        for queue in list(subscriber.queues):
            place = await self._transport.place_of(queue.prefix)
            target = self._subscriber(place)
            if target is not subscriber and queue in subscriber.queues:
                target.take(queue)
                subscriber.drop(queue)

    def _on_message(self, key: bytes, data: bytes) -> None:
        channel = self._channels.get(key)
        if channel is not None:
            message = Message(channel.name, data)
            for mailbox in channel.readers:
                mailbox.put(message)


class RedisSubscription(Subscription):
    """A subscription of one event loop to channels of one queue."""

    def __init__(self, subscriptions: Subscriptions, prefix: str) -> None:
        self._all = subscriptions
        self._prefix = prefix
        self._channels: set[str] = set()
        self._mailbox = Mailbox()

    async def add(self, channels: Collection[str]) -> None:
        if channels:
            self._channels.update(channels)
            await self._all.add(self._prefix, channels, self._mailbox)

    async def remove(self, channels: Collection[str]) -> None:
        self._channels.difference_update(channels)
        self._all.remove(self._prefix, channels, self._mailbox)

    async def next(self, timeout: float) -> Message | None:
        return await self._mailbox.next(timeout)

    async def aclose(self) -> None:
        await self.remove(tuple(self._channels))
        self._mailbox.wake()
