"""The groups of dead jobs, which are counted once for all visitors of the same seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from contextvars import Context

import msgspec

from aiospinach import AiospinachError, DeadGroup, Engine

AT_ONCE = 1000
"""How many dead jobs are counted while a visitor waits. More of them are counted behind the page."""
CHANGED_KEPT_FOR = 3.0
"""Seconds for which the groups are shown again, although the numbers of dead jobs have changed."""
KEPT_FOR = 30.0
"""Seconds for which they are shown again while these numbers stay: the jobs may be others."""
SHOWN_FOR = 60.0
"""Seconds for which they are shown while they are counted again."""
SHARE = 0.05
"""The share of the time that counting takes, at most, while the numbers change."""


class Counted(msgspec.Struct, frozen=True):
    """Groups of dead jobs."""

    groups: Sequence[DeadGroup]
    """The largest first."""
    total: int
    """How many dead jobs there are."""
    is_partial: bool = False
    """Some of the latest jobs were counted: the groups may have more, and there may be other groups."""


class GroupCache:
    """Counts the dead jobs of an engine by task and error. No visitor waits until many are counted."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counted = Counted((), 0)
        self._numbers: Mapping[str, int] = {}
        self._read_at = float("-inf")
        self._changed_kept_for = CHANGED_KEPT_FOR
        self._actions = 0
        """How often ``forget`` was called."""
        self._turn: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._counting: asyncio.Task[None] | None = None

    async def read(self) -> Counted:
        """The groups. Raises a BrokerError. Visitors who wait share one reading."""
        loop = asyncio.get_running_loop()
        if self._turn is None or self._loop is not loop:
            self._turn, self._loop, self._counting = asyncio.Lock(), loop, None
        async with self._turn:
            actions = self._actions
            await self._refresh(loop)
            if actions != self._actions:  # it has counted jobs that are gone
                self.forget()
                await self._refresh(loop)
            return self._counted

    def forget(self, queue: str = "", task: str = "", error: str = "") -> None:
        """Count again at the next reading: dead jobs were requeued or discarded. A group of which no job is
        left is not shown any more."""
        if self._counting is not None:
            self._counting.cancel()
        self._counting = None
        self._actions += 1
        self._changed_kept_for = CHANGED_KEPT_FOR
        self._read_at = min(self._read_at, time.monotonic() - KEPT_FOR)
        gone = (queue, task, error)
        left = [each for each in self._counted.groups if (each.queue, each.task, each.error) != gone]
        self._counted = msgspec.structs.replace(self._counted, groups=left)

    @property
    def _is_counting(self) -> bool:
        return self._counting is not None and not self._counting.done()

    def _age(self) -> float:
        return time.monotonic() - self._read_at

    async def _refresh(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count again, if the groups have been shown for long enough, or have changed."""
        if self._is_counting or self._age() < self._changed_kept_for:
            return
        numbers = {name: queue.dead for name, queue in (await self._engine.counts()).items()}
        if self._age() >= KEPT_FOR or numbers != self._numbers:
            await self._count_anew(numbers, loop)

    async def _count_anew(self, numbers: Mapping[str, int], loop: asyncio.AbstractEventLoop) -> None:
        if sum(numbers.values()) <= AT_ONCE:
            await self._count_all(numbers)
            return
        if self._age() >= SHOWN_FOR:
            self._counted = await self._count_some(numbers)
        self._counting = loop.create_task(self._count_behind_the_page(numbers), context=Context())

    async def _count_some(self, numbers: Mapping[str, int]) -> Counted:
        """Count the latest dead jobs of each queue that has any."""
        queues = [queue for queue, number in numbers.items() if number]
        latest = max(1, AT_ONCE // len(queues))
        groups = [
            group for queue in queues for group in await self._engine.dead_groups(queue=queue, latest=latest)
        ]
        groups.sort(key=lambda group: -group.count)
        return Counted(groups, sum(numbers.values()), is_partial=True)

    async def _count_behind_the_page(self, numbers: Mapping[str, int]) -> None:
        with contextlib.suppress(AiospinachError):  # the next reading raises it, if it is still so
            await self._count_all(numbers)

    async def _count_all(self, numbers: Mapping[str, int]) -> None:
        began = time.monotonic()
        groups = await self._engine.dead_groups()
        self._counted = Counted(groups, sum(group.count for group in groups))
        self._numbers, self._read_at = numbers, began
        self._changed_kept_for = max(CHANGED_KEPT_FOR, (time.monotonic() - began) / SHARE)
