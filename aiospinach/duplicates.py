"""What is said of a job that was not stored, since its id is in use."""

from __future__ import annotations

import asyncio

import msgspec

from .brokers.base import Broker
from .brokers.records import LookJob
from .exceptions import BrokerError
from .job import Job, running_job
from .logs import Log
from .timing import from_milliseconds, to_milliseconds

logger: Log = Log("aiospinach")

LOOK_WITHIN = 1.0
"""Seconds that it may take to see which moment the stored job has."""


def own_step(job: Job) -> str | None:
    """Why this duplicate can never be stored, if it is of the job that runs here."""
    if running_job.get() != job:
        return None
    return (
        f"job {job.id!r} of task {job.task_name!r} scheduled a job of its own id, and would be its own"
        f" duplicate: leave the id out, or give each step one of its own, such as {job.id + '/2'!r}"
    )


async def with_its_moment(broker: Broker, job: Job) -> Job:
    """The duplicate with the moment that the stored job has; a warning tells if it was asked for another."""
    try:
        async with asyncio.timeout(LOOK_WITHIN):
            stored = await broker.look(job.queue, LookJob(job.id))
    except (BrokerError, TimeoutError):
        return job
    if stored is None:
        # It has run, so it was due: who asks for a moment to come asks for another.
        if to_milliseconds(job.at, what="at") > broker.now():
            logger.warning(
                "%r is not stored: one of its id was, within the last ten minutes, and has ended; nothing"
                " will run at %s, give it another id",
                job,
                job.at,
            )
        return job
    at = from_milliseconds(stored.at)
    if at != job.at and not stored.retries and not stored.crashes:  # these have moved it
        logger.warning(
            "%r is stored already, for %s, and is not moved to %s: cancel it first to schedule it anew",
            job,
            at,
            job.at,
        )
    return msgspec.structs.replace(job, at=at)
