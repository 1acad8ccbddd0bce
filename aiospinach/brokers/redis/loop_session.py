"""The connections and the session of one event loop."""

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
from .subscriptions import Subscriptions
from .transports import Transport, first_try_until, sleep_before_retry


class LoopSession:
    """The connections of an event loop, its round trips, and the session in which it leases jobs.

    A forked child makes new ones, so it shares no session with its parent.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.session: str = secrets.token_hex(16)
        self.queues: dict[str, QueueSession] = {}
        self.batchers: dict[str, EnqueueBatcher] = {}
        self.subscriptions: Subscriptions | None = None
        self.named_queues: set[str] = set()
        """Queues whose names were stored, or are being stored by ``naming``."""
        self.naming: set[asyncio.Task[None]] = set()
        self.is_checked: bool = False
        self.waits_for: Sequence[str] = ()
        self.by_wake_key: dict[str, str] = {}
        """The queues of the last wait, by the keys of their wake-ups: most waits name the same queues."""
        self._checking = asyncio.Lock()

    async def check(self, endpoint: str, until: float | None) -> float | None:
        """Check the server before it is used: once, or repeatedly until this moment of time.monotonic().
        Returns its clock as ``shake_hands`` does, or None if another call has checked it."""
        if until is None:
            clock = await shake_hands(self.transport, endpoint)
            self.is_checked = True
            return clock
        pause = 0.05
        loop = asyncio.get_running_loop()
        try:
            # One call checks the server for all. The others wait as long as their own time allows.
            async with asyncio.timeout_at(loop.time() + until - time.monotonic()), self._checking:
                while not self.is_checked:
                    try:
                        clock = await shake_hands(self.transport, endpoint, until=first_try_until(until))
                    except BrokerUnavailable:
                        if time.monotonic() + pause > until:
                            raise
                        pause = await sleep_before_retry(pause, LONGEST_PAUSE)
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
        self.batchers.clear()  # they refer to this session: no cycle is left to the collector
        await self.end_subscriptions()
        await self.end_naming()
        await self.transport.aclose()

    async def end_subscriptions(self) -> None:
        """End the subscriptions to channels, and close their connections."""
        subscriptions, self.subscriptions = self.subscriptions, None
        if subscriptions is not None:
            await subscriptions.aclose()

    async def end_naming(self) -> None:
        """End the calls that store names of queues. Later calls store these names."""
        if self.naming:
            for task in self.naming:
                task.cancel()
            await asyncio.wait(self.naming)
            self.named_queues.clear()

    def let_go(self) -> None:
        """Give up the connections outside of their event loop, which has ended or is the parent's."""
        self.transport.let_go()
        if self.subscriptions is not None:
            self.subscriptions.let_go()
