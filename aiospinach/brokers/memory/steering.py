"""Cancels, requeues and discards jobs in memory."""

from __future__ import annotations

from ...job import JobStatus
from ..questions import Act, Cancel, Requeue, SteerResult
from .queue import QueueState


def steer(state: QueueState, act: Act, now: int) -> SteerResult:
    """Carry out an act."""
    if isinstance(act, Cancel):
        return _cancel(state, act.job_id)
    dead = state.dead.get(act.job_id)
    if isinstance(act, Requeue) and dead is not None and dead.is_bare:
        return SteerResult(JobStatus.NOT_SET, is_bare=True)
    return SteerResult(_take_dead(state, act.job_id, now, is_to_run=isinstance(act, Requeue)))


def _take_dead(state: QueueState, job_id: str, now: int, *, is_to_run: bool) -> JobStatus:
    """Requeue or discard a dead job. Returns FAILED, or NOT_SET if nothing was done."""
    if job_id not in state.dead or (is_to_run and job_id in state.jobs):
        return JobStatus.NOT_SET
    job = state.dead.pop(job_id).job
    if is_to_run:
        state.add(job.due_at(now, retries=0, crashes=0, parked_at=0, named=False, error=""), now)
    return JobStatus.FAILED


def _cancel(state: QueueState, job_id: str) -> SteerResult:
    job = state.jobs.get(job_id)
    if job is None:
        return SteerResult(JobStatus.NOT_SET)
    lease = state.leases.of_job.get(job_id)
    if lease is not None:
        state.leases.cancels.add(lease)
        return SteerResult(JobStatus.RUNNING, job)
    del state.jobs[job_id]
    state.named.forget(job_id)
    parked = state.parked.get(job.task)
    if state.waiting.remove(job_id) or (parked is not None and parked.remove(job_id)):
        return SteerResult(JobStatus.WAITING, job)
    state.moved.discard(job_id)
    state.gone.add(job_id)
    return SteerResult(JobStatus.QUEUED, job)
