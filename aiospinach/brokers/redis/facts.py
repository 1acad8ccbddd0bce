"""Gathers what is known of one job in Redis, and of what it waits for."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from ..places import JobFacts, JobSeen, LookJobFacts, Place
from . import schema, scripts
from .calls import ScriptCalls
from .listing import lease_seen, read_job, scan_leases
from .queue_session import QueueSession
from .reports import decode_worker


async def facts_of(calls: ScriptCalls, state: QueueSession, question: LookJobFacts) -> JobFacts:
    """Return the answer to the question."""
    lease: bytes | str = ""
    while True:
        arguments = [question.job_id, schema.milliseconds(calls.lease), int(question.is_brief), lease]
        now, where, *answer = await calls.produce(scripts.FACTS, state, arguments)
        if where != b"asked":
            break
        lease = await _find_lease(calls, state, question.job_id)
    if where == b"none":
        return JobFacts(now=now)
    seen = _seen(question.job_id.encode(), Place(where.decode()), answer)
    if len(answer) < 6:
        return JobFacts(now=now, seen=seen)
    return _with_reasons(now, seen, answer[5:])


def _seen(job_id: bytes, place: Place, answer: list[Any]) -> JobSeen:
    if place is Place.DEAD:
        dead = schema.decode_dead(job_id, answer[0], int(answer[1]))
        return JobSeen(dead.job, place, dead=dead)
    envelope, lease, ends, report, step = answer[:5]
    seen = lease_seen(lease, ends, report, step) if lease else None
    return JobSeen(read_job(job_id, envelope), place, lease=seen)


def _with_reasons(now: int, seen: JobSeen, answer: list[Any]) -> JobFacts:
    is_marked, ahead, limit, used, workers, is_known, entry, paused, pause, *holders = answer
    runs_on: Counter[str] = Counter()
    for count, report in zip(holders[::2], holders[1::2], strict=True):
        worker = decode_worker(b"", report)
        runs_on[worker.name if worker.level else ""] += count
    words = entry.decode(errors="replace").split(" ")
    owner = words[3] if len(words) > 3 and words[3] != "-" else ""
    return JobFacts(
        now=now,
        seen=seen,
        is_cancelled=bool(is_marked),
        ahead=None if ahead < 0 else ahead,
        limit=limit,
        used=used,
        holders=runs_on,
        workers=workers,
        is_known=bool(is_known),
        pause=schema.decode_pause(paused, pause) if pause else None,
        owner=owner,
    )


async def _find_lease(calls: ScriptCalls, state: QueueSession, job_id: str) -> bytes | str:
    """Return the lease of a job; "-" if it has none."""
    pattern = re.sub(r"[\[\]*?\\]", r"\\\g<0>", job_id) + ":*"
    leases = await scan_leases(calls, state, pattern)
    return next((lease for lease in leases if lease.rpartition(b":")[0] == job_id.encode()), "-")
