"""Snapshots of stored jobs, for users."""

from __future__ import annotations

import contextlib

import msgspec

from ..brokers.places import JobSeen
from ..brokers.records import DeadRecord
from ..job import Job
from ..timing import from_milliseconds
from .attached_tasks import AttachedTasks


def snapshot_of(seen: JobSeen, namespace: str, queue: str, tasks: AttachedTasks) -> Job:
    """Return the snapshot of a job, with its arguments if they can be read here."""
    args, kwargs = tasks.read(seen.job.task, seen.job.arguments)
    job = seen.job.as_job(namespace, queue, seen.place.status, args, kwargs)
    if seen.dead is not None:
        return msgspec.structs.replace(job, error=detail_of(seen.dead).get("error") or job.error)
    if seen.lease is None:
        return job
    started = seen.lease.started
    return msgspec.structs.replace(
        job,
        started_at=from_milliseconds(started) if started else None,
        worker=seen.lease.worker or None,
        progress=seen.lease.progress,
    )


def detail_of(record: DeadRecord) -> dict[str, str]:
    """Why the job died; empty if the record is not readable."""
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(record.detail, type=dict[str, str])
    return {}
