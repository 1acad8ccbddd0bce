"""The jobs of one queue, in memory: every transition that they make, and nothing that waits."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from ..job import JobStatus
from ..outcome import Action
from .base import (
    DEAD_AT_MOST,
    DEAD_FOR,
    Cancelled,
    DeadJob,
    Envelope,
    Fired,
    Firing,
    Lease,
    Settlement,
    Swept,
)
from .recent import Recent

EXPIRED_AT_ONCE = 100

_numbers = itertools.count()  # of all queues ever: a lease of before a flush must not look live after it


class QueueState:
    """The jobs of one queue. Each live job is in ``jobs``, and in exactly one of the ready list, a lane,
    the waiting ones and the leases."""

    def __init__(self) -> None:
        self.jobs: dict[str, Envelope] = {}
        self.ready: deque[str] = deque()
        self.lanes: dict[str, deque[str]] = {}
        """Jobs of tasks that run as often as they may, so that they block no others."""
        self.waiting: dict[str, int] = {}
        self.gone: set[str] = set()
        """Cancelled jobs whose id still lies in ``ready`` or a lane."""
        self.moved: set[str] = set()
        """Jobs that lie there in the place of a cancelled one, and are due later."""
        self.leases: dict[str, Envelope] = {}
        self.expiry: dict[str, float] = {}
        self.slots: dict[str, set[str]] = {}
        self.cancels: set[str] = set()
        self.limits: dict[str, int] = {}
        self.periodic: dict[str, int] = {}
        self.known: set[str] = set()
        """Periodic tasks of the engine that has the broker now: nobody fires those of one before."""
        self.dead: dict[str, DeadJob] = {}
        self.named: Recent[bool] = Recent()
        self.answers: Recent[tuple[bool, ...]] = Recent()
        self.sooner: bool = False
        """Something is due earlier than whoever sleeps knows; one is to be woken."""
        self.sooner_untold: bool = False
        """One was woken for that, and is to hear why."""
        self._looked_at = math.inf
        self._calm_left = 0.0
        self._schedule: list[tuple[int, int, str]] = []  # a heap; an entry counts if ``waiting`` agrees
        self._lease_of: dict[str, str] = {}
        self._judged: set[str] = set()
        """Leases of lost jobs, whose holders run nothing and are lost without a crash of the job."""

    def limit(self, limits: Mapping[str, int]) -> None:
        for task, limit in limits.items():
            if limit and not self.limits.get(task):  # what runs already was leased without a slot
                self.slots[task] = {lease for lease, job in self.leases.items() if job.task == task}
            self.limits[task] = limit

    def add(self, job: Envelope, now: int) -> bool:
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
        elif self._put_off(job, job.at):
            self.sooner = True
        return True

    def take(self, want: int, now: int, expiry: float, margin: float) -> list[Lease]:
        leases: list[Lease] = []
        if want <= 0:
            return leases
        for task in list(self.lanes):
            lane = self.lanes[task]
            while len(leases) < want and self._may_run(task) and (job := self._pop(lane, now)) is not None:
                self._lease_or_hold(job, leases, expiry, margin)
            if not lane:
                del self.lanes[task]
        ready = self.ready
        while len(leases) < want and (job := self._pop(ready, now)) is not None:
            self._lease_or_hold(job, leases, expiry, margin)
        return leases

    def _lease_or_hold(self, job: Envelope, leases: list[Lease], expiry: float, margin: float) -> None:
        if self.limits.get(job.task) and not self._may_run(job.task):  # guard: task limit
            self.lanes.setdefault(job.task, deque()).append(job.id)
        else:
            leases.append(self._lease(job, expiry, margin))

    def _pop(self, line: deque[str], now: int) -> Envelope | None:
        """The first job of a line. What was cancelled or put off since leaves the line."""
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
                self.sooner = self._put_off(job, job.at) or self.sooner
        return None

    def settle(self, settled: Sequence[Settlement], now: int) -> tuple[list[str], list[str]]:
        """The leases that were gone, and those whose job was cancelled instead of put back."""
        fenced: list[str] = []
        cancelled: list[str] = []
        released: list[Envelope] = []
        for settlement in settled:
            is_unwanted = settlement.lease.id in self.cancels and settlement.action.puts_back
            job = self._end_lease(settlement.lease.id)
            if job is None:  # guard: fence in memory
                fenced.append(settlement.lease.id)
            elif is_unwanted:  # guard: cancelled while it ran
                del self.jobs[job.id]
                cancelled.append(settlement.lease.id)
            elif settlement.action is Action.RELEASE:
                released.append(job)
            else:
                self._settle(job, settlement, now)
        for job in reversed(released):  # the first stands first again
            self.lanes.get(job.task, self.ready).appendleft(job.id)
        return fenced, cancelled

    def _settle(self, job: Envelope, settlement: Settlement, now: int) -> None:
        action = settlement.action
        if action is Action.DONE or action is Action.CANCELLED:
            del self.jobs[job.id]
        elif action is Action.FAIL:
            del self.jobs[job.id]
            self.dead.pop(job.id, None)
            self.dead[job.id] = DeadJob(job, now, settlement.detail)
            self.bury_old(now)
        else:
            due = now + int(settlement.delay * 1000)
            if action is Action.RETRY:
                job = msgspec.structs.replace(job, at=due, retries=job.retries + 1, parked_at=0)
            else:
                job = msgspec.structs.replace(job, at=due, parked_at=job.parked_at or now)
            self.jobs[job.id] = job
            if due <= now:
                self.ready.append(job.id)
            elif self._put_off(job, due) and action is Action.RETRY:
                self.sooner = True  # who parks a job keeps time for it

    def promote(self, now: int) -> None:
        schedule = self._schedule
        while schedule and schedule[0][0] <= now:
            due, _, job_id = heapq.heappop(schedule)
            if self.waiting.get(job_id) == due:
                del self.waiting[job_id]
                self.ready.append(job_id)

    def calm_until(self, now: float, length: float) -> float:
        """Look at the queue, and tell until when nothing counts as lost.

        After a time in which nobody looked, a worker may only have stood still: it has a quarter of a lease
        to renew its leases and to settle what has ended. Another silence prolongs that, and does not begin it
        anew: each look uses up some of it, so that lost jobs are found in the end.
        """
        passed = max(0.0, now - self._looked_at)
        if self._calm_left:  # guard: end of the calm in memory
            self._calm_left = max(0.0, self._calm_left - min(passed, length / 12))
        elif passed > length / 4:
            self._calm_left = length / 4
        self._looked_at = now
        return now + self._calm_left

    def take_expired(
        self, now: float, grace: float, length: float, margin: float
    ) -> tuple[list[Lease], bool]:
        """Jobs whose worker was lost, leased anew, and whether there are more of them."""
        if now < self.calm_until(now, length):  # guard: calm in memory
            return [], False
        # A renewed lease keeps its place in the dict, so all are looked at: as many as there are slots.
        gone = [lease for lease, expiry in self.expiry.items() if expiry + grace <= now]
        expired: list[Lease] = []
        for lease in gone[:EXPIRED_AT_ONCE]:
            is_unwanted = lease in self.cancels
            was_judged = lease in self._judged
            job = self._end_lease(lease)
            if job is not None:
                if not was_judged:  # guard: crash of a worker in memory
                    job = msgspec.structs.replace(job, crashes=job.crashes + 1)
                    self.jobs[job.id] = job
                expired.append(self._lease(job, now + length, margin))
                self._judged.add(expired[-1].id)
                if is_unwanted:  # guard: cancelled before it was lost
                    self.cancels.add(expired[-1].id)
        return expired, len(gone) > EXPIRED_AT_ONCE

    def fire(self, firing: Firing, now: int) -> Fired:
        if self.periodic.get(firing.task) != firing.due:  # guard: tick fired before
            return Fired.TAKEN
        self.periodic[firing.task] = firing.next_due
        if firing.job is not None:
            self.add(firing.job, now)
        return Fired.MOVED

    def seconds_to_next(self, now: int) -> float | None:
        schedule = self._schedule
        while schedule and self.waiting.get(schedule[0][2]) != schedule[0][0]:
            heapq.heappop(schedule)  # cancelled, or put off again
        dues = [*(self.periodic[task] for task in self.known), *(due for due, _, _ in schedule[:1])]
        return max(0.0, (min(dues) - now) / 1000) if dues else None

    def look(self, now: int, moment: float, grace: float, length: float) -> Swept:
        """What there is to run, and when something is due; ``moment`` is of the clock of leases."""
        calm_until = self.calm_until(moment, length)
        dues = [] if (next_due := self.seconds_to_next(now)) is None else [next_due]
        if self.expiry:
            dues.append(max(0.0, min(self.expiry.values()) + grace - moment, calm_until - moment))
        return Swept(self.something_to_run(), min(dues, default=None))

    def cancel(self, job_id: str) -> Cancelled:
        job = self.jobs.get(job_id)
        if job is None:
            return Cancelled(JobStatus.NOT_SET)
        lease = self._lease_of.get(job_id)
        if lease is not None:
            self.cancels.add(lease)
            return Cancelled(JobStatus.RUNNING, job)
        del self.jobs[job_id]
        if self.waiting.pop(job_id, None) is not None:
            self.named.forget(job_id)
            return Cancelled(JobStatus.WAITING, job)
        self.named.forget(job_id)
        self.moved.discard(job_id)
        self.gone.add(job_id)
        return Cancelled(JobStatus.QUEUED, job)

    def bury_old(self, now: int) -> None:
        oldest = now - DEAD_FOR * 1000
        while self.dead:
            job_id, dead = next(iter(self.dead.items()))
            if len(self.dead) <= DEAD_AT_MOST and dead.died_at >= oldest:
                return
            del self.dead[job_id]

    def something_to_run(self) -> bool:
        return bool(self.ready) or any(self._may_run(task) for task in self.lanes)

    def _may_run(self, task: str) -> bool:
        limit = self.limits.get(task)
        return not limit or len(self.slots.get(task, ())) < limit

    def _lease(self, job: Envelope, expiry: float, margin: float) -> Lease:
        lease = f"{job.id}:{next(_numbers)}"
        self.leases[lease] = job
        self.expiry[lease] = expiry
        self._lease_of[job.id] = lease
        if self.limits.get(job.task):
            self.slots.setdefault(job.task, set()).add(lease)
        return Lease(lease, job, expiry - margin)

    def _end_lease(self, lease: str) -> Envelope | None:
        job = self.leases.pop(lease, None)
        if job is not None:
            del self.expiry[lease]
            del self._lease_of[job.id]
            self.cancels.discard(lease)
            self._judged.discard(lease)
            holders = self.slots.get(job.task)
            if holders is not None:
                holders.discard(lease)
                if not holders:
                    del self.slots[job.task]
        return job

    def _put_off(self, job: Envelope, due: int) -> bool:
        """Have it wait; tells whether it is the next that is due."""
        self.waiting[job.id] = due
        if len(self._schedule) > 2 * len(self.waiting) + 100:  # most of it was cancelled
            self._schedule = [entry for entry in self._schedule if self.waiting.get(entry[2]) == entry[0]]
            heapq.heapify(self._schedule)
        heapq.heappush(self._schedule, (due, next(_numbers), job.id))
        return self._schedule[0][2] == job.id
