"""Checks a server before it is used: its clock, its version, and whether it may drop jobs."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ...exceptions import BrokerError
from ...logs import Log
from . import schema
from .errors import node_of_a_cluster
from .transports import Transport

logger: Log = Log("aiospinach.broker")

OLDEST_REDIS = (7, 0)


async def shake_hands(transport: Transport, endpoint: str, *, until: float = math.inf) -> float:
    """Return the server's clock minus ``time.monotonic()``, in seconds.

    Waits for answers until this moment of ``time.monotonic()``. Raises BrokerError if the server is too old
    or a node of a Cluster, and logs a warning if it may drop jobs when its memory is full.
    """
    seconds, microseconds = await transport.producer_call("TIME", until=until)
    clock = int(seconds) + int(microseconds) / 1e6 - time.monotonic()
    server, version, mode = await read_server(partial(transport.producer_call, until=until))
    if server == "redis" and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise BrokerError(
            f"{endpoint} is Redis {version}, and aiospinach needs Redis 7.0 or newer, or Valkey"
        )
    if mode == "cluster" and "+cluster://" not in endpoint:
        raise BrokerError(node_of_a_cluster(endpoint))
    with contextlib.suppress(BrokerError):  # a user may be denied INFO
        policy = _policy_in(_text(await transport.producer_call("INFO", "memory", until=until)))
        if policy != "noeviction":
            logger.warning(
                "%s has maxmemory-policy %s and may drop jobs: set it to noeviction", endpoint, policy
            )
    return clock


async def read_server(call: Callable[..., Awaitable[Any]]) -> tuple[str, str, str]:
    """Return the kind of a server, its version and its mode. ``call`` sends it a command."""
    answer = await call("HELLO")
    facts = answer if isinstance(answer, dict) else dict(schema.pairs(answer))
    named = {_text(name): value for name, value in facts.items()}
    defaults = {"server": "redis", "version": "0", "mode": "standalone"}
    server, version, mode = (_text(named.get(name, default)) for name, default in defaults.items())
    return server, version, mode


def _policy_in(memory: str) -> str:
    lines = (line.partition(":") for line in memory.splitlines())
    return next((value.strip() for name, _, value in lines if name == "maxmemory_policy"), "noeviction")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
