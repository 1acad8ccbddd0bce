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

__all__ = [
    "Broker",
    "Cancel",
    "Counts",
    "DeadRecord",
    "Discard",
    "Envelope",
    "ExchangeResult",
    "Fired",
    "Firing",
    "Lease",
    "LookCounts",
    "LookDead",
    "LookJob",
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
