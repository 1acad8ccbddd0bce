"""The protocol of a connection that is subscribed to channels."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionLost

from .protocol import RespProtocol

CHANNELS_AT_ONCE = 500


class PushProtocol(RespProtocol):
    """Receives messages of channels between the answers to calls, as RESP2 sends them.

    A call that names several channels has an answer for each, or one error. The server may end a
    subscription by itself: then the slot of the channel has moved to another node of the Cluster.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        *,
        on_message: Callable[[bytes, bytes], None],
        on_moved: Callable[[bytes], None],
        on_lost: Callable[[PushProtocol], None],
    ) -> None:
        self._on_message = on_message
        self._on_moved = on_moved
        self._on_lost: Callable[[PushProtocol], None] | None = on_lost
        self._unanswered: deque[set[bytes]] = deque()
        """The channels without an answer of each call under way."""
        super().__init__(connection)
        self.heard_at: float = self._loop.time()
        """When the server has sent something last, by the clock of the loop."""
        self.last: asyncio.Future[Any] = self._loop.create_future()
        """The answer to the last call for channels. All earlier calls have been answered before."""
        self.last.set_result(None)

    def subscribe(self, channels: Sequence[bytes], until: float) -> asyncio.Future[Any]:
        """Subscribe to channels. Returns a future that ends when the server has confirmed all of them."""
        for first in range(0, len(channels), CHANNELS_AT_ONCE):
            some = channels[first : first + CHANNELS_AT_ONCE]
            self.last = self._name(b"SSUBSCRIBE", some, until)
        return self.last

    def unsubscribe(self, channels: Sequence[bytes], until: float) -> None:
        """End subscriptions to channels."""
        for first in range(0, len(channels), CHANNELS_AT_ONCE):
            some = channels[first : first + CHANNELS_AT_ONCE]
            self._name(b"SUNSUBSCRIBE", some, until)

    def ping(self, until: float) -> None:
        """Ask for a sign of life. Without an answer, the connection is lost at that moment."""
        self.ask(hiredis.pack_command((b"PING",)), until)

    def ask(self, command: bytes, until: float, channels: Collection[bytes] = ()) -> asyncio.Future[Any]:
        answer = super().ask(command, until)
        self._unanswered.append(set(channels))
        answer.add_done_callback(_retrieve)
        return answer

    def drop(self) -> None:
        """Give up the connection, so that its owner connects again."""
        self._fail(ConnectionLost("the connection was given up"))

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        super().data_received(data)

    def _name(self, command: bytes, channels: Sequence[bytes], until: float) -> asyncio.Future[Any]:
        words: tuple[Any, ...] = (command, *channels)
        return self.ask(hiredis.pack_command(words), until, channels)

    def _deliver(self, answer: Any) -> None:
        if type(answer) is list:
            kind, channel = answer[0], answer[1]
            if kind == b"smessage":
                self._on_message(channel, answer[2])
                return
            if kind == b"sunsubscribe" and not (self._unanswered and channel in self._unanswered[0]):
                self._on_moved(channel)
                return
            unanswered = self._unanswered[0]
            unanswered.discard(channel)
            if unanswered:  # guard: an answer for each channel
                return
        self._unanswered.popleft()
        super()._deliver(answer)

    def _end_late_calls(self) -> None:
        super()._end_late_calls()
        if self.is_lost:  # guard: late answer to a subscriber
            self.drop()

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        self._unanswered.clear()
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(self)


def _retrieve(answer: asyncio.Future[Any]) -> None:
    """Have asyncio not log the error of an answer that nobody awaits."""
    if not answer.cancelled():
        answer.exception()
