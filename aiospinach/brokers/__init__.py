"""Brokers store jobs: the contract, its arguments and results, and the two brokers."""

from typing import TYPE_CHECKING, Any

from .base import Broker
from .bulk import BulkResult, CancelSome, SteerDead
from .findings import FindingKind, Found, LookFindings
from .memory import MemoryBroker
from .overview import QueueSeen
from .pauses import LookPauses, Pause, Resume, StoredPause
from .places import (
    JobFacts,
    JobSeen,
    LeaseSeen,
    LookJobFacts,
    LookPlace,
    LookRows,
    Place,
    PlacePage,
)
from .questions import (
    Act,
    Cancel,
    Counts,
    Discard,
    LookCounts,
    LookDead,
    LookJob,
    LookOldest,
    LookWorkers,
    Question,
    Requeue,
    Reschedule,
    SteerResult,
    WorkerSeen,
)
from .records import (
    DeadRecord,
    Envelope,
    ExchangeResult,
    Fired,
    Firing,
    Lease,
    ParkedTask,
    Parking,
    RenewResult,
    Settlement,
    StoreInfo,
    SweepResult,
    TickResult,
)
from .reports import QueueReport, TaskRow, WorkerReport, WorkerRow
from .results import EndRecord, EndState, FoundJob, LookResults

if TYPE_CHECKING:
    from .redis import RedisBroker

__all__ = [
    "Act",
    "Broker",
    "BulkResult",
    "Cancel",
    "CancelSome",
    "Counts",
    "DeadRecord",
    "Discard",
    "EndRecord",
    "EndState",
    "Envelope",
    "ExchangeResult",
    "FindingKind",
    "Fired",
    "Firing",
    "Found",
    "FoundJob",
    "JobFacts",
    "JobSeen",
    "Lease",
    "LeaseSeen",
    "LookCounts",
    "LookDead",
    "LookFindings",
    "LookJob",
    "LookJobFacts",
    "LookOldest",
    "LookPauses",
    "LookPlace",
    "LookResults",
    "LookRows",
    "LookWorkers",
    "MemoryBroker",
    "ParkedTask",
    "Parking",
    "Pause",
    "Place",
    "PlacePage",
    "Question",
    "QueueReport",
    "QueueSeen",
    "RedisBroker",
    "RenewResult",
    "Requeue",
    "Reschedule",
    "Resume",
    "Settlement",
    "SteerDead",
    "SteerResult",
    "StoreInfo",
    "StoredPause",
    "SweepResult",
    "TaskRow",
    "TickResult",
    "WorkerReport",
    "WorkerRow",
    "WorkerSeen",
]


def __getattr__(name: str) -> Any:
    """Import RedisBroker when it is used first: redis-py takes a fourth of the time of all imports."""
    if name != "RedisBroker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .redis import RedisBroker

    globals()[name] = RedisBroker
    return RedisBroker
