"""Shares: turns of queues by their weights, instead of by their order."""

from __future__ import annotations

from collections.abc import Sequence

from .turns import Turns


class Shares(Turns):
    """Queues that may have jobs start them in proportion to their weights.

    An empty queue leaves its share to the others. Each queue has a clock that a job advances by 1 / weight;
    the queue whose clock is behind asks first. A queue that was empty begins at the time of the last job that
    started, so it saves up no turns. This is start-time fair queueing (Goyal, Vin and Cheng, 1996).
    """

    def __init__(self, weights: Sequence[int]) -> None:
        super().__init__()
        self._weights = weights
        self._clocks = [0.0] * len(weights)
        self._now = 0.0
        """The clock of its queue at the start of the last job; the greatest so far."""

    def join(self, place: int) -> None:
        self._clocks[place] = self._clock_of_an_empty(place)
        super().join(place)

    def may_ask(self, place: int) -> bool:
        first = self.first
        if first is None or place == first:
            return True
        return place not in self._places and self._clock_of_an_empty(place) <= self._clocks[first]

    def charge(self, place: int, jobs: int) -> None:
        if jobs > 0 and place not in self._places:
            self._clocks[place] = self._clock_of_an_empty(place)
        self._clocks[place] += jobs / self._weights[place]
        self._note_first()

    def serve(self, place: int, jobs: int) -> None:
        if jobs:
            self.charge(place, jobs)
            self._now = max(self._now, self._clocks[place] - 1 / self._weights[place])

    def places_before_which_to_wait(self) -> int | None:
        """Every empty queue is worth waiting for, if another one has jobs: it has a share."""
        return None if self._places else 0

    def _clock_of_an_empty(self, place: int) -> float:
        return max(self._clocks[place], self._now)

    def _find_first(self) -> int | None:
        return min(self._places, key=self._clocks.__getitem__, default=None)
