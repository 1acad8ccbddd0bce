"""The brokers that the suite is run on."""

from __future__ import annotations

import atexit
import functools
from typing import Protocol

import pytest

from aiospinach import Broker, MemoryBroker, RedisBroker

from .servers import Server


class MakeBroker(Protocol):
    """Makes a broker with a lease in seconds."""

    def __call__(self, *, lease: float = 60.0, events: int = 0) -> Broker: ...


@functools.cache
def shared_server() -> Server:
    """One server for all tests, each of which has a namespace of its own."""
    server = Server().start()
    atexit.register(server.close)
    return server


def redis_broker(*, lease: float = 60.0, events: int = 0) -> Broker:
    """A broker on the shared server."""
    return RedisBroker(shared_server().unix_url, lease=lease, events=events)


BROKERS = [pytest.param(MemoryBroker, id="memory"), pytest.param(redis_broker, id="redis")]
