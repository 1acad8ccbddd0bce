"""What the store of an engine says of itself, and how soon."""

from __future__ import annotations

import time

import msgspec

from ..brokers.base import Broker


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a store."""

    server: str
    """Its kind: redis, valkey or memory."""
    version: str
    round_trip: float
    """Seconds until the answer came."""
    clock_difference: float
    """Seconds by which the clock of the store is ahead of the clock of this machine. It is no more exact than
    half of the round trip."""


async def read_ping(broker: Broker) -> Ping:
    """Ask the store. The second question of an open connection is measured, and not its opening."""
    await broker.ping()
    asked, began = time.time(), time.monotonic()
    info = await broker.ping()
    round_trip = time.monotonic() - began
    return Ping(
        server=info.server,
        version=info.version,
        round_trip=round_trip,
        clock_difference=info.clock / 1000 - (asked + round_trip / 2),
    )
