"""The verdict on a job that did not succeed, and the log line for it."""

from __future__ import annotations

from ..failures import summary
from ..job import Job
from ..logs import Log
from ..outcome import Action, Backoff, Outcome, judge
from ..redaction import Redaction
from ..signals.receivers import safe_exc_info
from .state import PoolState

logger: Log = Log("aiospinach")

LONGEST_REASON = 200
"""Characters of the reason that a pause keeps, at most."""
WITHOUT_TRACEBACK = Redaction(tracebacks=True)


def verdict(
    state: PoolState, job: Job, error: BaseException, now: int, backoff: Backoff | None, *, has_begun: bool
) -> Outcome:
    """The outcome that ``judge`` returns; with the default backoff, if the task's own backoff raises."""
    try:
        return judge(job, error, now, backoff, has_begun=has_begun)
    except BaseException as wrong:
        logger.error(
            "%r: its backoff or the moment of its retry is wrong, and the default is used%s",
            job,
            state.redaction.ending(wrong),
            exc_info=safe_exc_info(wrong, state.redaction),
            fields=state.fields,
        )
        return judge(job, RuntimeError(), now)


def reason_of_pause(state: PoolState, error: BaseException) -> str:
    """By whom and why a task is paused for a job that asked for it: this worker, and its error."""
    by = state.name.replace(" ", "_")
    return f"{by} {summary(error, state.redaction)[:LONGEST_REASON]}"


def log_outcome(state: PoolState, job: Job, outcome: Outcome, error: BaseException) -> None:
    """Log an error for a job that failed, and a warning for one that is tried again.

    A planned error, or one that was logged before, has no traceback.
    """
    redaction = state.redaction
    if outcome.pauses_task:
        logger.info(
            "task %s: paused for %.1f s, since %r asked for it",
            job.task_name,
            outcome.delay,
            job,
            fields=state.fields,
        )
    if outcome.action in (Action.FAIL, Action.RETRY) and not state.known_errors.is_new(job, error):
        redaction = redaction | WITHOUT_TRACEBACK
    if outcome.action is Action.FAIL:
        logger.error(
            "%r failed (%s)%s",
            job,
            outcome.reason,
            redaction.ending(error),
            exc_info=safe_exc_info(error, redaction),
            fields=state.fields,
        )
    elif outcome.action is Action.RETRY:
        logger.warning(
            "%r raised %s and is tried again in %.1f s%s",
            job,
            type(error).__name__,
            outcome.delay,
            redaction.ending(error),
            exc_info=safe_exc_info(error, redaction),
            fields=state.fields,
        )
    else:
        logger.debug("%r: %s (%s)", job, outcome.reason, error, fields=state.fields)
