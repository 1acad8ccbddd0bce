"""The outbox of one queue: holds settlements until the broker has answered them."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Mapping, Sequence
from typing import Protocol

from ..brokers.records import ExchangeResult, Lease, Settlement
from ..outcome import RELEASED
from .bell import Bell
from .outage import Outage
from .tally import Tally

NO_RUN = -1.0
"""The duration of a settlement of a job that no run here has ended."""
UNKNOWN_AT_MOST = 50
"""The number of unknown tasks that a worker names to the broker, at most."""


class SettleResult(enum.Enum):
    """What the broker did with a settlement."""

    APPLIED = enum.auto()
    FENCED = enum.auto()
    """The lease was gone, and nothing changed."""
    CANCELLED = enum.auto()
    """The job was to be put back, but was cancelled: it has ended instead."""


APPLIED, FENCED = SettleResult.APPLIED, SettleResult.FENCED
"""As in the class, which Python 3.11 reads them from ten times as slowly. They are read for each job."""


class Settler(Protocol):
    """The run whose job is settled."""

    settle_result: SettleResult | None

    def on_settled(self, result: SettleResult) -> None:
        """Take the broker's answer."""


class Outbox:
    """Collects the settlements of one queue for the next exchange."""

    def __init__(self, queue: str, fields: Mapping[str, str], tally: Tally) -> None:
        self.queue: str = queue
        self.tally: Tally = tally
        self.outage: Outage = Outage(f"queue {queue}", {**fields, "queue": queue})
        self.bell: Bell = Bell()
        """Rung when there is something to send."""
        self.is_closed: bool = False
        """The broker is not going to answer any more."""
        self.unknown: dict[str, None] = {}  # a set that keeps its order
        """Tasks that this worker does not know: the broker parks their jobs."""
        self._waiting: list[tuple[Settlement, Settler | None]] = []
        self._sent: list[tuple[Settlement, Settler | None]] = []
        """Settlements of the exchange under way."""

    @property
    def is_empty(self) -> bool:
        """No settlement waits to be sent."""
        return not self._waiting

    @property
    def has_unanswered(self) -> bool:
        """The broker has not answered all settlements."""
        return bool(self._sent or self._waiting)

    def settle(self, settlement: Settlement, settler: Settler | None) -> None:
        """Have the next exchange settle a job; ``settler`` gets the result."""
        if self.is_closed:
            if settler is not None:
                settler.on_settled(SettleResult.FENCED)
            return
        self._waiting.append((settlement, settler))
        self.bell.ring()

    def add_unknown(self, task: str) -> None:
        """Have the broker park all jobs of this task, and lease none of them to this worker."""
        self.unknown[task] = None
        if len(self.unknown) > UNKNOWN_AT_MOST:
            del self.unknown[next(iter(self.unknown))]

    def release(self, lease: Lease) -> None:
        """Return a job that has not begun to its queue."""
        self.settle(Settlement(lease, RELEASED.action, duration=NO_RUN), None)

    def take(self) -> list[Settlement]:
        """All settlements that wait, for an exchange that begins now."""
        self._sent, self._waiting = self._waiting, []
        return [settlement for settlement, _ in self._sent]

    def on_answer(self, result: ExchangeResult) -> Sequence[Lease]:
        """Pass each settler the result. Returns the leases of released jobs that had been cancelled."""
        if not self._sent:
            return ()
        results = dict.fromkeys(result.cancelled, SettleResult.CANCELLED)
        results |= dict.fromkeys(result.fenced, SettleResult.FENCED)
        self.tally.add(self._sent, results)
        cancelled, settle_result = [], APPLIED
        for settlement, settler in self._sent:
            if results:
                settle_result = results.get(settlement.lease.id, APPLIED)
            if settler is not None:
                settler.on_settled(settle_result)
            elif settle_result is SettleResult.CANCELLED:
                cancelled.append(settlement.lease)
        self._sent = []
        return cancelled

    def close(self) -> None:
        """Give up: every settlement counts as fenced, also those of an exchange under way."""
        self.is_closed = True
        owed = [*self._sent, *self._waiting]
        self._sent, self._waiting = [], []
        for _, settler in owed:
            if settler is not None and settler.settle_result is None:
                with contextlib.suppress(Exception):  # the other settlers get their result all the same
                    settler.on_settled(SettleResult.FENCED)
