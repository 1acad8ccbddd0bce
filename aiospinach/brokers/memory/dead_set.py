"""The dead jobs of one queue, in memory."""

from __future__ import annotations

import itertools

from ..base import DEAD_AT_MOST, DEAD_FOR
from ..records import DeadRecord


class DeadSet(dict[str, DeadRecord]):
    """Dead jobs by their ids, the latest last; at most DEAD_AT_MOST, for DEAD_FOR seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, int] = {}
        """The number of each dead job. It grows also within a millisecond."""
        self._next_numbers = itertools.count(1)

    def add(self, dead: DeadRecord) -> None:
        if dead.job.id in self:
            self.remove(dead.job.id)
        self[dead.job.id] = dead
        self.numbers[dead.job.id] = next(self._next_numbers)
        self.forget_old(dead.died_at)

    def remove(self, job_id: str) -> DeadRecord:
        """Remove and return a dead job."""
        del self.numbers[job_id]
        return self.pop(job_id)

    def page(self, now: int, offset: int, limit: int) -> list[DeadRecord]:
        """Return ``limit`` dead jobs after ``offset`` others, the latest first."""
        self.forget_old(now)
        return list(itertools.islice(reversed(self.values()), offset, offset + limit))

    def behind(self, now: int, number: int, limit: int) -> list[DeadRecord]:
        """Return ``limit`` dead jobs before the one of a number, the latest first; 0: the latest of all."""
        self.forget_old(now)
        latest = reversed(self.values())
        if number:
            latest = itertools.dropwhile(lambda dead: self.numbers[dead.job.id] >= number, latest)
        return list(itertools.islice(latest, limit))

    def forget_old(self, now: int) -> None:
        oldest = now - DEAD_FOR * 1000
        while self:
            job_id, dead = next(iter(self.items()))
            if len(self) <= DEAD_AT_MOST and dead.died_at >= oldest:
                return
            self.remove(job_id)
