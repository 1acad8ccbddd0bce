"""Turns: which queue of a pool may ask for jobs next."""

from __future__ import annotations

from bisect import bisect_left, insort


class Turns:
    """The queues that may have jobs, by their place in the order of the pool: earlier ones come first.

    ``first`` and ``last`` are read for each job.
    """

    def __init__(self) -> None:
        self._places: list[int] = []
        self.first: int | None = None
        """The place of the first queue that may have jobs; None if all are empty."""
        self.last: int | None = None
        """The place of the last queue that may have jobs; None if all are empty."""

    def join(self, place: int) -> None:
        """Add the queue at this place: it was empty, and may have jobs."""
        insort(self._places, place)
        self._note_ends()

    def leave(self, place: int) -> None:
        """Remove the queue at this place: it is empty."""
        del self._places[bisect_left(self._places, place)]
        self._note_ends()

    def _note_ends(self) -> None:
        self.first, self.last = (self._places[0], self._places[-1]) if self._places else (None, None)
