"""aiospinach: background jobs for asyncio, with signals that any function can receive."""

import typing

import msgspec

from . import brokers as _brokers
from . import signals
from .batch import Batch
from .brokers import Broker, MemoryBroker
from .cron import Cron
from .dependencies import Depends, Provided, Shared
from .done import Done
from .engine import (
    Blocking,
    DeadGroup,
    DeadJob,
    Engine,
    EngineOverview,
    Event,
    EventStream,
    Explanation,
    Finding,
    LatestEvents,
    MinuteRow,
    Page,
    Pause,
    PeriodicTask,
    Ping,
    QueueCounts,
    QueueOverview,
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

if typing.TYPE_CHECKING:
    from .brokers import RedisBroker

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
    "DeadGroup",
    "DeadJob",
    "Depends",
    "Done",
    "DuplicateTask",
    "Engine",
    "EngineOverview",
    "EnqueueUncertain",
    "Event",
    "EventStream",
    "EventsLost",
    "Explanation",
    "Finding",
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
    "LatestEvents",
    "LeaseLost",
    "MemoryBroker",
    "MinuteRow",
    "NoResult",
    "NotAttached",
    "Page",
    "Pause",
    "PeriodicTask",
    "Ping",
    "Progress",
    "Provided",
    "QueueCounts",
    "QueueOverview",
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


def __getattr__(name: str) -> typing.Any:
    """Import RedisBroker when it is used first: redis-py takes a fourth of the time of all imports."""
    if name != "RedisBroker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    broker = globals()[name] = _brokers.RedisBroker
    broker.__module__ = __name__
    return broker


for _name in __all__:  # users see where they import a class from
    _value = globals().get(_name)
    if isinstance(_value, type):
        if issubclass(_value, msgspec.Struct):  # its hints are names of the module that defines it
            _value.__annotations__ = typing.get_type_hints(_value, include_extras=True)
        _value.__module__ = __name__
