"""Cancels, requeues and discards many jobs in memory."""

from __future__ import annotations

import itertools

import msgspec

from ...job import JobStatus
from ..bulk import BulkResult, CancelSome, SteerDead
from ..questions import Cancel, Discard, Requeue
from ..records import DeadRecord, Envelope
from .queue import QueueState
from .steering import steer

AT_ONCE = 500


def cancel_some(state: QueueState, act: CancelSome, now: int) -> BulkResult:
    """Cancel up to AT_ONCE jobs that do not run."""
    left = int(act.cursor[0]) if act.cursor else len(state.jobs)  # jobs that come meanwhile may stay
    chosen = (
        job for job in state.jobs.values() if job.id not in state.leases.of_job and act.task in ("", job.task)
    )
    jobs: list[Envelope] = list(itertools.islice(chosen, AT_ONCE))
    for job in jobs:
        steer(state, Cancel(job.id), now)
    left -= len(jobs)
    cursor = (left,) if len(jobs) == AT_ONCE and left > 0 else None
    return BulkResult(len(jobs), cursor, jobs=jobs if act.with_jobs else ())


def steer_dead(state: QueueState, act: SteerDead, now: int) -> BulkResult:
    """Requeue or discard dead jobs: a queue has 10,000 at most."""
    order = Requeue if act.is_to_run else Discard
    count = bare = 0
    for dead in list(state.dead.values()):
        if _is_chosen(act, dead):
            steered = steer(state, order(dead.job.id), now)
            count += steered.status is JobStatus.FAILED
            bare += steered.is_bare
    return BulkResult(count, None, bare)


class _Detail(msgspec.Struct):
    reason: str | None = None
    error: str | None = None


_read_detail = msgspec.json.Decoder(_Detail).decode


def _is_chosen(act: SteerDead, dead: DeadRecord) -> bool:
    if act.task not in ("", dead.job.task):
        return False
    if not act.reason and act.error is None:
        return True
    try:
        detail = _read_detail(dead.detail)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return act.reason in ("", detail.reason) and act.error in (None, detail.error)
