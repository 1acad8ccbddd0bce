"""The engine: schedules, cancels and looks up jobs, and starts and stops workers."""

from .blocking import Blocking
from .checkup import Finding
from .counts import QueueCounts
from .dead_groups import DeadGroup
from .dead_jobs import DeadJob
from .engine import Engine
from .event import Event
from .event_stream import EventStream
from .explanation import Explanation, Verdict
from .latest_events import LatestEvents
from .listing import Page
from .live_workers import WorkerInfo
from .overview import EngineOverview, QueueOverview
from .pauses import Pause
from .periodic import PeriodicTask
from .ping import Ping
from .throughput import MinuteRow, TaskNumbers

__all__ = [
    "Blocking",
    "DeadGroup",
    "DeadJob",
    "Engine",
    "EngineOverview",
    "Event",
    "EventStream",
    "Explanation",
    "Finding",
    "LatestEvents",
    "MinuteRow",
    "Page",
    "Pause",
    "PeriodicTask",
    "Ping",
    "QueueCounts",
    "QueueOverview",
    "TaskNumbers",
    "Verdict",
    "WorkerInfo",
]
