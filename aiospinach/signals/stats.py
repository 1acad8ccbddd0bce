"""Numbers about the sendings of a signal."""

from __future__ import annotations

import msgspec


class SignalStats(msgspec.Struct, frozen=True, kw_only=True):
    """How often a signal was sent since this process started, and how often its receivers failed.

    The numbers are those of all senders together.
    """

    sent: int
    """Sendings that had receivers; sendings while the signal was muted are not counted."""
    failed: int
    """Calls of receivers that raised an error."""
    timed_out: int
    """Calls of receivers that took longer than the time limit."""
    skipped: int
    """Calls that were left out, since 100 runs of the receiver ignored their cancellation."""
    slowest: str | None
    """The name of the receiver that took longest in one call; None if no receiver was called."""
    slowest_seconds: float
    """How long that call took. An async receiver shares the event loop, and its time includes its waits."""


class Counters:
    """Counts for the ``SignalStats`` of one signal. Slots make it cheap to count."""

    __slots__ = ("failed", "sent", "skipped", "slowest", "slowest_seconds", "timed_out")

    def __init__(self) -> None:
        self.sent: int = 0
        self.failed: int = 0
        self.timed_out: int = 0
        self.skipped: int = 0
        self.slowest: str | None = None
        self.slowest_seconds: float = 0.0

    def stats(self) -> SignalStats:
        """Return the numbers as they are now."""
        return SignalStats(
            sent=self.sent,
            failed=self.failed,
            timed_out=self.timed_out,
            skipped=self.skipped,
            slowest=self.slowest,
            slowest_seconds=self.slowest_seconds,
        )
