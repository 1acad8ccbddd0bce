"""What one process knows of a queue that lies in Redis."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from ...outcome import Action
from ..records import Parking, Settlement, SweepResult
from . import schema
from .pending_exchange import ExchangeCall, PendingExchange

TASKS_AT_ONCE = 100
"""With how many tasks of parked jobs a sweep answers."""


class QueueSession:
    """Its keys, what was registered, and the calls that are not answered."""

    def __init__(self, keys: schema.Keys, session: str) -> None:
        self.keys: schema.Keys = keys
        self.session: str = session
        self.seq: int = 0
        self.ticks: int = 0
        self.epoch: int = 0
        """What the server said last: an earlier one tells that it has lost what was registered."""
        self.worker: str = "-"
        """The name of the worker that registers tasks."""
        self.limits: dict[str, tuple[int, int]] = {}
        """What was registered: how many jobs of each task may run, and since when that holds."""
        self.periodic: set[str] = set()
        self.pending: PendingExchange = PendingExchange(())
        self.is_forgotten: bool = False
        """The server has lost when periodic tasks are due."""
        self.is_unsure: bool = False
        """A registration was not answered: the server may have lost those before it."""
        self.has_earlier_due: bool = False
        """A wake-up said that something is due earlier than the last tick told; the next exchange says so."""
        self.is_nudged: bool = False
        """The wait that this queue is the first of is to end."""
        self.seen_last: str = ""
        """The last of so many tasks with parked jobs: the next sweep goes on after it."""
        self.look_closely_at: float = 0.0
        """When a sweep is to look for jobs that lie nowhere, by time.monotonic()."""
        self.has_orphans: bool = False
        """There may be some: the next tick finds them."""
        self.has_own: bool = False
        """An older release has parked jobs that this one can read."""

    def is_lost(self, epoch: int) -> bool:
        """Take the epoch that the server tells.

        If it is earlier than before, the server was emptied, or another master took over that had not heard
        of all: what was registered is to be registered again.
        """
        if epoch < self.epoch:  # guard: lost registration
            self.is_forgotten = bool(self.limits or self.periodic)
            return True
        self.epoch = epoch
        return False

    def register_arguments(self, limits: Mapping[str, int], periodic: Mapping[str, int]) -> list[Any]:
        """What the script gets that makes tasks known. A limit that was registered before says since when it
        holds, so that it does not undo what another program registered after it."""
        arguments: list[Any] = [self.epoch, self.worker, len(limits)]
        for task, limit in limits.items():
            known, since = self.limits.get(task, (limit, 0))
            arguments += (task, limit, since if known == limit else 0)
        for task, due in periodic.items():
            arguments += (task, due)
        return arguments

    def note_registered(self, limits: Mapping[str, int], now: int, epoch: int) -> None:
        """The server knows these limits."""
        for task, limit in limits.items():
            if self.limits.get(task, (None, 0))[0] != limit:
                self.limits[task] = limit, now
        self.epoch = epoch

    @property
    def registered(self) -> dict[str, int]:
        """How many jobs of each task may run, as this process has said."""
        return {task: limit for task, (limit, _) in self.limits.items()}

    def pending_exchange(self, settled: Sequence[Settlement]) -> PendingExchange:
        """The exchange that settles these, which goes on if its caller asks for it again."""
        if self.pending.settled is not settled:
            self.pending = PendingExchange(settled)
        return self.pending

    def next_call(self, want: int, lease: float, parking: Parking) -> ExchangeCall:
        """The next call of the pending exchange, or the last one again if it was not answered."""
        some, want = self.pending.next_part(want)
        call = self.pending.unanswered
        if call is None or call.want != want:
            self.seq += 1
            arguments = self.exchange_arguments(some, want, lease, parking)
            call = self.pending.unanswered = ExchangeCall(arguments, len(some), want, time.monotonic())
        return call

    def exchange_arguments(
        self, settled: Sequence[Settlement], want: int, lease: float, parking: Parking
    ) -> list[Any]:
        """What the script of an exchange gets: what is done in rows of one task, the rest one by one."""
        arguments = [
            self.session,
            self.seq,
            want,
            schema.milliseconds(lease),
            self.epoch,
            " ".join(parking.unknown),
            " ".join([*parking.wanted, schema.OWN_PARKED] if self.has_own else parking.wanted),
        ]
        for (task, is_only_done), alike in groupby(settled, _in_common):
            if is_only_done:
                leases = [settlement.lease.id for settlement in alike]
                arguments += (task, len(leases), *leases)
                continue
            for settlement in alike:
                word = "fail bare" if settlement.buries_bare else settlement.action.value
                arguments += (task, 0, settlement.lease.id, word)
                arguments += (schema.milliseconds(settlement.delay), settlement.detail)
                arguments += schema.encode_successor(settlement.successor)
        return arguments

    def swept(
        self, is_something_to_run: bool, due: int, epoch: bytes, flat: Sequence[bytes], is_amiss: int
    ) -> SweepResult:
        """What a sweep saw. If the server has lost what was registered, an exchange registers it again, and a
        tick finds out."""
        self.has_orphans = self.has_orphans or bool(is_amiss)
        is_lost = _moment_of(epoch) < self.epoch
        tasks = schema.decode_parked(flat)
        self.seen_last = list(tasks)[-1] if len(tasks) == TASKS_AT_ONCE else ""
        self.has_own = schema.OWN_PARKED in tasks
        parked = {task: jobs for task, jobs in tasks.items() if not task.startswith("/")}
        is_something = is_something_to_run or is_lost or self.has_own
        if is_lost or self.is_forgotten or self.has_orphans:
            return SweepResult(is_something, 0.0, parked)
        return SweepResult(is_something, None if due < 0 else due / 1000, parked)


def _in_common(settlement: Settlement) -> tuple[str, bool]:
    """The task of a settled job, and whether there is nothing else to tell."""
    return settlement.lease.job.task, settlement.action is Action.DONE and settlement.successor is None


def _moment_of(epoch: bytes) -> int:
    """0 if there is none, or other hands spoilt it."""
    return int(epoch) if epoch.isdigit() and len(epoch) < 15 else 0
