"""Messages about a queue, which reach every process that has subscribed at that moment, or are lost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from types import TracebackType
from typing import Self

import msgspec


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message of a channel. It is a hint: it may be lost, so nothing may depend on it but time."""

    channel: str
    data: bytes


class Subscription(ABC):
    """The channels of one queue to which one reader has subscribed, in one event loop.

    ``async with broker.subscribe(queue) as subscription`` ends it. A reader subscribes, then reads the state
    of the store, and then waits: so nothing happens unnoticed between the read and the wait.
    """

    @abstractmethod
    async def add(self, channels: Collection[str]) -> None:
        """Subscribe to channels. Returns when the store has confirmed it: later messages arrive.

        Raises BrokerUnavailable if the store does not answer. Then ``next`` still returns None once it has
        subscribed to them.
        """

    @abstractmethod
    async def remove(self, channels: Collection[str]) -> None:
        """End the subscription to channels, without waiting for the store."""

    @abstractmethod
    async def next(self, timeout: float) -> Message | None:
        """Return the next message.

        Returns None after ``timeout`` seconds, or at once if messages may have been lost, because the
        connection was: then the reader reads the state of the store again.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """End the subscription to all channels."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
