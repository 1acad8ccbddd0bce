"""Cancels, requeues and discards jobs in memory."""

from __future__ import annotations

from ...job import JobStatus
from ...outcome import Action
from ..pauses import Pause, Resume, StoredPause
from ..questions import Act, Cancel, Discard, Requeue, Reschedule, SteerResult
from .queue import QueueState


def pause(state: QueueState, act: Pause, now: int) -> None:
    """Pause a task or the queue."""
    state.pauses.put(StoredPause(act.task, now, act.until, act.by, act.reason))
    state.has_earlier_due = state.has_earlier_due or act.until > 0


def resume(state: QueueState, act: Resume) -> bool:
    """End a pause."""
    return state.pauses.pop(act.task, None) is not None


def steer(state: QueueState, act: Act[SteerResult], now: int) -> SteerResult:
    """Carry out an order about one job."""
    if isinstance(act, Cancel):
        return _cancel(state, act.job_id, now)
    if isinstance(act, Reschedule):
        return SteerResult(_reschedule(state, act.job_id, act.at or now, now))
    assert isinstance(act, Requeue | Discard)
    dead = state.dead.get(act.job_id)
    if isinstance(act, Requeue) and dead is not None and dead.is_bare:
        return SteerResult(JobStatus.NOT_SET, is_bare=True)
    return SteerResult(_take_dead(state, act.job_id, now, is_to_run=isinstance(act, Requeue)))


def _take_dead(state: QueueState, job_id: str, now: int, *, is_to_run: bool) -> JobStatus:
    """Requeue or discard a dead job. Returns FAILED, or NOT_SET if nothing was done."""
    if job_id not in state.dead or (is_to_run and job_id in state.jobs):
        return JobStatus.NOT_SET
    job = state.dead.remove(job_id).job
    if is_to_run:
        state.add(job.due_at(now, retries=0, crashes=0, parked_at=0, named=False, error=""), now)
    return JobStatus.FAILED


def _reschedule(state: QueueState, job_id: str, due: int, now: int) -> JobStatus:
    """Move a job that waits or is queued. Returns the status that it had."""
    job = state.jobs.get(job_id)
    if job is None:
        return JobStatus.FAILED if job_id in state.dead else JobStatus.NOT_SET
    if job_id in state.leases.of_job:
        return JobStatus.RUNNING
    parked = state.parked.get(job.task)
    if state.waiting.remove(job_id) or (parked is not None and parked.remove(job_id)):
        del state.jobs[job_id]
        state.add(job.due_at(due, parked_at=0, named=False), now)
        return JobStatus.WAITING
    state.moved.discard(job_id)
    if due > now or job.at > now:  # a job that is due keeps its moment
        state.jobs[job_id] = job.due_at(due)
    if due > now:
        state.moved.add(job_id)
    return JobStatus.QUEUED


def _cancel(state: QueueState, job_id: str, now: int) -> SteerResult:
    job = state.jobs.get(job_id)
    if job is None:
        return SteerResult(JobStatus.NOT_SET)
    lease = state.leases.of_job.get(job_id)
    if lease is not None:
        state.leases.cancels.add(lease)
        return SteerResult(JobStatus.RUNNING, job)
    del state.jobs[job_id]
    state.named.forget(job_id)
    state.ends.note(job, Action.CANCELLED, b"", now)
    if state.events.most:
        state.events.note_cancelled(job)
    parked = state.parked.get(job.task)
    if state.waiting.remove(job_id) or (parked is not None and parked.remove(job_id)):
        return SteerResult(JobStatus.WAITING, job)
    state.moved.discard(job_id)
    state.gone.add(job_id)
    return SteerResult(JobStatus.QUEUED, job)
