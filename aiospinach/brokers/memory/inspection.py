"""Answers questions about a queue in memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ..dead_groups import LookDeadGroups
from ..events import LookEvents, LookLatestEvents
from ..findings import LookFindings
from ..overview import QueueSeen
from ..pauses import LookPauses, paused_of
from ..periodic import LookPeriodic, TickSeen
from ..places import LookJobFacts, LookPlace, LookRows
from ..questions import Counts, LookCounts, LookDead, LookJob, LookOldest, Question
from ..results import LookResults
from .dead_groups import dead_groups
from .facts import facts_of
from .listing import list_place
from .queue import QueueState

HEADS_AT_MOST = 100
"""The first job in line is searched among so many."""


def answer(state: QueueState, question: Question[Any], now: int, clocks: float, lease: float) -> Any:
    """Return the answer to a question. ``clocks``: by how many seconds the clock of jobs is ahead of that of
    leases."""
    if isinstance(question, LookCounts):
        return _counts(state, now)
    if isinstance(question, LookOldest):
        return _oldest(state, now)
    if isinstance(question, LookDead):
        return state.dead.page(now, question.offset, question.limit)
    if isinstance(question, LookPauses):
        return sorted(state.pauses.values(), key=lambda pause: pause.task)
    if isinstance(question, LookJob):
        return state.jobs.get(question.job_id)
    if isinstance(question, LookResults):
        return [state.ends.find(job_id, state.jobs, state.dead, now) for job_id in question.job_ids]
    if isinstance(question, LookPlace):
        return list_place(state, question, now, clocks)
    if isinstance(question, LookJobFacts):
        return facts_of(state, question, now, clocks, lease)
    if isinstance(question, LookFindings):
        return []  # nobody else can damage it
    if isinstance(question, LookEvents):
        return state.events.page(question)
    if isinstance(question, LookLatestEvents):
        return state.events.latest(question)
    if isinstance(question, LookRows):
        return state.workers.rows(question.since)
    if isinstance(question, LookDeadGroups):
        return dead_groups(state.dead, now, question)
    if isinstance(question, LookPeriodic):
        return [
            TickSeen(task, due, state.ticks.get(task, "")) for task, due in sorted(state.periodic.items())
        ]
    return state.workers.live(now, lease)


def overview_of(state: QueueState, minutes: Sequence[int], now: int, lease: float) -> QueueSeen:
    """Return the state of a queue, and what its live workers did in these minutes."""
    workers = state.workers.live(now, lease)
    rows = state.workers.rows_of([worker.name for worker in workers], minutes)
    pauses = sorted(state.pauses.values(), key=lambda pause: pause.task)
    return QueueSeen(_counts(state, now), _oldest(state, now), pauses, workers, rows)


def _counts(state: QueueState, now: int) -> Counts:
    scheduled, due = len(state.waiting.dues), state.waiting.count_due(now)
    running, parked = len(state.leases.jobs), sum(len(parked.dues) for parked in state.parked.values())
    ready = len(state.jobs) - running - scheduled - parked + due
    paused = paused_of(state.pauses.values(), now)
    return Counts(ready, running, scheduled - due, len(state.dead), parked, *paused)


def _oldest(state: QueueState, now: int) -> int | None:
    first = state.waiting.next_due()
    dues = [] if first is None or first > now else [first]
    for job_id in itertools.islice(state.ready, HEADS_AT_MOST):
        job = state.jobs.get(job_id)
        if job is not None and job.at <= now:  # a job that took over a place in line may be due later
            dues.append(job.at)
            break
    return min(dues, default=None)
