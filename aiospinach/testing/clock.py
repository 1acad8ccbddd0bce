"""The clock of a test: it runs as time does, and jumps where the test moves it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from ..timing import from_milliseconds

Travel = Callable[[datetime], object]
"""Sets the clock of the whole process, such as ``move_to`` of time-machine."""

PAST_THE_MOMENT = timedelta(microseconds=500)
"""The clock stands so far behind a moment in milliseconds, which is then over however floats are rounded."""


class MovableClock:
    """``time.time()`` plus what the test has moved it.

    It runs, since code under test adds its delays to ``datetime.now()``. The clock of leases is another:
    workers compare it with ``time.monotonic()``, which no test moves.
    """

    def __init__(self, travel: Travel | None = None) -> None:
        self._travel = travel
        self._offset = 0.0
        self._lease_offset = 0.0

    def time(self) -> float:
        """Return the seconds since 1970, by which jobs are due."""
        return time.time() + self._offset

    def monotonic(self) -> float:
        """Return the seconds by which leases end."""
        return time.monotonic() + self._lease_offset

    def set(self, moment: int) -> None:
        """Stand at this moment, in milliseconds since 1970. Leases keep their time."""
        at = from_milliseconds(moment) + PAST_THE_MOMENT
        if self._travel is not None:
            self._travel(at)
        self._offset = at.timestamp() - time.time()

    def move_to(self, moment: int) -> None:
        """Jump forward to this moment, in milliseconds since 1970. Leases grow older by as much."""
        before = self.time()
        if moment / 1000 > before:
            self.set(moment)
            self.age_leases(self.time() - before)

    def age_leases(self, seconds: float) -> None:
        """Have leases grow older by so many seconds, and nothing else."""
        self._lease_offset += seconds
