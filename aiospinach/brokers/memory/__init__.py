"""The broker that keeps jobs in the memory of one process."""

from .broker import MemoryBroker

__all__ = ["MemoryBroker"]
