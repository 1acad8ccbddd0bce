"""Signals: any function, plain or ``async def``, hears what happens to jobs and workers.

Receivers are called with the namespace of the engine first, and keyword arguments; they take
``**kwargs``, since new ones may come. What they raise is logged and goes no further.
"""

from blinker import ANY

from .lifecycle import (
    job_cancelled,
    job_failed,
    job_finished,
    job_schedule_retry,
    job_scheduled,
    job_started,
    task_unknown,
    worker_started,
    worker_terminated,
)
from .signal import SafeNamedSignal

__all__ = [
    "ANY",
    "SafeNamedSignal",
    "job_cancelled",
    "job_failed",
    "job_finished",
    "job_schedule_retry",
    "job_scheduled",
    "job_started",
    "task_unknown",
    "worker_started",
    "worker_terminated",
]
