"""What the end of a job means for those that wait for its result: a value, or an error."""

from __future__ import annotations

from typing import Any

from ..brokers.records import DeadRecord, Envelope
from ..brokers.results import EndState
from ..exceptions import (
    InvalidValue,
    JobFailed,
    JobLost,
    ResultCancelled,
    ResultExpired,
    UnknownJob,
    WorkerLost,
)
from ..job import Job, JobStatus
from ..task import Task
from .attached_tasks import AttachedTasks
from .result_hub import End
from .snapshots import detail_of


def check_keeps_results(task: Task[..., Any]) -> None:
    """Raise InvalidValue if the results of a task are not kept."""
    if task.result_ttl is None:
        raise InvalidValue(
            f"task {task.name!r} keeps no results: give it result_ttl=, as in"
            " @engine.task(result_ttl=timedelta(hours=1))"
        )


def result_of(end: End, job: Job | str, tasks: AttachedTasks) -> Any:
    """Return the result of a job that has ended.

    Raises NoResult, InvalidResult, InvalidValue or UnknownTask.
    """
    if end is None:
        raise _unknown(job)
    if isinstance(end, DeadRecord):
        raise _failed(end, job)
    task = tasks.find(end.task)
    if isinstance(end, Envelope):
        check_keeps_results(task)
        raise InvalidValue(
            f"{named(job)} was scheduled when its task {task.name!r} had no result_ttl: its result is not"
            " kept"
        )
    if end.state is EndState.CANCELLED:
        raise ResultCancelled(f"{named(job)} was cancelled, and has no result")
    return task._result.decode(end.body)


def named(job: Job | str) -> str:
    """The job in an error: without its status, which was true when the caller got the snapshot."""
    return f"job {job.id!r} of task {job.task_name!r}" if isinstance(job, Job) else f"job {job!r}"


def _unknown(job: Job | str) -> UnknownJob:
    if isinstance(job, Job) and job.status is not JobStatus.NOT_SET:
        return ResultExpired(
            f"{named(job)} is not stored any more, and neither is its result: a result is kept for the"
            " result_ttl of its task"
        )
    return UnknownJob(
        f"{named(job)} is not known: no such job lives, and no result of it is kept in the queues that were"
        " searched"
    )


def _failed(end: DeadRecord, job: Job | str) -> JobFailed:
    detail = detail_of(end)
    reason, error, message = (detail.get(name, "") for name in ("reason", "error", "message"))
    is_lost = error == f"{WorkerLost.__module__}.{WorkerLost.__qualname__}"
    kind = JobLost if is_lost else JobFailed
    why = f"{error}: {message}" if message else error
    failed = kind(f"{named(job)} failed ({reason}): {why}", reason=reason, error=error, message=message)
    if traceback := detail.get("traceback", ""):
        failed.add_note(f"The traceback of its last run:\n{traceback}")
    return failed
