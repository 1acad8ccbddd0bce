"""The latest events of one queue, which the readers of an event loop share."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from operator import attrgetter

from ..brokers.events import EventPlace, EventRow, Position

ROWS_KEPT = 256


class EventFeed:
    """The rows that were read last. A reader that falls behind them reads from the store by itself: so no
    reader keeps events in memory, however slow it is."""

    def __init__(self, place: EventPlace) -> None:
        self.end: Position = place.events
        """The place of the last row that was read."""
        self.end_of_steps: Position = place.steps
        """The same for ``job_progress``."""
        self.next: int = 0
        """The number of the next row."""
        self._rows: deque[EventRow] = deque()
        self._start: Position = place.events
        """The place in front of the first row that is kept."""

    @property
    def place(self) -> EventPlace:
        """How far the queue was read."""
        return EventPlace(self.end, self.end_of_steps)

    def add(self, rows: Sequence[EventRow], steps: Sequence[EventRow]) -> None:
        """Add rows that were read, in the order in which they were stored."""
        for row in heapq.merge(rows, steps, key=attrgetter("position")):
            self._rows.append(row)
            self.next += 1
            if row.is_step:
                self.end_of_steps = row.position
            else:
                self.end = row.position
        while len(self._rows) > ROWS_KEPT:  # guard: bounded feed
            row = self._rows.popleft()
            if not row.is_step:
                self._start = row.position

    def begin_again(self, place: EventPlace) -> None:
        """Forget all rows: the store has lost some. Each reader learns of it from the store."""
        self._rows.clear()
        self.next += 1
        self.end = self._start = place.events
        self.end_of_steps = place.steps

    def has(self, number: int) -> bool:
        """Whether all rows from this number on are kept."""
        return number >= self.next - len(self._rows)

    def rows_from(self, number: int) -> list[EventRow]:
        """Return the rows from this number on."""
        return list(itertools.islice(self._rows, number - self.next + len(self._rows), None))

    def number_after(self, position: Position) -> int | None:
        """Return the number of the first row behind a place; None if it is not kept, or the feed has not come
        to the place yet."""
        if position < self._start or position > self.end:  # guard: feed that is behind
            return None
        behind = 0
        for row in reversed(self._rows):
            if not row.is_step and row.position <= position:
                break
            behind += 1
        return self.next - behind
