"""Turns: which queue of a pool may ask for jobs next."""

from __future__ import annotations

from bisect import bisect_left, insort


class Turns:
    """The queues that may have jobs, by their place in the order of the pool: earlier ones come first.

    The properties, which are read for each job, take the same time for any number of queues.
    """

    def __init__(self) -> None:
        self._places: list[int] = []

    @property
    def first(self) -> int | None:
        """The place of the first queue that may have jobs; None if all are empty."""
        return self._places[0] if self._places else None

    @property
    def last(self) -> int | None:
        """The place of the last queue that may have jobs; None if all are empty."""
        return self._places[-1] if self._places else None

    def join(self, place: int) -> None:
        """Add the queue at this place: it was empty, and may have jobs."""
        insort(self._places, place)

    def leave(self, place: int) -> None:
        """Remove the queue at this place: it is empty."""
        del self._places[bisect_left(self._places, place)]
