"""An exchange whose calls are not all answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..records import Settlement

SETTLED_AT_ONCE = 1000
BYTES_AT_ONCE = 256 * 1024
"""Bytes of details, results and successors in one call, unless a single settlement has more."""


class ExchangeCall(NamedTuple):
    """One call of the script. A call without an answer may have arrived, so it is repeated unchanged."""

    arguments: list[Any]
    job_keys: Sequence[str]
    """The keys of single jobs: each settled job that keeps its result has one."""
    settles: int
    """How many jobs it settles."""
    want: int
    """How many jobs it asks for."""
    sent_at: float
    """When it was sent for the first time, by ``time.monotonic()``."""


class PendingExchange:
    """Settles in calls of a thousand settlements at most, and collects the answers.

    If a call was not answered, and the caller repeats the exchange with the same list, the exchange goes on
    with that call.
    """

    def __init__(self, settled: Sequence[Settlement]) -> None:
        self.settled: Sequence[Settlement] = settled
        self.fenced: list[str] = []
        self.cancelled: list[str] = []
        self.unanswered: ExchangeCall | None = None
        self._done = 0

    def next_part(self, want: int) -> tuple[Sequence[Settlement], int]:
        """Return the settlements of the next call, and how many jobs it asks for: 0 unless it is the last."""
        some = self.settled[self._done : self._done + SETTLED_AT_ONCE]
        size = 0
        for number, settlement in enumerate(some):
            size += len(settlement.detail) + len(settlement.result)
            if settlement.successor is not None:
                size += len(settlement.successor.body)
            if size > BYTES_AT_ONCE:
                some = some[: number + 1]
                break
        is_last = self._done + len(some) == len(self.settled)
        return some, want if is_last else 0

    def note_answer(self, call: ExchangeCall, fenced: Sequence[bytes], cancelled: Sequence[bytes]) -> bool:
        """Add the answer to a call. Returns whether all is settled."""
        self.unanswered = None
        self._done += call.settles
        self.fenced += [lease.decode() for lease in fenced]
        self.cancelled += [lease.decode() for lease in cancelled]
        return self._done == len(self.settled)
