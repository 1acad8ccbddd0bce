"""aiospinach: background jobs for asyncio, with signals that any function can receive."""

import typing

import msgspec

from . import signals
from .batch import Batch
from .brokers import Broker, MemoryBroker, RedisBroker
from .cron import Cron
from .dependencies import Depends, Provided, Shared
from .done import Done
from .engine import (
    Blocking,
    DeadJob,
    Engine,
    Event,
    EventStream,
    Explanation,
    MinuteRow,
    Page,
    Pause,
    QueueCounts,
    TaskNumbers,
    Verdict,
    WorkerInfo,
)
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
    EventsLost,
    Interrupted,
    InvalidArguments,
    InvalidResult,
    InvalidValue,
    JobCancelled,
    JobError,
    JobFailed,
    JobLost,
    JobTimeout,
    LeaseLost,
    NoResult,
    NotAttached,
    ResultCancelled,
    ResultExpired,
    RetryException,
    UnknownJob,
    UnknownQueue,
    UnknownTask,
    UnsupportedType,
    WorkerLost,
    WouldBlock,
)
from .job import Job, JobStatus, Progress, current_job
from .registry import Tasks
from .release import __version__
from .task import Task
from .workers import Health, progress, should_stop

__all__ = [
    "AbortException",
    "AiospinachError",
    "AlreadyRunning",
    "Batch",
    "BatchPartlyStored",
    "BatchTooLarge",
    "Blocking",
    "Broker",
    "BrokerError",
    "BrokerUnavailable",
    "Cron",
    "DeadJob",
    "Depends",
    "Done",
    "DuplicateTask",
    "Engine",
    "EnqueueUncertain",
    "Event",
    "EventStream",
    "EventsLost",
    "Explanation",
    "Health",
    "Interrupted",
    "InvalidArguments",
    "InvalidResult",
    "InvalidValue",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobLost",
    "JobStatus",
    "JobTimeout",
    "LeaseLost",
    "MemoryBroker",
    "MinuteRow",
    "NoResult",
    "NotAttached",
    "Page",
    "Pause",
    "Progress",
    "Provided",
    "QueueCounts",
    "RedisBroker",
    "ResultCancelled",
    "ResultExpired",
    "RetryException",
    "Shared",
    "Task",
    "TaskNumbers",
    "Tasks",
    "UnknownJob",
    "UnknownQueue",
    "UnknownTask",
    "UnsupportedType",
    "Verdict",
    "WorkerInfo",
    "WorkerLost",
    "WouldBlock",
    "__version__",
    "current_job",
    "progress",
    "should_stop",
    "signals",
]

for _name in __all__:  # users see where they import a class from
    _value = globals()[_name]
    if isinstance(_value, type):
        if issubclass(_value, msgspec.Struct):  # its hints are names of the module that defines it
            _value.__annotations__ = typing.get_type_hints(_value, include_extras=True)
        _value.__module__ = __name__
