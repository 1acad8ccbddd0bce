"""What becomes of a job that did not succeed, and what the log says of it."""

from __future__ import annotations

from ..discretion import TELL_ALL, Discretion
from ..job import Job
from ..logs import Log
from ..outcome import Action, Backoff, Outcome, judge
from ..receivers import traceable

logger: Log = Log("aiospinach")


def verdict(
    job: Job,
    error: BaseException,
    now: int,
    backoff: Backoff | None,
    *,
    has_begun: bool,
    discretion: Discretion = TELL_ALL,
) -> Outcome:
    """What ``judge`` returns; if the task's backoff raises, what it returns with the default backoff."""
    try:
        return judge(job, error, now, backoff, has_begun=has_begun)
    except BaseException as wrong:
        logger.error(
            "%r: its backoff or the moment of its retry is wrong, the default is used instead%s",
            job,
            discretion.ending(wrong),
            exc_info=traceable(wrong, discretion),
        )
        return judge(job, RuntimeError(), now)


def log_outcome(job: Job, outcome: Outcome, error: BaseException, discretion: Discretion = TELL_ALL) -> None:
    """Log what became of a job: an error if it failed, a warning if it is tried again."""
    if outcome.action is Action.FAIL:
        logger.error(
            "%r failed (%s)%s",
            job,
            outcome.reason,
            discretion.ending(error),
            exc_info=traceable(error, discretion),
        )
    elif outcome.action is Action.RETRY:
        logger.warning(
            "%r raised %s and is tried again in %.1f s%s",
            job,
            type(error).__name__,
            outcome.delay,
            discretion.ending(error),
            exc_info=traceable(error, discretion),
        )
    else:
        logger.info("%r: %s (%s)", job, outcome.reason, error)
