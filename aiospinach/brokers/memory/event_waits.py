"""The waits for events in memory."""

from __future__ import annotations

from collections.abc import Sequence

from .waiter import Waiter


class EventWaits:
    """The waits of one broker, whose lock its callers hold but for ``end``."""

    def __init__(self) -> None:
        self._waiters: dict[Waiter, None] = {}

    def begin(self, queues: Sequence[str]) -> Waiter:
        """Wait for events of these queues."""
        waiter = Waiter(queues)
        self._waiters[waiter] = None
        return waiter

    async def end(self, waiter: Waiter, timeout: float) -> None:
        """Return when there are events, or after ``timeout`` seconds."""
        try:
            await waiter.result(timeout)
        finally:
            self._waiters.pop(waiter, None)

    def wake(self, queue: str) -> None:
        """End the waits for events of a queue."""
        for waiter in [waiter for waiter in list(self._waiters) if queue in waiter.queues]:
            self._waiters.pop(waiter, None)
            waiter.wake(queue)
