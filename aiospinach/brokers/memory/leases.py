"""The leases of one queue, in memory, and how many jobs of each task may run."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping

from ...job import Progress
from ..records import Envelope, Lease

_numbers = itertools.count()  # for all queues: a lease from before a flush must not be live after it


def origin_of(session: str, now: int) -> str:
    """Return the part of a lease's name that tells which event loop has made it, and when."""
    return f"{session}.{now}."


def read_origin(lease: str) -> tuple[str, int]:
    """Return the session that made a lease, and when; "" and 0 if its job is only judged."""
    session, _, rest = lease.rpartition(":")[2].partition(".")
    return (session, int(rest.partition(".")[0])) if rest else ("", 0)


class Leases:
    """The leases of jobs that run or are judged, and the slots of limited tasks."""

    def __init__(self) -> None:
        self.jobs: dict[str, Envelope] = {}
        self.expiry: dict[str, float] = {}
        self.of_job: dict[str, str] = {}
        self.cancels: set[str] = set()
        """Leases whose job is to be cancelled."""
        self.judged: set[str] = set()
        """Leases of lost jobs, which their workers only judge: if they are lost again, that is no crash."""
        self.progress: dict[str, Progress] = {}
        """How far jobs have come, by lease."""
        self._limits: dict[str, int] = {}
        self._slots: dict[str, set[str]] = {}

    def limit(self, limits: Mapping[str, int]) -> dict[str, int]:
        """Set how many jobs of each task may run; 0: any number. Returns the old limits that have changed."""
        replaced = {
            task: self._limits[task]
            for task, limit in limits.items()
            if self._limits.get(task, limit) != limit
        }
        for task, limit in limits.items():
            if limit and not self._limits.get(task):  # running jobs were leased without a slot
                self._slots[task] = {lease for lease, job in self.jobs.items() if job.task == task}
            self._limits[task] = limit
        return replaced

    def may_run(self, task: str) -> bool:
        """Return whether one more job of the task may run."""
        limit = self._limits.get(task)
        return not limit or len(self._slots.get(task, ())) < limit

    def slots_of(self, task: str) -> tuple[int, Collection[str]]:
        """Return how many jobs of a task may run, and the leases of those that run; 0 and none without a
        limit."""
        limit = self._limits.get(task, 0)
        return limit, self._slots.get(task, ()) if limit else ()

    def add(self, job: Envelope, expiry: float, margin: float, origin: str = "") -> Lease:
        """Lease a job. ``origin`` is the result of ``origin_of``; empty for a job that is only judged."""
        lease = f"{job.id}:{origin}{next(_numbers)}"
        self.jobs[lease] = job
        self.expiry[lease] = expiry
        self.of_job[job.id] = lease
        if self._limits.get(job.task):
            self._slots.setdefault(job.task, set()).add(lease)
        return Lease(lease, job, expiry - margin)

    def end(self, lease: str) -> Envelope | None:
        """End a lease. Returns its job, or None if the lease was gone."""
        job = self.jobs.pop(lease, None)
        if job is not None:
            del self.expiry[lease]
            del self.of_job[job.id]
            self.cancels.discard(lease)
            self.judged.discard(lease)
            if self.progress:
                self.progress.pop(lease, None)  # guard: progress of an ended lease in memory
            holders = self._slots.get(job.task)
            if holders is not None:
                holders.discard(lease)
                if not holders:
                    del self._slots[job.task]
        return job
