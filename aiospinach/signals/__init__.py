"""Signals: any function, plain or ``async def``, can be called when something happens to jobs and workers.

A receiver is called with the namespace of the engine, and with keyword arguments. It takes ``**kwargs``:
later versions may add some. Its errors are logged and not raised.
"""

from blinker import ANY

from .lifecycle import (
    job_cancelled,
    job_failed,
    job_finished,
    job_progress,
    job_schedule_retry,
    job_scheduled,
    job_started,
    task_unknown,
    worker_started,
    worker_terminated,
)
from .signal import SafeNamedSignal
from .stats import SignalStats

__all__ = [
    "ANY",
    "SafeNamedSignal",
    "SignalStats",
    "job_cancelled",
    "job_failed",
    "job_finished",
    "job_progress",
    "job_schedule_retry",
    "job_scheduled",
    "job_started",
    "task_unknown",
    "worker_started",
    "worker_terminated",
]
