"""Warning of jobs that no worker takes."""

from __future__ import annotations

import asyncio

from ..brokers.base import Broker
from ..brokers.records import LookWorkers
from ..exceptions import BrokerError
from ..logs import Log

logger: Log = Log("aiospinach")

WARN_AFTER = 5.0
"""Seconds between the first job that this process stores in a queue and the look for its workers."""
LOOK_WITHIN = 5.0
"""Seconds that the look may take."""


class QueueWatch:
    """Looks once at each queue that jobs were stored in, and warns if no worker has looked at it.

    Without it, no error would show a wrong namespace, a wrong server, a module that no worker imports, or
    workers that were never started.
    """

    def __init__(self, broker: Broker, namespace: str) -> None:
        self._broker = broker
        self._namespace = namespace
        self._known: set[str] = set()
        """Queues that were looked at, or will be."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._looks: set[asyncio.Task[None]] = set()

    def note(self, queue: str) -> None:
        """A job was stored in this queue."""
        if queue not in self._known:
            self._known.add(queue)
            loop = asyncio.get_running_loop()
            self._timers[queue] = loop.call_later(WARN_AFTER, self._begin_look, queue)

    def close(self) -> None:
        """Cancel all looks. A later job begins the look at a queue that had none yet."""
        self._known.difference_update(self._timers)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for look in self._looks:
            look.cancel()

    def _begin_look(self, queue: str) -> None:
        del self._timers[queue]
        look = asyncio.get_running_loop().create_task(self._look(queue))
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def _look(self, queue: str) -> None:
        try:
            async with asyncio.timeout(LOOK_WITHIN):
                workers = await self._broker.look(queue, LookWorkers())
        except (BrokerError, TimeoutError):
            return  # calls that matter raise, or are logged
        if not workers:
            logger.warning(
                "queue %s: jobs are stored in %r, and no worker of the namespace %s looks at this queue:"
                " start workers with its tasks, the same broker and the same namespace",
                queue,
                self._broker,
                self._namespace,
                fields={"namespace": self._namespace, "queue": queue},
            )
