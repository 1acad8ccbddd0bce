"""Names and values of attributes: the conventions for messaging have no stable package yet."""

from __future__ import annotations

from typing import Final

from aiospinach import Job, JobStatus

SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
MESSAGE_ID: Final = "messaging.message.id"
CLIENT_ID: Final = "messaging.client.id"
ERROR_TYPE: Final = "error.type"
NAMESPACE: Final = "aiospinach.namespace"
TASK: Final = "aiospinach.task"
RETRIES: Final = "aiospinach.retries"
OUTCOME: Final = "aiospinach.outcome"
STATE: Final = "aiospinach.state"

_OUTCOMES: Final = {
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
    JobStatus.WAITING: "retried",
    JobStatus.QUEUED: "released",
    JobStatus.NOT_SET: "lost",
}


def attributes_of(job: Job, operation: str, kind: str) -> dict[str, str | int]:
    """The attributes that spans and metrics of a job share. Their values are few."""
    return {
        SYSTEM: "aiospinach",
        OPERATION_NAME: operation,
        OPERATION_TYPE: kind,
        DESTINATION: job.queue,
        NAMESPACE: job.namespace,
        TASK: job.task_name,
    }


def outcome_of(job: Job) -> str:
    """The outcome of a try: succeeded, failed, cancelled, retried, released or lost."""
    return _OUTCOMES.get(job.status, "lost")


def name_of(error: BaseException) -> str:
    """The class of an error, with its module unless that is ``builtins``."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
