"""Ids of jobs in the order of moments, in memory."""

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
        """Add a job. Returns whether it is the next one."""
        self.dues[job_id] = due
        if len(self._heap) > 2 * len(self.dues) + 100:  # most entries were removed
            self._heap = [entry for entry in self._heap if self.dues.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (due, next(self._numbers), job_id))
        return self._heap[0][2] == job_id

    def remove(self, job_id: str) -> bool:
        """Remove a job. Returns whether it was there."""
        return self.dues.pop(job_id, None) is not None

    def take(self, now: int) -> list[str]:
        """Remove and return the jobs that are due, in order."""
        taken: list[str] = []
        while (due := self.next_due()) is not None and due <= now:
            taken.append(self.pop())
        return taken

    def pop(self) -> str:
        """Remove and return the next job; only after ``next_due`` has returned a moment."""
        job_id = heapq.heappop(self._heap)[2]
        del self.dues[job_id]
        return job_id

    def next_due(self) -> int | None:
        """Return the moment of the next job; None if there is none."""
        heap = self._heap
        while heap and self.dues.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)  # removed, or added again
        return heap[0][0] if heap else None

    def count_due(self, now: int) -> int:
        """Return how many jobs are due. It looks at those in the heap that are due, and their neighbours."""
        heap, places, found = self._heap, [0], set[str]()
        while places:
            place = places.pop()
            if place < len(heap) and heap[place][0] <= now:
                due, _, job_id = heap[place]
                if self.dues.get(job_id) == due:  # it was not removed
                    found.add(job_id)
                places += (2 * place + 1, 2 * place + 2)
        return len(found)
