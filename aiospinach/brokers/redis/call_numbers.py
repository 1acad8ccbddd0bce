"""Numbers of round trips, by which the server recognises a repeat and stores nothing twice."""

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
"""Seconds for which a round trip without an answer keeps its field, after it was last sent. The server keeps
the answer for the same time."""


class CallNumber(msgspec.Struct, eq=False):
    """Identifies one round trip: a field of the session, and the number of the call in this field."""

    field: int = -1
    value: int = 0
    was_sent: bool = False
    """A copy of the round trip may have arrived, or may still arrive."""
    answer: list[Any] | None = None
    """The server's answer to the first copy of the round trip that was answered."""


class CallNumbers:
    """The fields of a session in one queue.

    A field belongs to one round trip until the server has answered it, and then to another. So there are as
    many fields as round trips without an answer. Numbers only grow. A copy that arrives after its field was
    given to another round trip has a lower number, and the server refuses it.
    """

    def __init__(self) -> None:
        self._values = itertools.count(1)
        self._fields = itertools.count()
        self._free: list[int] = []
        self._taken: OrderedDict[CallNumber, float] = OrderedDict()
        """The numbers that have a field, and when each was last sent, by time.monotonic()."""
        # Reentrant: the garbage collector may end a forgotten round trip in the middle of a call.
        self._lock = RLock()

    def assign(self, call_number: CallNumber) -> None:
        """Note that a round trip is sent now. It gets a field and a value, unless it has them."""
        now = time.monotonic()
        with self._lock:
            while self._taken:
                oldest, sent_at = next(iter(self._taken.items()))
                if now - sent_at < KEPT_FOR:
                    break
                self.release(oldest)
            if call_number not in self._taken:
                call_number.field = self._free.pop() if self._free else next(self._fields)
                call_number.value = next(self._values)
            self._taken[call_number] = now
            self._taken.move_to_end(call_number)

    def release(self, call_number: CallNumber) -> None:
        """Free the field for another round trip, if this one has a field."""
        with self._lock:
            if self._taken.pop(call_number, None) is not None:
                self._free.append(call_number.field)

    def abandon(self, call_number: CallNumber) -> None:
        """Give up the field for good: the round trip gets another one."""
        with self._lock:
            self._taken.pop(call_number, None)


class ProducerSession:
    """The session in which a process schedules. All its event loops share it: there may be a loop for each
    call, in several threads. A forked child has a session of its own."""

    def __init__(self) -> None:
        self._begin()
        forks.forget_in_child(self)

    def _forget_parent(self) -> object:
        inherited = self._by_queue
        self._begin()
        return inherited

    def of(self, queue: str) -> CallNumbers:
        """Return the numbers of one queue."""
        return self._by_queue.setdefault(queue, CallNumbers())

    def _begin(self) -> None:
        self.session: str = secrets.token_hex(16)
        self._by_queue: dict[str, CallNumbers] = {}
