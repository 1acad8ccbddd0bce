"""What becomes of a job that did not succeed, and what the log says of it."""

from __future__ import annotations

from ..job import Job
from ..logs import Log
from ..outcome import Action, Backoff, Outcome, is_planned, judge
from ..redaction import REDACT_NOTHING, Redaction
from ..signals.receivers import safe_exc_info

logger: Log = Log("aiospinach")

KINDS_AT_MOST = 1000
"""Kinds of errors that are remembered."""
WITHOUT_TRACEBACK = Redaction(tracebacks=True)


def verdict(
    job: Job,
    error: BaseException,
    now: int,
    backoff: Backoff | None,
    *,
    has_begun: bool,
    redaction: Redaction = REDACT_NOTHING,
) -> Outcome:
    """What ``judge`` returns; if the task's backoff raises, what it returns with the default backoff."""
    try:
        return judge(job, error, now, backoff, has_begun=has_begun)
    except BaseException as wrong:
        logger.error(
            "%r: its backoff or the moment of its retry is wrong, the default is used instead%s",
            job,
            redaction.ending(wrong),
            exc_info=safe_exc_info(wrong, redaction),
        )
        return judge(job, RuntimeError(), now)


class KnownErrors:
    """The errors of bodies that the log has told in full: each kind once for each task and line."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, type[BaseException], object]] = set()

    def is_new(self, job: Job, error: BaseException) -> bool:
        """It is the first of its kind, and was not planned by the body."""
        if is_planned(error):
            return False
        kind = job.task_name, type(error), _line_of(error)
        if kind in self._seen:
            return False
        if len(self._seen) >= KINDS_AT_MOST:
            self._seen.clear()
        self._seen.add(kind)
        return True


def _line_of(error: BaseException) -> object:
    """Where it was raised."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return None if traceback is None else (traceback.tb_frame.f_code, traceback.tb_lineno)


def log_outcome(
    job: Job,
    outcome: Outcome,
    error: BaseException,
    known: KnownErrors,
    redaction: Redaction = REDACT_NOTHING,
) -> None:
    """Log what became of a job: an error if it failed, a warning if it is tried again. What is planned, or
    known already, is told without a traceback."""
    if outcome.action in (Action.FAIL, Action.RETRY) and not known.is_new(job, error):
        redaction = redaction | WITHOUT_TRACEBACK
    if outcome.action is Action.FAIL:
        logger.error(
            "%r failed (%s)%s",
            job,
            outcome.reason,
            redaction.ending(error),
            exc_info=safe_exc_info(error, redaction),
        )
    elif outcome.action is Action.RETRY:
        logger.warning(
            "%r raised %s and is tried again in %.1f s%s",
            job,
            type(error).__name__,
            outcome.delay,
            redaction.ending(error),
            exc_info=safe_exc_info(error, redaction),
        )
    else:
        logger.info("%r: %s (%s)", job, outcome.reason, error)
