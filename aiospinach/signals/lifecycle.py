"""The signals of jobs and of workers, which the package sends."""

from __future__ import annotations

from typing import Final

from .signal import SafeNamedSignal

job_scheduled: Final = SafeNamedSignal(
    "job_scheduled",
    "The broker stored a job; sent in the process that scheduled it. Keyword: job.",
)
job_started: Final = SafeNamedSignal(
    "job_started",
    "The body of a job is about to run; sent in the job's own context. Keyword: job.",
)
job_schedule_retry: Final = SafeNamedSignal(
    "job_schedule_retry",
    "A job was stored for another try, at job.at. Keywords: job, err.",
)
job_failed: Final = SafeNamedSignal(
    "job_failed",
    "A job was stored as failed for ever. Keywords: job, err.",
)
job_cancelled: Final = SafeNamedSignal(
    "job_cancelled",
    "A job was stored as cancelled. Keyword: job.",
)
job_finished: Final = SafeNamedSignal(
    "job_finished",
    "A run of a job ended, whatever its outcome; the last signal of each run. Keywords: job, err (None on"
    " success), duration (seconds), result.",
)
job_progress: Final = SafeNamedSignal(
    "job_progress",
    "The body of a running job has called progress(); sent four times a second at most. Keyword: job, with"
    " job.progress.",
)
task_unknown: Final = SafeNamedSignal(
    "task_unknown",
    "Jobs wait for a task that is not attached to the engine of the workers; sent at most once a minute for"
    " each task and queue. Keywords: task_name, queue, count (of jobs).",
)
worker_started: Final = SafeNamedSignal(
    "worker_started",
    "A pool of workers begins to fetch jobs. Keyword: worker_name.",
)
worker_terminated: Final = SafeNamedSignal(
    "worker_terminated",
    "A pool of workers has drained, and sends nothing more. Keyword: worker_name.",
)
