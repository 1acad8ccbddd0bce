"""Requests: jobs that are about to be stored, with their envelopes and ids."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from ..brokers.records import Envelope
from ..job import Job, JobStatus
from ..task import Task

NOT_SET, QUEUED, WAITING = JobStatus.NOT_SET, JobStatus.QUEUED, JobStatus.WAITING
"""As in the class, which Python 3.11 reads them from ten times as slowly."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """An envelope that is about to be stored, and the facts about its job that the envelope lacks."""

    envelope: Envelope
    queue: str
    is_due: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def as_job(self, namespace: str, is_new: bool) -> Job:
        """The job after the broker's answer: stored if ``is_new``, else a duplicate."""
        status = NOT_SET
        if is_new:
            status = QUEUED if self.is_due else WAITING
        return self.envelope.as_job(namespace, self.queue, status, self.args, self.kwargs)


def new_ids(count: int) -> list[str]:
    """``count`` ids of 128 random bits each, from one call to the operating system."""
    digits = secrets.token_hex(16 * count)
    return [digits[start : start + 32] for start in range(0, 32 * count, 32)]


def request_of(
    new_id: str,
    now: int,
    task: Task[..., Any],
    at: int | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    body: bytes,
) -> Request:
    due = now if at is None else at
    own_id = task._job_id
    envelope = Envelope(
        own_id or new_id,
        task.name,
        body,
        due,
        task.max_retries,
        at_once=at is None,
        named=own_id is not None,
    )
    if task._result_ms:
        envelope.result_ttl = task._result_ms
    if at is not None:
        envelope.created = now
    return Request(envelope, task.queue, due <= now, args, kwargs)
