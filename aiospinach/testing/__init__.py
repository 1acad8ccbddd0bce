"""The kit for tests of applications: their jobs in memory, and run by the clock of the test."""

from .blocking import BlockingJobs
from .jobs import Jobs
from .memory import memory
from .outage import Outage

__all__ = ["BlockingJobs", "Jobs", "Outage", "memory"]
