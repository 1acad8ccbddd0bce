"""Where the jobs of a program are, as a process of ``dev`` reports it."""

from __future__ import annotations

import asyncio
import enum

import msgspec

from aiospinach import BrokerUnavailable, Engine, MemoryBroker

from .exits import say
from .line import WorkerEnd

PAUSE = 0.5
"""Seconds between two looks for a store that is away."""


class Kind(enum.Enum):
    """How the program has chosen its store."""

    MEMORY = "memory"
    NAMED = "named"
    """By a URL, or a client, in the code."""
    UNNAMED = "unnamed"
    """By ``RedisBroker()``, which leaves it to the environment."""


class Store(msgspec.Struct, frozen=True):
    """Where the jobs of a program are."""

    kind: Kind
    place: str
    """The URL without its password."""


def store_of(engine: Engine) -> Store:
    """Return where the jobs of an engine are."""
    from aiospinach import RedisBroker

    broker = engine._broker
    if isinstance(broker, MemoryBroker):
        return Store(Kind.MEMORY, "memory")
    if not isinstance(broker, RedisBroker):
        return Store(Kind.NAMED, repr(broker))
    endpoint = broker._calls.endpoint
    return Store(Kind.NAMED if endpoint.is_named else Kind.UNNAMED, str(endpoint))


async def until_answered(engine: Engine, line: WorkerEnd, *, has_own_server: bool) -> bool:
    """Report the store to the supervisor, which may start it, and wait for an answer of the store.

    With ``has_own_server`` the supervisor starts a server for a program that names none. Returns whether the
    store answers; otherwise the supervisor has ended. Raises BrokerError if the store refuses this program.
    """
    store = store_of(engine)
    hint = _HINT_AT_PORT if has_own_server and store.kind is Kind.UNNAMED else _HINTS[store.kind]
    is_told = False
    while not line.is_closed:
        line.say(msgspec.json.encode(store))
        try:
            await engine.ping()
            return True
        except BrokerUnavailable as error:
            if not is_told:
                say(f"{error} dev goes on when it answers{hint}")
            is_told = True
        await asyncio.sleep(PAUSE)
    return False


_HINTS = {
    Kind.MEMORY: "",
    Kind.NAMED: "; RedisBroker() without a URL has dev start a server",
    Kind.UNNAMED: "; without $AIOSPINACH_URL it starts a server",
}
_HINT_AT_PORT = "; if another program listens at that port, give --server-port"
