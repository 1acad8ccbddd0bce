"""The latest events of one queue, which the readers of an event loop share."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

from ..brokers.events import EventRow, Position

ROWS_KEPT = 256


class EventFeed:
    """The rows that were read last. A reader that falls behind them reads from the store by itself: so no
    reader keeps events in memory, however slow it is."""

    def __init__(self, end: Position) -> None:
        self.end: Position = end
        """The place of the last row that was read."""
        self.next: int = 0
        """The number of the next row."""
        self._rows: deque[EventRow] = deque()
        self._start = end
        """The place in front of the first row that is kept."""

    def add(self, rows: Sequence[EventRow]) -> None:
        """Add rows that were read."""
        for row in rows:
            self._rows.append(row)
            self.next += 1
            self.end = row.position
        while len(self._rows) > ROWS_KEPT:  # guard: bounded feed
            self._start = self._rows.popleft().position

    def begin_again(self, end: Position) -> None:
        """Forget all rows: the store has lost some. Each reader learns of it from the store."""
        self._rows.clear()
        self.next += 1
        self.end = self._start = end

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
        behind = sum(1 for row in self._rows if row.position > position)
        return self.next - behind
