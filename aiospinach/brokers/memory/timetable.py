"""Jobs in the order of moments, in memory."""

from __future__ import annotations

import heapq
import itertools


class Timetable:
    """Ids of jobs and their moments: when they are due, or since when they are parked."""

    def __init__(self) -> None:
        self.dues: dict[str, int] = {}
        self._heap: list[tuple[int, int, str]] = []  # an entry counts if ``dues`` agrees
        self._numbers = itertools.count()

    def add(self, job_id: str, due: int) -> bool:
        """Returns whether it is the next that is due."""
        self.dues[job_id] = due
        if len(self._heap) > 2 * len(self.dues) + 100:  # most of it was removed
            self._heap = [entry for entry in self._heap if self.dues.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (due, next(self._numbers), job_id))
        return self._heap[0][2] == job_id

    def remove(self, job_id: str) -> bool:
        """Returns whether it was there."""
        return self.dues.pop(job_id, None) is not None

    def take(self, now: int) -> list[str]:
        """Remove what is due, in order."""
        taken: list[str] = []
        while (due := self.next_due()) is not None and due <= now:
            taken.append(self.pop())
        return taken

    def pop(self) -> str:
        """Remove the next, of which ``next_due`` has told."""
        job_id = heapq.heappop(self._heap)[2]
        del self.dues[job_id]
        return job_id

    def next_due(self) -> int | None:
        """When the next is due."""
        heap = self._heap
        while heap and self.dues.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)  # removed, or added again
        return heap[0][0] if heap else None
