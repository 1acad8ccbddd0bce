"""Workers that a test loses: what they had leased stays leased, and its outcome is not recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from ..brokers.records import Envelope, Lease, Settlement
from ..outcome import Action

LossPoint = Literal["before_body", "before_settle"]
"""Before the body of the job begins, or after it has ended and before its outcome is stored."""


class Loss(msgspec.Struct, frozen=True):
    """The loss of the worker of one job to come."""

    at: LossPoint
    task: str | None = None
    job_id: str | None = None
    only_done: bool = False
    """The worker is lost only if the body succeeds."""

    def is_of(self, job: Envelope, at: LossPoint) -> bool:
        """The worker of this job is lost at this point."""
        return self.at == at and self.task in (None, job.task) and self.job_id in (None, job.id)


class LostWorkers:
    """Losses to come, and the leases of workers that were lost."""

    def __init__(self) -> None:
        self._losses: list[Loss] = []
        self.leases: set[str] = set()
        """Leases that nobody renews or settles."""

    def add(self, loss: Loss) -> None:
        """Lose the worker of the next job that fits."""
        self._losses.append(loss)

    def take_settlements(self, settled: Sequence[Settlement]) -> tuple[list[Settlement], list[str]]:
        """Return the settlements that arrive, and the leases of those that do not."""
        arrived: list[Settlement] = []
        lost: list[str] = []
        for settlement in settled:
            if self._is_lost_after(settlement):
                lost.append(settlement.lease.id)
            else:
                arrived.append(settlement)
        self.leases.update(lost)
        return arrived, lost

    def take_leases(self, leases: Sequence[Lease]) -> list[Lease]:
        """Return the leases whose worker is not lost."""
        kept = [lease for lease in leases if self._find(lease.job, "before_body") is None]
        self.leases.update({lease.id for lease in leases} - {lease.id for lease in kept})
        return kept

    def _is_lost_after(self, settlement: Settlement) -> bool:
        loss = self._find(settlement.lease.job, "before_settle")
        return loss is not None and (settlement.action is Action.DONE or not loss.only_done)

    def _find(self, job: Envelope, at: LossPoint) -> Loss | None:
        """Remove and return the first loss that fits; None if there is none."""
        for loss in self._losses:
            if loss.is_of(job, at):
                self._losses.remove(loss)
                return loss
        return None
