"""Settlements of one queue, on their way to the broker."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Mapping, Sequence
from typing import Protocol

from ..brokers.records import ExchangeResult, Lease, Settlement
from ..outcome import RELEASED
from .bell import Bell
from .outage import Outage

UNKNOWN_AT_MOST = 50
"""How many unknown tasks a worker names."""


class SettleResult(enum.Enum):
    """What the broker did with a settlement."""

    APPLIED = enum.auto()
    FENCED = enum.auto()
    """The lease was gone, and nothing changed."""
    CANCELLED = enum.auto()
    """The job was to be put back, but was cancelled: it has ended instead."""


class Settler(Protocol):
    """Whose job is settled."""

    settle_result: SettleResult | None

    def on_settled(self, result: SettleResult) -> None:
        """Take the broker's answer."""


class Outbox:
    """Collects what becomes of the jobs of one queue until the next exchange takes it along."""

    def __init__(self, queue: str, fields: Mapping[str, str]) -> None:
        self.queue: str = queue
        self.outage: Outage = Outage(f"queue {queue}", {**fields, "queue": queue})
        self.bell: Bell = Bell()
        """Rung when there is something to send."""
        self.is_closed: bool = False
        """The broker is not going to answer any more."""
        self.unknown: dict[str, None] = {}  # a set that keeps its order
        """Tasks that this worker does not know: the broker is to park their jobs."""
        self._waiting: list[tuple[Settlement, Settler | None]] = []
        self._sent: list[tuple[Settlement, Settler | None]] = []
        """What the exchange under way settles."""

    @property
    def is_empty(self) -> bool:
        """Nothing waits to be sent."""
        return not self._waiting

    @property
    def has_unanswered(self) -> bool:
        """Some settlements are not answered."""
        return bool(self._sent or self._waiting)

    def settle(self, settlement: Settlement, settler: Settler | None) -> None:
        """Have the next exchange settle a job; ``settler`` hears the result."""
        if self.is_closed:
            if settler is not None:
                settler.on_settled(SettleResult.FENCED)
            return
        self._waiting.append((settlement, settler))
        self.bell.ring()

    def add_unknown(self, task: str) -> None:
        """A job of this task is parked: have the broker park all others, and lease none of them."""
        self.unknown[task] = None
        if len(self.unknown) > UNKNOWN_AT_MOST:
            del self.unknown[next(iter(self.unknown))]

    def release(self, lease: Lease) -> None:
        """Give back a job that has not begun."""
        self.settle(Settlement(lease, RELEASED.action), None)

    def take(self) -> list[Settlement]:
        """Everything that waits, for an exchange that begins now."""
        self._sent, self._waiting = self._waiting, []
        return [settlement for settlement, _ in self._sent]

    def on_answer(self, result: ExchangeResult) -> Sequence[Lease]:
        """Tell each settler what the broker did. Returns the leases of released jobs that were cancelled."""
        results = dict.fromkeys(result.cancelled, SettleResult.CANCELLED)
        results |= dict.fromkeys(result.fenced, SettleResult.FENCED)
        cancelled = []
        for settlement, settler in self._sent:
            settle_result = results.get(settlement.lease.id, SettleResult.APPLIED)
            if settler is not None:
                settler.on_settled(settle_result)
            elif settle_result is SettleResult.CANCELLED:
                cancelled.append(settlement.lease)
        self._sent = []
        return cancelled

    def close(self) -> None:
        """Give up: tell each settler that its lease is lost, also those of an exchange under way."""
        self.is_closed = True
        owed = [*self._sent, *self._waiting]
        self._sent, self._waiting = [], []
        for _, settler in owed:
            if settler is not None and settler.settle_result is None:
                with contextlib.suppress(Exception):  # such as a log handler's: the others are told as well
                    settler.on_settled(SettleResult.FENCED)
