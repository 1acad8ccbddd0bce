"""The broker that keeps jobs in Redis or Valkey. Nothing outside of this folder imports redis."""

from .broker import RedisBroker

__all__ = ["RedisBroker"]
