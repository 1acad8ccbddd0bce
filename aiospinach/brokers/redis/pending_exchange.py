"""An exchange whose calls are not all answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..records import Settlement


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
    """The settlements of an exchange, and the answers so far: one call may not settle them all.

    If a call was not answered, and the caller repeats the exchange with the same list, the exchange goes on
    with that call.
    """

    def __init__(self, settled: Sequence[Settlement]) -> None:
        self.settled: Sequence[Settlement] = settled
        self.fenced: list[str] = []
        self.cancelled: list[str] = []
        self.unanswered: ExchangeCall | None = None
        self._done = 0

    @property
    def left(self) -> Sequence[Settlement]:
        """The settlements that no call has settled."""
        return self.settled[self._done :] if self._done else self.settled

    def note_answer(self, call: ExchangeCall, fenced: Sequence[bytes], cancelled: Sequence[bytes]) -> bool:
        """Add the answer to a call. Returns whether all is settled."""
        self.unanswered = None
        self._done += call.settles
        self.fenced += [lease.decode() for lease in fenced]
        self.cancelled += [lease.decode() for lease in cancelled]
        return self._done == len(self.settled)
