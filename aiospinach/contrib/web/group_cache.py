"""The groups of dead jobs, which are counted once for all visitors of the same seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiospinach import DeadGroup, Engine

KEPT_FOR = 3.0
"""Seconds for which the groups are shown again."""


class GroupCache:
    """Counts the dead jobs of an engine by task and error."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._groups: Sequence[DeadGroup] = ()
        self._read_at = float("-inf")
        self._turn: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def read(self) -> Sequence[DeadGroup]:
        """The groups, the largest first. Raises a BrokerError. Visitors who wait share one reading."""
        loop = asyncio.get_running_loop()
        if self._turn is None or self._loop is not loop:
            self._turn, self._loop = asyncio.Lock(), loop
        async with self._turn:
            if time.monotonic() - self._read_at >= KEPT_FOR:
                began = time.monotonic()
                self._groups = await self._engine.dead_groups()
                self._read_at = began
            return self._groups

    def forget(self) -> None:
        """Count again at the next reading: dead jobs were requeued or discarded."""
        self._read_at = float("-inf")
