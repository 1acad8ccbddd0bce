"""The state that an event loop keeps of a queue in Redis."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..records import Parking, Settlement, SweepResult
from . import schema
from .events import rows_of, settled_lines
from .pending_exchange import ExchangeCall, PendingExchange
from .settlements import SettlementArguments, encode_settlements

TASKS_AT_ONCE = 100
"""How many tasks with parked jobs a sweep returns at most."""


class QueueSession:
    """The keys of a queue, what was registered, and the calls without an answer."""

    def __init__(self, keys: schema.Keys, session: str) -> None:
        self.keys: schema.Keys = keys
        self.session: str = session
        self.seq: int = 0
        """The number of the last exchange: when it was first sent, or one more than the number before."""
        self.ticks: int = 0
        self.epoch: int = 0
        """The server's epoch, as last seen. If the server has an earlier one, it has lost registrations."""
        self.worker: str = "-"
        """The name of the worker that registers tasks."""
        self.limits: dict[str, tuple[int, int]] = {}
        """The registered limit of each task, and since when it holds."""
        self.periodic: set[str] = set()
        self._pending: PendingExchange | None = None
        self.has_lost_dues: bool = False
        """The server has lost the dues of periodic tasks."""
        self.is_uncertain: bool = False
        """A registration has no answer: the server may have lost the earlier ones."""
        self.has_earlier_due: bool = False
        """A wake-up reported an earlier due than the last tick. The next exchange passes this on."""
        self.is_nudged: bool = False
        """The wait that names this queue first has to end."""
        self.last_parked_task: str = ""
        """The last task of a full page of tasks with parked jobs: the next sweep goes on after it."""
        self.next_orphan_check: float = 0.0
        """When a sweep looks for signs of orphans, by time.monotonic()."""
        self.has_orphans: bool = False
        """The queue may have orphans: the next tick finds them."""
        self.reported: set[str] = set()
        """Leases whose jobs have told how far they have come."""
        self.has_own_parked: bool = False
        """Another release has parked jobs that this one can read."""

    def is_lost(self, epoch: int) -> bool:
        """Note the server's epoch. Returns whether the server has lost registrations.

        Registrations are lost if the epoch is earlier than before: the server was emptied, or a replica that
        lacked the last changes became the master. Then the caller registers again.
        """
        if epoch < self.epoch:  # guard: lost registration
            self.has_lost_dues = bool(self.limits or self.periodic)
            return True
        self.epoch = epoch
        return False

    def register_arguments(self, limits: Mapping[str, int], periodic: Mapping[str, int]) -> list[Any]:
        """Return the arguments of the script ``register``. A limit that is registered again carries the
        moment of its first registration, so that it does not undo a later limit of another program."""
        arguments: list[Any] = [self.epoch, self.worker, len(limits)]
        for task, limit in limits.items():
            known, since = self.limits.get(task, (limit, 0))
            arguments += (task, limit, since if known == limit else 0)
        for task, due in periodic.items():
            arguments += (task, due)
        return arguments

    def note_registered(self, limits: Mapping[str, int], now: int, epoch: int) -> None:
        """Note that the server has registered these limits."""
        for task, limit in limits.items():
            if self.limits.get(task, (None, 0))[0] != limit:
                self.limits[task] = limit, now
        self.epoch = epoch

    @property
    def registered(self) -> dict[str, int]:
        """The limits that this event loop has registered."""
        return {task: limit for task, (limit, _) in self.limits.items()}

    def pending_exchange(self, settled: Sequence[Settlement]) -> PendingExchange:
        """Return the exchange that settles this list. If the pending exchange has the same list, it goes
        on."""
        if self._pending is None or self._pending.settled is not settled:
            self._pending = PendingExchange(settled)
        return self._pending

    def end_exchange(self) -> None:
        """Forget the pending exchange: all its calls are answered."""
        self._pending = None

    def next_call(
        self,
        pending: PendingExchange,
        want: int,
        lease: float,
        parking: Parking,
        now: int,
        event_rows: int,
    ) -> ExchangeCall:
        """Return the next call of an exchange, or the last one again if it has no answer.

        Only the last call asks for jobs.
        """
        left = pending.left
        part = encode_settlements(left, self.keys)
        count = len(part.settled)
        if count < len(left):
            want = 0
        call = pending.unanswered
        if call is None or call.want != want:
            self.seq = max(self.seq + 1, now)  # so that a lease tells when it was made
            arguments = self.exchange_arguments(part, want, lease, parking, event_rows)
            call = pending.unanswered = ExchangeCall(arguments, part.job_keys, count, want, time.monotonic())
        return call

    def exchange_arguments(
        self, part: SettlementArguments, want: int, lease: float, parking: Parking, event_rows: int
    ) -> list[Any]:
        """Return the arguments of the script ``exchange``."""
        wanted = [*parking.wanted, schema.OWN_PARKED] if self.has_own_parked else parking.wanted
        head = [self.session, self.seq, want, schema.milliseconds(lease), self.epoch]
        if not (event_rows or self.reported or parking.unknown or wanted):
            return [*head, 0, *part.arguments]
        events = rows_of(self.worker, settled_lines(part.settled)) if event_rows else ()
        reported = self._take_reported(part.settled) if self.reported else ()
        options = [" ".join(parking.unknown), " ".join(wanted), " ".join(reported), event_rows, self.worker]
        return [*head, 1, *options, len(events), *events, *part.arguments]

    def _take_reported(self, settled: Sequence[Settlement]) -> set[str]:
        """Return the settled leases that have progress in the store. The exchange removes it."""
        leases = self.reported.intersection([settlement.lease.id for settlement in settled])
        self.reported -= leases
        return leases

    def sweep_result(
        self, is_something_to_run: bool, due: int, epoch: bytes, flat: Sequence[bytes], has_orphans: int
    ) -> SweepResult:
        """Return the result of a sweep for this queue. If the server has lost registrations, the caller makes
        an exchange, which registers limits again, and a tick, which reports the loss of dues."""
        self.has_orphans = self.has_orphans or bool(has_orphans)
        is_lost = _moment_of(epoch) < self.epoch
        tasks = schema.decode_parked(flat)
        self.last_parked_task = list(tasks)[-1] if len(tasks) == TASKS_AT_ONCE else ""
        self.has_own_parked = schema.OWN_PARKED in tasks
        parked = {task: jobs for task, jobs in tasks.items() if not task.startswith("/")}
        is_something = is_something_to_run or is_lost or self.has_own_parked
        if is_lost or self.has_lost_dues or self.has_orphans:
            return SweepResult(is_something, 0.0, parked)
        return SweepResult(is_something, None if due < 0 else due / 1000, parked)


def _moment_of(epoch: bytes) -> int:
    """Return the moment of an epoch; 0 if it is missing or malformed."""
    return int(epoch) if epoch.isdigit() and len(epoch) < 15 else 0
