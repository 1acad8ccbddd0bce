"""Warning of jobs that no worker takes."""

from __future__ import annotations

import asyncio

from ..brokers.base import Broker
from ..brokers.questions import LookWorkers
from ..logs import Log

logger: Log = Log("aiospinach")

WARN_AFTER = 5.0
"""Seconds between the first job that an event loop stores in a queue and the look for workers."""
LOOK_WITHIN = 5.0
"""Seconds that the look may take."""


class QueueWatch:
    """Looks once at each queue that jobs were stored in, and warns if no worker has looked at it.

    Without it, no error would show a wrong namespace, a wrong server, a module that no worker imports, or
    workers that were never started. Each event loop has looks of its own, which end with it.
    """

    def __init__(self, broker: Broker, namespace: str) -> None:
        self._broker = broker
        self._namespace = namespace
        self._looks: dict[asyncio.AbstractEventLoop, _Looks] = {}

    def note(self, queue: str) -> None:
        """A job was stored in this queue."""
        loop = asyncio.get_running_loop()
        looks = self._looks.get(loop)
        if looks is None:
            self._looks = {loop: looks for loop, looks in list(self._looks.items()) if not loop.is_closed()}
            looks = self._looks[loop] = _Looks()
        if queue not in looks.known:
            looks.known.add(queue)
            looks.timers[queue] = loop.call_later(WARN_AFTER, self._begin_look, looks, queue)

    def close(self) -> None:
        """Cancel the looks of the running event loop. Later jobs begin new ones."""
        looks = self._looks.pop(asyncio.get_running_loop(), None)
        if looks is not None:
            for timer in looks.timers.values():
                timer.cancel()
            for task in looks.tasks:
                task.cancel()

    def clear(self) -> None:
        """Forget all looks: this is a child of the process in which they began."""
        self._looks = {}

    def _begin_look(self, looks: _Looks, queue: str) -> None:
        looks.timers.pop(queue, None)
        task = asyncio.get_running_loop().create_task(self._look(queue))
        looks.tasks.add(task)
        task.add_done_callback(looks.tasks.discard)

    async def _look(self, queue: str) -> None:
        try:
            async with asyncio.timeout(LOOK_WITHIN):
                workers = await self._broker.look(queue, LookWorkers())
        except Exception:
            return  # whatever is wrong shows where it matters
        if not workers:
            logger.warning(
                "queue %s: jobs are stored in %r, and no worker of the namespace %s looks at this queue:"
                " start workers with its tasks, the same broker and the same namespace",
                queue,
                self._broker,
                self._namespace,
                fields={"namespace": self._namespace, "queue": queue},
            )


class _Looks:
    """The looks of one event loop."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        """Queues that were looked at, or will be."""
        self.timers: dict[str, asyncio.TimerHandle] = {}
        self.tasks: set[asyncio.Task[None]] = set()
