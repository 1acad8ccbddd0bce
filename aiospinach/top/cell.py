"""Pieces of text for a terminal: cut and filled to a number of columns, whatever the letters are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from aiospinach.views import printable

MUTED = "$foreground 60%"
GOOD = "$text-success"
CAREFUL = "$text-warning"
BAD = "$text-error"
STRONG = "bold"
ELLIPSIS = "…"


class Cell(NamedTuple):
    """Text with a style."""

    text: str
    style: str = ""
    picture: Callable[[int], Content] | None = None
    """Draws the cell in a number of columns, in place of the text."""

    @property
    def width(self) -> int:
        """How many columns the text takes."""
        return cell_len(self.text)

    def fitted(self, width: int, *, is_right: bool) -> Content:
        """Return the cell in exactly ``width`` columns: cut with an ellipsis, or filled with spaces."""
        if self.picture is not None:
            return self.picture(width)
        text = cut(self.text, width)
        room = " " * (width - cell_len(text))
        return Content.styled(room + text if is_right else text + room, self.style)


EMPTY = Cell("")


def cell(text: str, style: str = "") -> Cell:
    """Return a cell with text of strangers: it can neither steer the terminal nor break the line."""
    return Cell(printable(text), style)


def cut(text: str, width: int) -> str:
    """Return the text in at most ``width`` columns, with an ellipsis if something is left out."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + ELLIPSIS if width > 0 else ""
