"""The run that the current code belongs to."""

from __future__ import annotations

from ..job import current_job
from .pool import current_pool
from .run import Run


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
