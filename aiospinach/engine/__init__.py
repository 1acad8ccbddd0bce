"""The engine: from a call to a stored job, and from a start of workers to their stop."""

from .dead_jobs import DeadJob
from .engine import Engine

__all__ = ["DeadJob", "Engine"]
