"""Where jobs are stored: the contract of a broker, and the brokers."""

from .base import Broker
from .memory import MemoryBroker
from .redis import RedisBroker

__all__ = ["Broker", "MemoryBroker", "RedisBroker"]
