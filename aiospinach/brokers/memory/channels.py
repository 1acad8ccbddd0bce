"""Messages between the event loops of one process."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection

from ..subscriptions import Message, Subscription


class Channels:
    """The subscriptions of one broker."""

    def __init__(self) -> None:
        self._by_channel: dict[tuple[str, str], list[MemorySubscription]] = {}

    def add(self, queue: str, channel: str, subscription: MemorySubscription) -> None:
        self._by_channel.setdefault((queue, channel), []).append(subscription)

    def remove(self, queue: str, channel: str, subscription: MemorySubscription) -> None:
        subscribed = self._by_channel[queue, channel]
        subscribed.remove(subscription)
        if not subscribed:
            del self._by_channel[queue, channel]

    def publish(self, queue: str, channel: str, data: bytes) -> None:
        for subscription in tuple(self._by_channel.get((queue, channel), ())):
            subscription.receive(Message(channel, data))


class MemorySubscription(Subscription):
    """A subscription of one event loop to channels of one queue."""

    def __init__(self, channels: Channels, queue: str) -> None:
        self._all = channels
        self._queue = queue
        self._own: set[str] = set()
        self._loop = asyncio.get_running_loop()
        self._messages: deque[Message] = deque()
        self._waiter: asyncio.Future[None] | None = None

    async def add(self, channels: Collection[str]) -> None:
        for channel in set(channels) - self._own:
            self._own.add(channel)
            self._all.add(self._queue, channel, self)

    async def remove(self, channels: Collection[str]) -> None:
        for channel in self._own.intersection(channels):
            self._own.discard(channel)
            self._all.remove(self._queue, channel, self)

    async def next(self, timeout: float) -> Message | None:
        if not self._messages:
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(timeout, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self._messages.popleft() if self._messages else None

    async def aclose(self) -> None:
        await self.remove(tuple(self._own))

    def receive(self, message: Message) -> None:
        """Take a message, in any thread."""
        if self._loop is asyncio._get_running_loop():
            self._append(message)
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._append, message)

    def _append(self, message: Message) -> None:
        self._messages.append(message)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
