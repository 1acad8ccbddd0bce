"""Lists the jobs of a queue in memory, place by place."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator

from ..places import JobSeen, LeaseSeen, LookPlace, Place, PlacePage
from .leases import read_origin
from .queue import QueueState

Listed = Iterator[tuple[str, JobSeen | None]]
"""The jobs after a position, and the position behind each. None stands for a cancelled job, whose id lies in
the line still."""


def list_place(state: QueueState, question: LookPlace, now: int, clocks: float) -> PlacePage:
    """Return a page of the jobs in a place. ``clocks`` is the number of seconds by which the clock of jobs is
    ahead of the clock of leases."""
    found: list[JobSeen] = []
    looks, position = 0, question.position
    for after, seen in _jobs_after(state, question, now, clocks):
        if looks >= question.looks or len(found) >= question.limit:
            return PlacePage(found, looks, position)
        looks, position = looks + 1, after
        if seen is not None and (not question.task or seen.job.task == question.task):
            found.append(seen)
    return PlacePage(found, looks, None)


def seen_in_lease(state: QueueState, name: str, clocks: float) -> JobSeen:
    """Return a running job."""
    session, started = read_origin(name)
    ends = round((state.leases.expiry[name] + clocks) * 1000)
    progress = state.leases.progress.get(name)
    lease = LeaseSeen(ends, started, state.workers.name_of(session), progress)
    return JobSeen(state.leases.jobs[name], Place.LEASES, name, lease)


def _jobs_after(state: QueueState, question: LookPlace, now: int, clocks: float) -> Listed:
    position, count = question.position, question.looks + 1
    if question.place is Place.READY:
        line = _after(state.ready, position)
        return ((job_id, _in_line(state, job_id, Place.READY, job_id)) for job_id in line)
    if question.place is Place.LANES:
        return _lanes(state, position)
    if question.place is Place.FUTURE:
        return _by_moment(state, [state.waiting.dues], position, count, Place.FUTURE)
    if question.place is Place.PARKED:
        dues = [parked.dues for parked in state.parked.values()]
        return _by_moment(state, dues, position, count, Place.PARKED)
    if question.place is Place.LEASES:
        return _leases(state, position, count, clocks)
    return _dead(state, position, now)


def _lanes(state: QueueState, position: str) -> Listed:
    last_task, _, last = position.partition(" ")
    for task in sorted(state.lanes):
        if task >= last_task:
            for job_id in _after(state.lanes[task], last if task == last_task else ""):
                after = f"{task} {job_id}"
                yield after, _in_line(state, job_id, Place.LANES, after)


def _after(line: Iterable[str], last: str) -> Iterator[str]:
    """Return the jobs of a line after the last one that was listed. If that one has left the line, the jobs
    before it have left as well, and all are returned."""
    first = next((place for place, job_id in enumerate(line, 1) if job_id == last), 0) if last else 0
    return itertools.islice(line, first, None)


def _by_moment(
    state: QueueState, dues: Iterable[dict[str, int]], position: str, count: int, place: Place
) -> Listed:
    moment, _, last = position.partition(" ")
    after = (int(moment), last) if position else (-1, "")
    pairs = ((due, job_id) for some in dues for job_id, due in some.items())
    for due, job_id in heapq.nsmallest(count, (pair for pair in pairs if pair > after)):
        behind = f"{due} {job_id}"
        yield behind, JobSeen(state.jobs[job_id], place, behind)


def _leases(state: QueueState, position: str, count: int, clocks: float) -> Listed:
    after = (read_origin(position)[1], position) if position else (-1, "")
    pairs = ((read_origin(name)[1], name) for name in state.leases.jobs)
    for _, name in heapq.nsmallest(count, (pair for pair in pairs if pair > after)):
        yield name, seen_in_lease(state, name, clocks)


def _dead(state: QueueState, position: str, now: int) -> Listed:
    state.dead.forget_old(now)
    for record in reversed(state.dead.values()):
        number = state.dead.numbers[record.job.id]
        if not position or number < int(position):
            yield str(number), JobSeen(record.job, Place.DEAD, str(number), dead=record)


def _in_line(state: QueueState, job_id: str, place: Place, after: str) -> JobSeen | None:
    job = state.jobs.get(job_id)
    return None if job is None else JobSeen(job, place, after)
