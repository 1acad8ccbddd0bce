"""The names of the queues of a namespace, which are found without reading all keys of a server."""

from __future__ import annotations

import asyncio

from ...exceptions import BrokerError, BrokerUnavailable
from . import schema
from .calls import ScriptCalls
from .loop_session import LoopSession
from .transports import sleep_before_retry

LONGEST_PAUSE = 60.0


class QueueNames:
    """Adds the queues that an event loop uses to the stored set of names, and reads this set.

    Each event loop adds a queue once, beside the call that uses the queue first. No call waits for that, and
    none fails because of it.
    """

    def __init__(self, calls: ScriptCalls) -> None:
        self._calls = calls

    def add(self, queue: str) -> None:
        """Add a queue to the names, unless this event loop has added it."""
        here = self._calls.here()
        if queue not in here.named_queues:
            here.named_queues.add(queue)
            task = asyncio.get_running_loop().create_task(self._add(queue, here))
            here.naming.add(task)
            task.add_done_callback(here.naming.discard)

    async def remove(self, queue: str) -> None:
        """Remove a queue from the names. Its next use adds it again."""
        self._calls.here().named_queues.discard(queue)
        await self._calls.ask("SREM", self._key(), queue)

    async def all(self) -> list[str]:
        """Return the names, sorted."""
        names = await self._calls.ask("SMEMBERS", self._key())
        return sorted(name.decode(errors="backslashreplace") for name in names)

    async def _add(self, queue: str, here: LoopSession) -> None:
        pause = 0.5
        while queue in here.named_queues:
            try:
                await self._calls.ask("SADD", self._key(), queue)
                return
            except BrokerUnavailable:
                pause = await sleep_before_retry(pause, LONGEST_PAUSE)
            except BrokerError:  # a user of fewer rights: the queue stays unnamed
                return

    def _key(self) -> str:
        return schema.names_key(self._calls.namespace)
