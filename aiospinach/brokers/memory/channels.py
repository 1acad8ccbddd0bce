"""Messages between the event loops of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from threading import RLock

from ... import forks
from ..mailbox import Mailbox
from ..subscriptions import Message, Subscription


class Channels:
    """The subscriptions of one broker. Any thread may subscribe and publish."""

    def __init__(self) -> None:
        self._by_channel: dict[tuple[str, str], dict[MemorySubscription, None]] = {}
        self._by_loop: dict[asyncio.AbstractEventLoop, dict[MemorySubscription, None]] = {}
        self._lock = RLock()
        forks.forget_in_child(self)

    def _forget_parent(self) -> object:
        """Drop all subscriptions in a forked child. A thread of the parent may hold the old lock."""
        inherited = self._by_channel, self._by_loop
        self._by_channel, self._by_loop, self._lock = {}, {}, RLock()
        return inherited

    def open(self, subscription: MemorySubscription) -> None:
        """Note a new subscription, and drop those whose event loop is closed."""
        with self._lock:
            for loop in [loop for loop in self._by_loop if loop.is_closed()]:
                for closed in self._by_loop.pop(loop):
                    self.remove(closed, closed.channels)
            self._by_loop.setdefault(subscription.loop, {})[subscription] = None

    def close(self, subscription: MemorySubscription) -> None:
        with self._lock:
            self.remove(subscription, subscription.channels)
            of_loop = self._by_loop.get(subscription.loop, {})
            of_loop.pop(subscription, None)
            if not of_loop:
                self._by_loop.pop(subscription.loop, None)

    def add(self, subscription: MemorySubscription, channels: Collection[str]) -> None:
        with self._lock:
            for channel in channels:
                self._by_channel.setdefault((subscription.queue, channel), {})[subscription] = None

    def remove(self, subscription: MemorySubscription, channels: Collection[str]) -> None:
        with self._lock:
            for key in [(subscription.queue, channel) for channel in channels]:
                subscribed = self._by_channel.get(key, {})
                subscribed.pop(subscription, None)
                if not subscribed:
                    self._by_channel.pop(key, None)

    def publish(self, queue: str, channel: str, data: bytes) -> None:
        with self._lock:
            subscribed = list(self._by_channel.get((queue, channel), ()))
        for subscription in subscribed:
            subscription.receive(Message(channel, data))


class MemorySubscription(Subscription):
    """A subscription of one event loop to channels of one queue."""

    def __init__(self, all_channels: Channels, queue: str) -> None:
        self.queue: str = queue
        self.channels: set[str] = set()
        self._all = all_channels
        self._mailbox = Mailbox()
        self.loop: asyncio.AbstractEventLoop = self._mailbox.loop
        all_channels.open(self)

    async def add(self, channels: Collection[str]) -> None:
        self._all.add(self, channels)
        self.channels.update(channels)

    async def remove(self, channels: Collection[str]) -> None:
        self._all.remove(self, self.channels.intersection(channels))
        self.channels.difference_update(channels)

    async def next(self, timeout: float) -> Message | None:
        return await self._mailbox.next(timeout)

    async def aclose(self) -> None:
        self._all.close(self)
        self.channels.clear()
        self._mailbox.wake()

    def receive(self, message: Message) -> None:
        """Take a message, in any thread."""
        if self.loop is asyncio._get_running_loop():
            self._mailbox.put(message)
            return
        try:
            self.loop.call_soon_threadsafe(self._mailbox.put, message)
        except RuntimeError:  # the loop has ended
            self._all.close(self)  # guard: closed loop in memory
