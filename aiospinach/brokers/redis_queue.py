"""What one process knows of a queue that lies in Redis."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from ..outcome import Action
from . import wire
from .base import Settlement, Swept

logger: logging.Logger = logging.getLogger("aiospinach.broker")


class KnownQueue:
    """Its keys, the limits as the server had them last, and the calls that are not answered."""

    def __init__(self, keys: wire.Keys, session: str) -> None:
        self.keys: wire.Keys = keys
        self.session: str = session
        self.seq: int = 0
        self.ticks: int = 0
        self.version: bytes = b"0"
        self.limits: dict[str, int] = {}
        self.periodic: set[str] = set()
        self.unanswered: tuple[Sequence[Settlement], int, list[str], list[Any], float] | None = None
        self.registered: dict[str, int] = {}
        self.not_limits: set[bytes] = set()
        """Entries among the limits that are none, and were told of."""
        self.is_forgotten: bool = False
        """The server has lost when periodic tasks are due."""
        self.is_due_sooner: bool = False
        """A wake-up said that something is due earlier than the last tick told; the next exchange says so."""
        self.is_nudged: bool = False
        """The wait that this queue is the first of is to end."""
        self.settled: tuple[Sequence[Settlement], list[str], list[str]] | None = None
        """What the server has settled, fenced and cancelled, for a caller who has no answer yet."""

    def learn(self, flat: Sequence[bytes]) -> dict[str, int]:
        """Take the limits as the server has them, but for what is none: other hands may have been there.

        Returns what this process has registered and the server has lost: all of it, if the server was emptied
        or went back to an older version, or what it was told shortly before another master took over. Each
        limit is as the server had it last, and so no program undoes what another has changed. Nothing is
        learned then: what is known stays stale, and nothing is leased, until the server has it again.
        """
        table = dict(wire.pairs(flat))
        version = table.pop(b" version", b"")
        is_older = _moment_of(version) < _moment_of(self.version)
        lost = {
            task: self.limits.get(task, limit)
            for task, limit in self.registered.items()
            if is_older or (limit and task.encode() not in table)
        }
        if lost:  # guard: lost limits
            self.is_forgotten = True
            return lost
        self.version = version or b"0"
        self.limits = {}
        for task, limit in table.items():
            if task.isascii() and limit.isdigit() and len(limit) < 100:
                self.limits[task.decode()] = int(limit)
            elif task not in self.not_limits:
                self.not_limits.add(task)
                logger.warning(
                    "%s has an entry %a that is no limit, and is left out: HDEL it", self.keys.limits, task
                )
        return lost

    def exchange_arguments(self, settled: Sequence[Settlement], want: int, lease: float) -> list[Any]:
        """What the script of an exchange gets: what is done in rows of one task, the rest one by one."""
        arguments = [
            self.session,
            self.seq,
            want,
            wire.milliseconds(lease),
            self.version,
            *self.limit_arguments,
        ]
        for (task, action), alike in groupby(settled, lambda s: (s.lease.job.task, s.action)):
            if action is Action.DONE:
                leases = [settlement.lease.id for settlement in alike]
                arguments += (task, len(leases), *leases)
                continue
            for settlement in alike:
                arguments += (task, 0, settlement.lease.id, action.value)
                arguments += (wire.milliseconds(settlement.delay), settlement.detail)
        return arguments

    def swept(self, is_something_to_run: bool, due: int, version: bytes) -> Swept:
        """What a sweep saw. If the limits have changed an exchange has to learn them, and if the server has
        lost what was registered a tick has to find out."""
        is_stale = (version or b"0") != self.version
        if is_stale or self.is_forgotten:
            return Swept(is_something_to_run or is_stale, 0.0)
        return Swept(is_something_to_run, None if due < 0 else due / 1000)

    @property
    def limit_arguments(self) -> list[Any]:
        flat: list[Any] = [len(self.limits)]
        for task, limit in self.limits.items():
            flat += (task, limit)
        return flat


def _moment_of(version: bytes) -> int:
    """Versions are moments, in milliseconds, and only grow; 0 if there is none, or other hands spoilt it."""
    return int(version) if version.isdigit() and len(version) < 15 else 0
