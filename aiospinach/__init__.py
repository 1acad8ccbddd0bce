"""aiospinach: background jobs for asyncio, with signals that any function can receive."""

from . import signals
from .batch import Batch
from .brokers import Broker, MemoryBroker, RedisBroker
from .cron import Cron
from .engine import DeadJob, Engine
from .exceptions import (
    AbortException,
    AiospinachError,
    AlreadyRunning,
    BatchPartlyStored,
    BatchTooLarge,
    BrokerError,
    BrokerUnavailable,
    DuplicateTask,
    EnqueueUncertain,
    Interrupted,
    InvalidArguments,
    InvalidValue,
    JobCancelled,
    JobError,
    JobTimeout,
    LeaseLost,
    NotAttached,
    RetryException,
    UnknownQueue,
    UnknownTask,
    UnsupportedType,
    WorkerLost,
)
from .job import Job, JobStatus, current_job
from .registry import Tasks
from .task import Task
from .workers import Health

__version__ = "0.1.0"

__all__ = [
    "AbortException",
    "AiospinachError",
    "AlreadyRunning",
    "Batch",
    "BatchPartlyStored",
    "BatchTooLarge",
    "Broker",
    "BrokerError",
    "BrokerUnavailable",
    "Cron",
    "DeadJob",
    "DuplicateTask",
    "Engine",
    "EnqueueUncertain",
    "Health",
    "Interrupted",
    "InvalidArguments",
    "InvalidValue",
    "Job",
    "JobCancelled",
    "JobError",
    "JobStatus",
    "JobTimeout",
    "LeaseLost",
    "MemoryBroker",
    "NotAttached",
    "RedisBroker",
    "RetryException",
    "Task",
    "Tasks",
    "UnknownQueue",
    "UnknownTask",
    "UnsupportedType",
    "WorkerLost",
    "__version__",
    "current_job",
    "signals",
]

for _name in __all__:
    _value = globals()[_name]
    if isinstance(_value, type):  # its repr names the module that users import it from
        _value.__module__ = __name__
