"""The engine: schedules, cancels and looks up jobs, and starts and stops workers."""

from .blocking import Blocking
from .counts import QueueCounts
from .dead_jobs import DeadJob
from .engine import Engine
from .pauses import Pause

__all__ = ["Blocking", "DeadJob", "Engine", "Pause", "QueueCounts"]
