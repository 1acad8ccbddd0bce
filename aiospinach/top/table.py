"""Lays out tables: which columns a width has room for, and how wide each is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from textual.content import Content

from .cell import MUTED, Cell

GAP = 2


class Column(NamedTuple):
    """A column of a table."""

    title: str
    least: int
    """Its width in a narrow terminal, at least. If there is no room for it, the column is left out."""
    most: int = 200
    is_right: bool = False
    rank: int = 0
    """Where room is short, the column with the highest rank is left out first; 0 always stays."""
    grows: int = 0
    """Its share of the room that is left."""


class Row(NamedTuple):
    """A row of a table."""

    key: str
    """Names the row, so that the highlight stays on it."""
    cells: Sequence[Cell]


class Table(NamedTuple):
    """Columns and rows, for any width."""

    columns: Sequence[Column]
    rows: Sequence[Row]

    def lay_out(self, width: int) -> Lines:
        """Return the header, and a line for each row, in exactly ``width`` columns."""
        places = self._places(width)
        widths = self._widths(places, width)
        header = [Cell(self.columns[place].title, MUTED) for place in places]
        return Lines(
            self._line(places, widths, header),
            [self._line(places, widths, [row.cells[place] for place in places]) for row in self.rows],
        )

    def _places(self, width: int) -> list[int]:
        """The columns that there is room for."""
        places = list(range(len(self.columns)))
        by_rank = sorted(places, key=lambda place: self.columns[place].rank)
        while by_rank and self.columns[by_rank[-1]].rank and self._need(places) > width:
            places.remove(by_rank.pop())
        return places

    def _need(self, places: Sequence[int]) -> int:
        return sum(min(self.columns[place].least, self._wish(place)) + GAP for place in places) - GAP

    def _wish(self, place: int) -> int:
        """How wide a column is if there is room enough; one that grows takes what is left."""
        column = self.columns[place]
        if column.grows:
            return column.least
        widest = max((row.cells[place].width for row in self.rows), default=0)
        return min(max(len(column.title), widest), column.most)

    def _widths(self, places: Sequence[int], width: int) -> list[int]:
        wishes = [self._wish(place) for place in places]
        widths = [min(self.columns[place].least, wish) for place, wish in zip(places, wishes, strict=True)]
        room = width - sum(widths) - GAP * (len(places) - 1)
        for number, wish in enumerate(wishes):  # the first columns are the most important ones
            is_greedy = self.columns[places[number]].grows > 0
            more = 0 if is_greedy else max(0, min(room, wish - widths[number]))
            widths[number] += more
            room -= more
        shares = [self.columns[place].grows for place in places]
        for number, share in enumerate(shares):
            if room > 0 and share:
                column = self.columns[places[number]]
                more = min(room * share // sum(shares[number:]), max(0, column.most - widths[number]))
                widths[number] += more
                room -= more
        return widths

    def _line(self, places: Sequence[int], widths: Sequence[int], cells: Sequence[Cell]) -> Content:
        fitted = [
            cell.fitted(width, is_right=self.columns[place].is_right)
            for place, width, cell in zip(places, widths, cells, strict=True)
        ]
        return Content(" " * GAP).join(fitted)


class Lines(NamedTuple):
    """A table as it is drawn."""

    header: Content
    rows: Sequence[Content]
