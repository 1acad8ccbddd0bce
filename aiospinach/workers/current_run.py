"""The run that the current code belongs to."""

from __future__ import annotations

from contextvars import ContextVar

from ..job import current_job
from .pool import current_pool
from .progress_reports import RunProgress
from .run import Run

_progress: ContextVar[RunProgress | None] = ContextVar("aiospinach_progress", default=None)


def current_run() -> Run | None:
    """The run whose body this code is in; None outside of workers."""
    pool, job = current_pool(), current_job()
    if pool is None or job is None:
        return None
    return next((run for run in list(pool.runs) if run.job is job), None)


def should_stop() -> bool:
    """Return whether the job that this code runs in has to end now.

    True once the job was cancelled, its time limit has passed, its lease was lost or could not be renewed in
    time, or the workers stop and wait no longer. An async function is cancelled then, and need not ask. A
    plain function runs in a thread, which cannot be stopped: a long one asks in its loop, and raises any
    exception to end. The exception does not count as a failure: the reason does. A function that returns has
    succeeded. Outside of workers it returns False. It may be called in any thread that has the context of the
    job.
    """
    run = current_run()
    return run is not None and run.has_to_stop()


def progress(current: float, total: float | None = None, note: str = "") -> None:
    """Say how far the job that this code runs in has come: ``current`` of ``total``, and a note for people.

    The last call counts. Four times a second at most, the worker stores it, as ``Job.progress``, and sends
    ``job_progress``. It is gone when the run ends, and it does not renew the lease. The call never waits and
    never fails. It may come from any thread that has the context of the job, and does nothing outside of
    workers. A wrong argument is logged and left out: numbers are finite, and have 63 bits at most. A note is
    cut after 200 characters.
    """
    job = current_job()
    if job is None:
        return
    own = _progress.get()
    if own is None or own.job is not job:  # guard: progress of another job
        run, pool = current_run(), current_pool()
        if run is None or pool is None:
            return
        own = pool.progress_reports.of(run, job)
        _progress.set(own)
    own.take_step(current, total, note)
