"""What belongs to one event loop that uses a Redis."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence

from ...exceptions import BrokerUnavailable
from .batching import LONGEST_PAUSE, EnqueueBatcher
from .errors import to_broker_error
from .handshake import shake_hands
from .queue_session import QueueSession
from .transports import Transport, first_half, rest


class LoopSession:
    """Connections, round trips under way, and the session in which jobs are leased.

    A process that is forked starts without any, and so shares no session with its parent.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.session: str = secrets.token_hex(16)
        self.queues: dict[str, QueueSession] = {}
        self.batchers: dict[str, EnqueueBatcher] = {}
        self.is_checked: bool = False
        self.waits_for: Sequence[str] = ()
        self.by_wake_key: dict[str, str] = {}
        """The queues that are waited for, mostly the same again and again, by the keys of their wake-ups."""
        self._checking = asyncio.Lock()

    async def check(self, endpoint: str, until: float | None) -> float | None:
        """Look at the server before it is used, once, or again and again until this moment of
        time.monotonic(). Returns its clock as ``shake_hands`` does, or None if somebody else was faster."""
        if until is None:
            clock = await shake_hands(self.transport, endpoint)
            self.is_checked = True
            return clock
        pause = 0.05
        loop = asyncio.get_running_loop()
        try:
            # One caller tries for all; each waits for that as long as its own time allows.
            async with asyncio.timeout_at(loop.time() + until - time.monotonic()), self._checking:
                while not self.is_checked:
                    try:
                        clock = await shake_hands(self.transport, endpoint, until=first_half(until))
                    except BrokerUnavailable:
                        if time.monotonic() + pause > until:
                            raise
                        pause = await rest(pause, LONGEST_PAUSE)
                    else:
                        self.is_checked = True
                        return clock
        except TimeoutError as error:
            raise to_broker_error(error, endpoint) from error
        return None

    async def aclose(self) -> None:
        """Wait for the round trips under way, and close the connections."""
        for batcher in list(self.batchers.values()):
            await batcher.aclose()
        self.batchers.clear()  # each knows this session, and nothing is to be left to the garbage collection
        await self.transport.aclose()

    def let_go(self) -> None:
        """Give up the connections outside of the event loop, which has ended or is another process's."""
        self.transport.let_go()
