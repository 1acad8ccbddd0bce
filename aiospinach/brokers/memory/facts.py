"""Gathers what is known of one job in memory, and of what it waits for."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

from ..pauses import WHOLE_QUEUE
from ..places import LOOKED_AT_MOST, JobFacts, JobSeen, LookJobFacts, Place
from ..records import Envelope
from .leases import read_origin
from .listing import seen_in_lease
from .queue import QueueState


def facts_of(state: QueueState, question: LookJobFacts, now: int, clocks: float, lease: float) -> JobFacts:
    """Return the answer to the question. ``clocks`` is as for ``list_place``."""
    seen = _find(state, question.job_id, now, clocks)
    if seen is None or question.is_brief:
        return JobFacts(now=now, seen=seen)
    task = seen.job.task
    limit, leases = state.leases.slots_of(task)
    holders = Counter(state.workers.name_of(read_origin(name)[0]) for name in leases)
    return JobFacts(
        now=now,
        seen=seen,
        is_cancelled=state.leases.of_job.get(seen.job.id) in state.leases.cancels,
        ahead=_ahead(state, seen),
        limit=limit,
        used=len(leases),
        holders=holders,
        workers=len(state.workers.live(now, lease)),
        is_known=state.workers.know(task, now, lease),
        pause=state.pauses.get(WHOLE_QUEUE) or state.pauses.get(task),
        owner=state.owners.get(task, ""),
    )


def _find(state: QueueState, job_id: str, now: int, clocks: float) -> JobSeen | None:
    job = state.jobs.get(job_id)
    if job is None:
        state.dead.forget_old(now)
        dead = state.dead.get(job_id)
        return None if dead is None else JobSeen(dead.job, Place.DEAD, dead=dead)
    lease = state.leases.of_job.get(job_id)
    if lease is not None:
        return seen_in_lease(state, lease, clocks)
    return JobSeen(job, _place_of(state, job))


def _place_of(state: QueueState, job: Envelope) -> Place:
    parked = state.parked.get(job.task)
    if job.id in state.waiting.dues:
        return Place.FUTURE
    if parked is not None and job.id in parked.dues:
        return Place.PARKED
    return Place.LANES if job.id in state.lanes.get(job.task, ()) else Place.READY


def _ahead(state: QueueState, seen: JobSeen) -> int | None:
    line: Iterable[str] = ()
    if seen.place is Place.READY:
        line = state.ready
    elif seen.place is Place.LANES:
        line = state.lanes[seen.job.task]
    ahead = 0
    for job_id in itertools.islice(line, LOOKED_AT_MOST + 1):
        if job_id == seen.job.id:
            return ahead
        ahead += job_id not in state.gone
    return None
