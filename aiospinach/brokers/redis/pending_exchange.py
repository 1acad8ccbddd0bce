"""An exchange until all of it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..records import Settlement

SETTLED_AT_ONCE = 1000
BYTES_AT_ONCE = 256 * 1024
"""Bytes of details and successors in one call, about: one settlement may have more."""


class ExchangeCall(NamedTuple):
    """One call of the script. Without an answer it may have arrived, and is repeated as it is."""

    arguments: list[Any]
    settles: int
    """How many jobs it settles."""
    want: int
    """How many jobs it asks for."""
    sent_at: float
    """When it was sent for the first time, by ``time.monotonic()``."""


class PendingExchange:
    """What a caller settles, in calls of a thousand at most, and what the server has answered so far.

    If the last call was not answered and the caller asks for the same list again, it goes on where it was.
    """

    def __init__(self, settled: Sequence[Settlement]) -> None:
        self.settled: Sequence[Settlement] = settled
        self.fenced: list[str] = []
        self.cancelled: list[str] = []
        self.unanswered: ExchangeCall | None = None
        self._done = 0

    def next_part(self, want: int) -> tuple[Sequence[Settlement], int]:
        """What the next call settles, and how many jobs it asks for: none unless it is the last."""
        some = self.settled[self._done : self._done + SETTLED_AT_ONCE]
        size = 0
        for number, settlement in enumerate(some):
            size += len(settlement.detail)
            if settlement.successor is not None:
                size += len(settlement.successor.body)
            if size > BYTES_AT_ONCE:
                some = some[: number + 1]
                break
        is_last = self._done + len(some) == len(self.settled)
        return some, want if is_last else 0

    def note_answer(self, call: ExchangeCall, fenced: Sequence[bytes], cancelled: Sequence[bytes]) -> bool:
        """Take the answer to a call. True if all is settled."""
        self.unanswered = None
        self._done += call.settles
        self.fenced += [lease.decode() for lease in fenced]
        self.cancelled += [lease.decode() for lease in cancelled]
        return self._done == len(self.settled)
