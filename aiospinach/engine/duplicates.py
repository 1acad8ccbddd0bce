"""What becomes of a job whose id is in use: it follows the job that schedules it, or it is not stored."""

from __future__ import annotations

import asyncio

import msgspec

from ..brokers.base import Broker
from ..brokers.records import Envelope, LookJob
from ..exceptions import BrokerError
from ..job import Job, running_job
from ..logs import Log
from ..timing import from_milliseconds, to_milliseconds
from ..workers import current_pool

logger: Log = Log("aiospinach")

LOOK_WITHIN = 1.0
"""Seconds that it may take to see which moment the stored job has."""


def set_successor(broker: Broker, job: Job, envelope: Envelope) -> bool:
    """The duplicate has the id of the job that schedules it, and takes its place when that ends."""
    pool = current_pool()
    if running_job.get() != job or pool is None or pool.state.broker is not broker:
        return False
    if (run := pool.runs.find(job)) is not None:
        return run.follow_with(msgspec.structs.replace(envelope, named=False))
    logger.warning(
        "%r is not stored: the job of its id, which scheduled it, had ended, and the id is in use for ten"
        " minutes; schedule it in the body, or leave the id out",
        job,
    )
    return False


async def with_stored_time(broker: Broker, job: Job) -> Job:
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
