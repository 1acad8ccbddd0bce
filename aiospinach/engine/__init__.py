"""The engine: schedules, cancels and looks up jobs, and starts and stops workers."""

from .blocking import Blocking
from .dead_jobs import DeadJob
from .engine import Engine

__all__ = ["Blocking", "DeadJob", "Engine"]
