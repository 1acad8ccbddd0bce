"""The ends of jobs that keep results, in memory."""

from __future__ import annotations

from collections.abc import Mapping

from ...outcome import Action
from ..records import DeadRecord, Envelope
from ..results import EndRecord, EndState, FoundJob, created_of, encode_end, encode_record
from .timetable import Timetable

_STATES = {Action.DONE: EndState.DONE, Action.CANCELLED: EndState.CANCELLED}


class Ends:
    """Ends by job id, each until its time is over, and reports that are still to be sent."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, bytes]] = []
        """Ids and messages of jobs that have ended since the last time that reports were sent."""
        self._records: dict[str, EndRecord] = {}
        self._ends_of_records: Timetable = Timetable()

    def note(self, job: Envelope, action: Action, result: bytes, now: int) -> None:
        """Keep and report the end of a job, if the job keeps its result.

        A failed job is only reported: it is among the dead jobs.
        """
        if not job.result_ttl or action.puts_back:
            return
        self.forget_old(now)
        state, message = _STATES.get(action), b""
        if state is None:
            self._ends_of_records.remove(job.id)
            self._records.pop(job.id, None)  # guard: result of an earlier job in memory
        else:
            self._records[job.id] = EndRecord(state, now, created_of(job), job.task, result)
            self._ends_of_records.add(job.id, now + job.result_ttl)
            message = encode_record(state, now, encode_end(created_of(job), job.task, result))
        self.reports.append((job.id, message))

    def take_reports(self) -> list[tuple[str, bytes]]:
        """Return the reports that are to be sent now."""
        reports, self.reports = self.reports, []
        return reports

    def find(
        self, job_id: str, jobs: Mapping[str, Envelope], dead: Mapping[str, DeadRecord], now: int
    ) -> FoundJob:
        """Return what is known of a job id."""
        self.forget_old(now)
        return FoundJob(jobs.get(job_id), self._records.get(job_id), dead.get(job_id))

    def forget_old(self, now: int) -> None:
        """Forget the ends whose time is over."""
        for job_id in self._ends_of_records.take(now):
            del self._records[job_id]
