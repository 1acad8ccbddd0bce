"""The groups of dead jobs, which are counted once for all visitors of the same seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from aiospinach import DeadGroup, Engine

CHANGED_KEPT_FOR = 3.0
"""Seconds for which the groups are shown again, although the numbers of dead jobs have changed."""
KEPT_FOR = 30.0
"""Seconds for which they are shown again while these numbers stay: the jobs may be others."""


class GroupCache:
    """Counts the dead jobs of an engine by task and error."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._groups: Sequence[DeadGroup] = ()
        self._numbers: Mapping[str, int] = {}
        self._read_at = float("-inf")
        self._turn: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def read(self) -> Sequence[DeadGroup]:
        """The groups, the largest first. Raises a BrokerError. Visitors who wait share one reading."""
        loop = asyncio.get_running_loop()
        if self._turn is None or self._loop is not loop:
            self._turn, self._loop = asyncio.Lock(), loop
        async with self._turn:
            age = time.monotonic() - self._read_at
            if age >= CHANGED_KEPT_FOR:
                numbers = {name: queue.dead for name, queue in (await self._engine.counts()).items()}
                if age >= KEPT_FOR or numbers != self._numbers:
                    began = time.monotonic()
                    self._groups = await self._engine.dead_groups()
                    self._numbers, self._read_at = numbers, began
            return self._groups

    def forget(self) -> None:
        """Count again at the next reading: dead jobs were requeued or discarded."""
        self._read_at = float("-inf")
