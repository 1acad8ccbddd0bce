"""Until when nothing counts as lost."""

from __future__ import annotations

import math


class RescuePause:
    """After a time in which nobody looked at a queue, a worker may only have stood still: it has a quarter of
    a lease to renew its leases and to settle what has ended. Another silence prolongs that, and does not
    begin it anew: each look uses up some of it, so that lost jobs are found in the end."""

    def __init__(self) -> None:
        self._looked_at = math.inf
        self._left = 0.0

    def until(self, now: float, length: float) -> float:
        """Look at the queue, whose leases are so long, and tell until when jobs are not rescued."""
        passed = max(0.0, now - self._looked_at)
        if self._left:  # guard: end of the rescue pause in memory
            self._left = max(0.0, self._left - min(passed, length / 12))
        elif passed > length / 4:
            self._left = length / 4
        self._looked_at = now
        return now + self._left
