"""Jobs whose id is in use: such a job is the successor of the job that schedules it, or else a duplicate."""

from __future__ import annotations

import asyncio

import msgspec

from ..brokers.base import Broker
from ..brokers.questions import LookJob
from ..brokers.records import Envelope
from ..exceptions import BrokerError
from ..job import Job, running_job
from ..logs import Log
from ..timing import from_milliseconds, to_milliseconds
from ..workers import current_pool

logger: Log = Log("aiospinach")

LOOK_WITHIN = 1.0
"""Seconds to wait for the broker's answer about the stored job."""


def set_successor(broker: Broker, job: Job, envelope: Envelope) -> bool:
    """Make a duplicate the successor of a running job of the same id. Returns whether the job took it."""
    pool = current_pool()
    if running_job.get() != job or pool is None or pool.state.broker is not broker:
        return False
    if (run := pool.runs.find(job)) is not None:
        return run.follow_with(msgspec.structs.replace(envelope, named=False))
    logger.warning(
        "%r is not stored: the job that scheduled it has the same id and has ended, and the id is in use for"
        " ten minutes; schedule it in the body, or leave the id out",
        job,
    )
    return False


async def with_stored_time(broker: Broker, job: Job) -> Job:
    """The duplicate with the moment of the stored job; logs a warning if another moment was asked for."""
    try:
        async with asyncio.timeout(LOOK_WITHIN):
            stored = await broker.look(job.queue, LookJob(job.id))
    except (BrokerError, TimeoutError):
        return job
    if stored is None:
        # The stored job has ended, so it was due: a moment in the future is another moment.
        if to_milliseconds(job.at, what="at") > broker.now():
            logger.warning(
                "%r is not stored: a job of its id was stored within the last ten minutes, and has ended;"
                " no job will run at %s: give it another id",
                job,
                job.at,
            )
        return job
    at = from_milliseconds(stored.at)
    if at != job.at and not stored.retries and not stored.crashes:  # a retry or a crash has moved the job
        logger.warning(
            "%r is stored already, for %s, and is not moved to %s: cancel it first, then schedule it again",
            job,
            at,
            job.at,
        )
    return msgspec.structs.replace(job, at=at)
