"""Decides until when nothing of a queue in memory counts as lost."""

from __future__ import annotations

import math


class RescuePause:
    """If no worker looked at a queue for a quarter of a lease, live workers may only have been blocked. So
    they get a quarter of a lease to renew their leases and to settle jobs that have ended. Another silence
    prolongs this pause, and does not begin it anew: each look uses up a part of it, so that lost jobs are
    found."""

    def __init__(self) -> None:
        self._looked_at = math.inf
        self._left = 0.0

    def until(self, now: float, length: float) -> float:
        """Note a look at the queue. Returns the end of the pause, or ``now`` if there is none."""
        passed = max(0.0, now - self._looked_at)
        if self._left:  # guard: end of the rescue pause in memory
            self._left = max(0.0, self._left - min(passed, length / 12))
        elif passed > length / 4:
            self._left = length / 4
        self._looked_at = now
        return now + self._left
