"""The clock of a broker in memory."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The clock of a MemoryBroker; the module ``time`` is one."""

    def time(self) -> float:
        """Return the seconds since 1970, by which jobs are due."""

    def monotonic(self) -> float:
        """Return the seconds by which leases end; workers compare them with ``time.monotonic()``."""
