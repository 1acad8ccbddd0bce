"""Turns: which queue of a pool may ask for jobs next."""

from __future__ import annotations

from bisect import bisect_left, insort


class Turns:
    """The queues that may have jobs, by their place in the order of the pool: earlier ones come first.

    ``first`` is read for each job.
    """

    def __init__(self) -> None:
        self._places: list[int] = []
        self.first: int | None = None
        """The place of the queue that may ask first; None if all are empty."""

    def join(self, place: int) -> None:
        """Add the queue at this place: it was empty, and may have jobs."""
        insort(self._places, place)
        self._note_first()

    def leave(self, place: int) -> None:
        """Remove the queue at this place: it is empty."""
        del self._places[bisect_left(self._places, place)]
        self._note_first()

    def may_ask(self, place: int) -> bool:
        """The queue at this place, which may be an empty one, need not wait for another one."""
        return self.first is None or place <= self.first

    def charge(self, place: int, jobs: int) -> None:
        """Count jobs that the queue at this place asks for; a negative number once it is answered."""

    def serve(self, place: int, jobs: int) -> None:
        """Count jobs that the queue at this place has started."""

    def places_before_which_to_wait(self) -> int | None:
        """While no slot is free: empty queues before this place are worth waiting for; None if all are.

        Only those before the last queue that may have jobs are: their jobs would come first.
        """
        return self._places[-1] if self._places else 0

    def _note_first(self) -> None:
        self.first = self._find_first()

    def _find_first(self) -> int | None:
        return self._places[0] if self._places else None
