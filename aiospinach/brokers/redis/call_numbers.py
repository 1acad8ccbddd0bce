"""The numbers by which the server recognises a repeated round trip, so that it stores nothing twice."""

from __future__ import annotations

import itertools
import secrets
import time
from collections import OrderedDict
from threading import RLock
from typing import Any

import msgspec

from ... import forks

KEPT_FOR = 900.0
"""For how many seconds after its last sending a trip without an answer keeps its field. The server remembers
it for as long."""


class CallNumber(msgspec.Struct, eq=False):
    """What one trip is known by: a field of the session, and the number of the call in it."""

    field: int = -1
    number: int = 0
    was_sent: bool = False
    """A copy of the trip may have arrived, or may arrive still."""
    answer: list[Any] | None = None
    """What the server answered, to whichever copy of the trip was first."""


class CallNumbers:
    """The fields of the session in one queue.

    A field belongs to one round trip until that is answered, and then to another: there are as many fields
    as round trips without an answer. Numbers only grow. So a copy that arrives after its field was given to
    another round trip has a lower number, by which the server refuses it.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._fields = itertools.count()
        self._free: list[int] = []
        self._taken: OrderedDict[CallNumber, float] = OrderedDict()
        """Those that have a field, and when they were sent last, by time.monotonic()."""
        # Reentrant, for a call may be interrupted by the collection of a trip whose loop was closed.
        self._lock = RLock()

    def stamp(self, number: CallNumber) -> None:
        """Have it be sent now: it gets a field and a number, unless it has them."""
        now = time.monotonic()
        with self._lock:
            while self._taken:
                oldest, sent_at = next(iter(self._taken.items()))
                if now - sent_at < KEPT_FOR:
                    break
                self.give_back(oldest)
            if number not in self._taken:
                number.field = self._free.pop() if self._free else next(self._fields)
                number.number = next(self._numbers)
            self._taken[number] = now
            self._taken.move_to_end(number)

    def give_back(self, number: CallNumber) -> None:
        """Let others have its field, if it has one."""
        with self._lock:
            if self._taken.pop(number, None) is not None:
                self._free.append(number.field)

    def leave(self, number: CallNumber) -> None:
        """Have it get another field, and nobody this one."""
        with self._lock:
            self._taken.pop(number, None)


class ProducerSession:
    """The numbers of one process, whose event loops have one session in common for what they schedule: there
    may be a loop for each call, in several threads. A process that is forked has another session."""

    def __init__(self) -> None:
        self._begin()
        forks.forget_in_child(self)

    def _forget_parent(self) -> object:
        inherited = self._by_queue
        self._begin()
        return inherited

    def of(self, queue: str) -> CallNumbers:
        """Those of one queue."""
        return self._by_queue.setdefault(queue, CallNumbers())

    def _begin(self) -> None:
        self.session: str = secrets.token_hex(16)
        self._by_queue: dict[str, CallNumbers] = {}
