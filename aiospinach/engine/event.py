"""One event of a job, as programs see it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ..brokers.events import StoredEvent
from ..timing import from_milliseconds


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of a job, in any process."""

    cursor: str
    """``after=`` of a call of ``Engine.events`` that goes on behind this event."""
    name: str
    """The name of the signal that is sent at the same transition, such as ``"job_started"``."""
    job_id: str
    task: str
    """The name of the task."""
    queue: str
    at: datetime
    """When the store made the transition, in UTC."""
    worker: str | None = None
    """The name of the worker; None if no worker did it."""
    data: Mapping[str, Any] = {}
    """``duration`` of ``job_finished`` is how many seconds the body took. ``error`` is the class of the error
    with its module: of ``job_schedule_retry``, ``job_failed``, and ``job_finished`` after a run that did not
    succeed. ``due`` is a datetime: when a job that waits is to run, of ``job_scheduled`` and
    ``job_schedule_retry``. ``job_progress`` has ``current``, ``total`` and ``note``. No event has arguments,
    results or messages of errors."""


def event_of(stored: StoredEvent, queue: str, cursor: str) -> Event:
    """Return an event as programs see it."""
    return Event(
        cursor=cursor,
        name=stored.name,
        job_id=stored.job_id,
        task=stored.task,
        queue=queue,
        at=from_milliseconds(stored.at),
        worker=stored.worker or None,
        data=stored.data,
    )
