"""The state of one queue in memory, and all transitions of its jobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

import msgspec

from ...outcome import RELEASED, SUCCESS, Action
from ..pauses import StoredPause
from ..records import DeadRecord, Envelope, Fired, Firing, Lease, ParkedTask, Parking, Settlement, SweepResult
from .dead_set import DeadSet
from .events import EventLog
from .leases import Leases, origin_of
from .live_workers import LiveWorkers
from .pauses import Pauses
from .recent import Recent
from .rescue_pause import RescuePause
from .results import Ends
from .timetable import Timetable

EXPIRED_AT_ONCE = 100
DONE, RELEASE = (
    SUCCESS.action,
    RELEASED.action,
)  # Python 3.11 reads them from Action ten times as slowly


class QueueState:
    """The jobs of one queue. Each live job is in ``jobs``, and in exactly one of ``ready``, ``lanes``,
    ``parked``, ``waiting`` and ``leases``."""

    def __init__(self, events: int) -> None:
        self.jobs: dict[str, Envelope] = {}
        self.ready: deque[str] = deque()
        self.lanes: dict[str, deque[str]] = {}
        """Jobs of tasks that have reached their limit. Here they block no others."""
        self.parked: dict[str, Timetable] = {}
        """For each task that a worker did not know, its jobs, and since when they are parked."""
        self.waiting: Timetable = Timetable()
        self.gone: set[str] = set()
        """Ids of cancelled jobs that still are in ``ready`` or a lane."""
        self.moved: set[str] = set()
        """Ids of jobs that took over such a place, and are due later."""
        self.leases: Leases = Leases()
        self.pauses: Pauses = Pauses()
        self.periodic: dict[str, int] = {}
        self.ticks: dict[str, str] = {}
        """The id of the last tick's job, by periodic task."""
        self.known: set[str] = set()
        """Periodic tasks of the engine that has the broker now. Tasks of an earlier engine are not fired."""
        self.dead: DeadSet = DeadSet()
        self.named: Recent[bool] = Recent()
        self.answers: Recent[tuple[bool, ...]] = Recent()
        self.has_earlier_due: bool = False
        """Something is due earlier than workers know: one worker is to be woken."""
        self.earlier_due_pending: bool = False
        """A wake-up was sent for that. The next exchange reports it."""
        self.workers: LiveWorkers = LiveWorkers()
        self.owners: dict[str, str] = {}
        """The name of the worker that registered a task last."""
        self.rescue_pause: RescuePause = RescuePause()
        self.ends: Ends = Ends()
        self.events: EventLog = EventLog(events)
        self.names: dict[str, str] = {}
        """The name of the worker of an event loop, by its session."""

    @property
    def is_used(self) -> bool:
        """It has jobs, or tasks were registered."""
        return bool(self.jobs or self.dead or self.owners)

    def add(self, job: Envelope, now: int) -> bool:
        """Store a job. Returns False if it is a duplicate."""
        if job.id in self.jobs:  # guard: live id
            return False
        if job.named:
            if self.named.get(job.id, now):  # guard: remembered id
                return False
            self.named.put(job.id, True, now)
        self.jobs[job.id] = job
        is_due = job.at_once or job.at <= now
        if job.id in self.gone:  # guard: place of a cancelled job in memory
            self.gone.discard(job.id)
            if not is_due:
                self.moved.add(job.id)
        elif is_due:
            self.ready.append(job.id)
        elif self.waiting.add(job.id, job.at):
            self.has_earlier_due = True
        return True

    def take(
        self, want: int, now: int, expiry: float, margin: float, parking: Parking, session: str
    ) -> list[Lease]:
        leases: list[Lease] = []
        origin = origin_of(session, now)
        may_run = self.may_run if self.pauses else self.leases.may_run
        if self.pauses.has_queue:  # guard: paused queue in memory
            return leases

        def take_from(line: deque[str], task: str = "") -> None:
            while len(leases) < want and (not task or may_run(task)) and (job := self._pop(line, now)):
                if job.task in parking.unknown:  # guard: unknown task in memory
                    self._park(job, now)
                elif not may_run(job.task):  # guard: task limit
                    self.lanes.setdefault(job.task, deque()).append(job.id)
                else:
                    leases.append(self.leases.add(job, expiry, margin, origin))

        for task in parking.wanted:
            while len(leases) < want and may_run(task) and self._parked_since(task) is not None:
                job = self.jobs[self.parked[task].pop()]
                leases.append(self.leases.add(job, expiry, margin, origin))
        for task in list(self.lanes):
            take_from(self.lanes[task], task)
            if not self.lanes[task]:
                del self.lanes[task]
        take_from(self.ready)
        return leases

    def _pop(self, line: deque[str], now: int) -> Envelope | None:
        """Remove and return the first job of a line. Ids of cancelled and later jobs leave the line."""
        jobs = self.jobs
        while line:
            job = jobs.get(job_id := line.popleft())
            if job is None:
                self.gone.discard(job_id)
            elif job_id not in self.moved:
                return job
            else:
                self.moved.discard(job_id)
                if job.at <= now:
                    return job
                self.has_earlier_due = self.waiting.add(job.id, job.at) or self.has_earlier_due
        return None

    def settle(self, settled: Sequence[Settlement], now: int) -> tuple[list[str], list[str]]:
        """Settle leases. Returns the fenced ones, and those whose job was cancelled instead of put back."""
        fenced: list[str] = []
        cancelled: list[str] = []
        released: list[Envelope] = []
        for settlement in settled:
            is_unwanted = settlement.lease.id in self.leases.cancels
            job = self.leases.end(settlement.lease.id)
            if job is not None and settlement.pause is not None:
                self._pause_for(job, settlement, now)
            if job is None:  # guard: fence in memory
                fenced.append(settlement.lease.id)
            elif is_unwanted and settlement.action.puts_back:  # guard: cancelled while it ran
                del self.jobs[job.id]
                cancelled.append(settlement.lease.id)
                self.ends.note(job, Action.CANCELLED, b"", now)
            elif settlement.action is RELEASE:
                released.append(job)
            elif settlement.pause is not None and settlement.action is Action.RETRY:
                # It keeps its turn: it is the first job of its task when the pause ends.
                released.append(_for_retry(job, now, settlement))
                self.jobs[job.id] = released[-1]
                self.lanes.setdefault(job.task, deque())
            else:
                self._settle(job, settlement, now)
                if job.result_ttl:
                    self.ends.note(job, settlement.action, settlement.result, now)
                if settlement.successor is not None and not is_unwanted:  # guard: successor in memory
                    self.add(settlement.successor, now)
            if job is not None and self.events.most:
                self._note_settled(job, settlement, now, is_unwanted=is_unwanted)
        for job in reversed(released):  # so that the first is at the front again
            self.lanes.get(job.task, self.ready).appendleft(job.id)
        return fenced, cancelled

    def _note_settled(self, job: Envelope, settlement: Settlement, now: int, *, is_unwanted: bool) -> None:
        """Note the events of a settlement that has counted."""
        is_unwanted = is_unwanted and settlement.action.puts_back
        self.events.note_settled(settlement, now, is_unwanted=is_unwanted)
        if settlement.successor is not None and self.jobs.get(job.id) is settlement.successor:
            self.events.note_scheduled([settlement.successor], now)

    def _settle(self, job: Envelope, settlement: Settlement, now: int) -> None:
        action = settlement.action
        if action is DONE or action is Action.CANCELLED:
            del self.jobs[job.id]
        elif action is Action.FAIL:
            del self.jobs[job.id]
            dead = msgspec.structs.replace(job, body=b"") if settlement.drops_arguments else job
            self.dead.add(DeadRecord(dead, now, settlement.detail, settlement.drops_arguments))
        elif action is Action.PARK:
            self._park(job, now)
        else:
            due = now + int(settlement.delay * 1000)
            job = self.jobs[job.id] = _for_retry(job, due, settlement)
            if due <= now:
                self.ready.append(job.id)
            else:
                self.has_earlier_due = self.waiting.add(job.id, due) or self.has_earlier_due

    def _pause_for(self, job: Envelope, settlement: Settlement, now: int) -> None:
        """Pause the task of a job that asks for it."""
        by, _, reason = (settlement.pause or "").partition(" ")
        self.pauses.prolong(StoredPause(job.task, now, now + int(settlement.delay * 1000), by, reason))
        self.has_earlier_due = True

    def _park(self, job: Envelope, now: int) -> None:
        """Let the job wait for a worker that knows its task."""
        job = self.jobs[job.id] = msgspec.structs.replace(job, parked_at=job.parked_at or now)
        self.parked.setdefault(job.task, Timetable()).add(job.id, job.parked_at)

    def _parked_since(self, task: str) -> int | None:
        """Return since when the first parked job of the task is parked; None if there is none."""
        parked = self.parked.get(task)
        since = parked.next_due() if parked is not None else None
        if parked is not None and since is None:
            del self.parked[task]
        return since

    def promote(self, now: int) -> None:
        self.ready.extend(self.waiting.take(now))
        self.pauses.end(now)
        self.ends.forget_old(now)

    def take_expired(
        self, now: float, grace: float, length: float, margin: float
    ) -> tuple[list[Lease], bool]:
        """Lease lost jobs anew, to be judged. Returns the leases, and whether more jobs are lost."""
        if now < self.rescue_pause.until(now, length):  # guard: rescue pause in memory
            return [], False
        # A renewed lease keeps its place in the dict, so all leases are checked; each slot has one at most.
        ended = [lease for lease, expiry in self.leases.expiry.items() if expiry + grace <= now]
        expired: list[Lease] = []
        for lease in ended[:EXPIRED_AT_ONCE]:
            is_unwanted = lease in self.leases.cancels
            was_judged = lease in self.leases.judged
            job = self.leases.end(lease)
            if job is not None:
                if not was_judged:  # guard: crash of a worker in memory
                    job = msgspec.structs.replace(job, crashes=job.crashes + 1)
                    self.jobs[job.id] = job
                expired.append(self.leases.add(job, now + length, margin))
                self.leases.judged.add(expired[-1].id)
                if is_unwanted:  # guard: cancelled before it was lost
                    self.leases.cancels.add(expired[-1].id)
        return expired, len(ended) > EXPIRED_AT_ONCE

    def fire(self, firing: Firing, now: int) -> Fired:
        if self.periodic.get(firing.task) != firing.due:  # guard: tick fired before
            return Fired.TAKEN
        self.periodic[firing.task] = firing.next_due
        if firing.job is not None:
            if self.pauses.hold(firing.task):  # guard: paused tick in memory
                return Fired.PAUSED
            lives = self.ticks.get(firing.task) in self.jobs
            if lives and not firing.may_overlap:  # guard: tick before in memory
                return Fired.OVERLAPPING
            self.ticks[firing.task] = firing.job.id
            if self.add(firing.job, now) and self.events.most:
                self.events.note_scheduled([firing.job], now)
        return Fired.MOVED

    def seconds_to_next(self, now: int) -> float | None:
        dues = [self.periodic[task] for task in self.known]
        if (due := self.waiting.next_due()) is not None:
            dues.append(due)
        if (end := self.pauses.next_end()) is not None:
            dues.append(end)
        return max(0.0, (min(dues) - now) / 1000) if dues else None

    def look(self, now: int, moment: float, grace: float, length: float) -> SweepResult:
        """Return the result of a sweep; ``moment`` is by the clock of leases."""
        pause_end = self.rescue_pause.until(moment, length)
        dues = [] if (next_due := self.seconds_to_next(now)) is None else [next_due]
        if self.leases.expiry:
            dues.append(max(0.0, min(self.leases.expiry.values()) + grace - moment, pause_end - moment))
        parked = {
            task: ParkedTask(since, len(self.parked[task].dues), self.owners.get(task, ""))
            for task in list(self.parked)
            if (since := self._parked_since(task)) is not None
        }
        return SweepResult(self.something_to_run(), min(dues, default=None), parked)

    def may_run(self, task: str) -> bool:
        """Return whether one more job of the task may run."""
        return not self.pauses.hold(task) and self.leases.may_run(task)

    def something_to_run(self) -> bool:
        if self.pauses.has_queue:  # guard: nothing of a paused queue in memory
            return False
        return bool(self.ready) or any(self.may_run(task) for task in self.lanes)

    def wanted_to_run(self, tasks: Collection[str]) -> bool:
        """Return whether some of the parked jobs of these tasks may run."""
        return any(self._parked_since(task) is not None and self.may_run(task) for task in tasks)


def _for_retry(job: Envelope, due: int, settlement: Settlement) -> Envelope:
    """Return the job as it is tried again, with the class of its error."""
    error = settlement.detail.decode() or job.error
    return job.due_at(due, retries=job.retries + 1, parked_at=0, error=error)
