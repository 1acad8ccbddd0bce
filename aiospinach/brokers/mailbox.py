"""The messages that one subscription has received, and its reader has not taken."""

from __future__ import annotations

import asyncio
from collections import deque

from .subscriptions import Message

MESSAGES_AT_MOST = 10_000


class Mailbox:
    """Messages for one reader, in one event loop. If there are too many, later ones are lost."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._messages: deque[Message] = deque()
        self._has_lost = False
        self._waiter: asyncio.Future[None] | None = None

    def put(self, message: Message) -> None:
        """Add a message, in the event loop of the reader."""
        if len(self._messages) < MESSAGES_AT_MOST:  # guard: bounded mailbox
            self._messages.append(message)
            self.wake()
        else:
            self.note_loss()

    def note_loss(self) -> None:
        """Have the reader learn that messages may have been lost."""
        self._has_lost = True
        self.wake()

    async def next(self, timeout: float) -> Message | None:
        """Return the next message; None after ``timeout`` seconds, after a loss, or after ``wake``."""
        if not self._messages and not self._has_lost:
            waiter = self._waiter = self.loop.create_future()
            timer = self.loop.call_later(timeout, self.wake)
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiter = None
        if self._has_lost:
            self._has_lost = False
            return None
        return self._messages.popleft() if self._messages else None

    def wake(self) -> None:
        """End the wait of the reader."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
