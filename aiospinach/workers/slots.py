"""How many jobs a pool runs, and how many more it may ask for."""

from __future__ import annotations


class Slots:
    """Counts, and nothing else. A job is *running* from its lease to the end of its body, and
    *finishing* from there to its last signal; *claimed* slots are asked for in an exchange under way."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.running: int = 0
        self.finishing: int = 0
        self.claimed: int = 0

    @property
    def free(self) -> int:
        """How many jobs may be asked for now: bodies never exceed ``number``, and jobs twice that, so
        that slow receivers slow the jobs down."""
        used = self.running + self.claimed
        return max(0, min(self.number - used, 2 * self.number - used - self.finishing))

    def claim(self, most: int | None = None) -> int:
        """Claim all free slots for an exchange, or ``most`` of them; ``unclaim`` them when it has ended."""
        free = self.free if most is None else min(self.free, most)
        self.claimed += free
        return free

    def unclaim(self, count: int) -> None:
        """An exchange that claimed so many has ended."""
        self.claimed -= count

    def start(self) -> None:
        """A job was leased."""
        self.running += 1

    def end_body(self) -> None:
        """The body of a job has ended."""
        self.running -= 1
        self.finishing += 1

    def finish(self) -> bool:
        """A job has sent its last signal. Tells whether that made a slot free: whether so many were
        finishing that they held slots."""
        self.finishing -= 1
        return self.finishing >= self.number
