"""The engine: schedules, cancels and looks up jobs, and starts and stops workers."""

from .blocking import Blocking
from .counts import QueueCounts
from .dead_jobs import DeadJob
from .engine import Engine
from .event import Event
from .event_stream import EventStream
from .explanation import Explanation, Verdict
from .listing import Page
from .live_workers import WorkerInfo
from .pauses import Pause
from .throughput import MinuteRow, TaskNumbers

__all__ = [
    "Blocking",
    "DeadJob",
    "Engine",
    "Event",
    "EventStream",
    "Explanation",
    "MinuteRow",
    "Page",
    "Pause",
    "QueueCounts",
    "TaskNumbers",
    "Verdict",
    "WorkerInfo",
]
