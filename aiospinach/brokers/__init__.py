"""Brokers store jobs: the contract, its arguments and results, and the two brokers."""

from .base import Broker
from .memory import MemoryBroker
from .questions import (
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
    SweepResult,
    TickResult,
)
from .redis import RedisBroker
from .results import EndRecord, EndState, FoundJob, LookResults

__all__ = [
    "Broker",
    "Cancel",
    "Counts",
    "DeadRecord",
    "Discard",
    "EndRecord",
    "EndState",
    "Envelope",
    "ExchangeResult",
    "Fired",
    "Firing",
    "FoundJob",
    "Lease",
    "LookCounts",
    "LookDead",
    "LookJob",
    "LookOldest",
    "LookResults",
    "LookWorkers",
    "MemoryBroker",
    "ParkedTask",
    "Parking",
    "Question",
    "RedisBroker",
    "RenewResult",
    "Requeue",
    "Settlement",
    "SteerResult",
    "SweepResult",
    "TickResult",
    "WorkerSeen",
]
