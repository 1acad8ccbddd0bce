"""What commands print: tables on a terminal, plain columns in a pipe, and JSON if asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from aiospinach.views.phrases import age, moment, number
from aiospinach.views.text import printable

Cell = str | int | float | datetime | None


def print_json(value: object) -> None:
    """Print structs as JSON, in lines that people can read."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print rows in columns: drawn on a terminal, else with spaces alone, a line for each row.

    Columns of numbers stand to the right. Nothing is cut: ids are to be copied.
    """
    words = [[_word(cell) for cell in row] for row in rows]
    numbers = [
        any(isinstance(row[place], (int, float)) for row in rows)
        and all(isinstance(row[place], (int, float)) or row[place] is None for row in rows)
        for place in range(len(columns))
    ]
    if is_terminal():
        _print_drawn(columns, words, numbers)
        return
    widths = [max(map(len, column)) for column in zip(columns, *words, strict=True)]
    for line in (columns, *words):
        cells = [
            word.rjust(width) if is_number else word.ljust(width)
            for word, width, is_number in zip(line, widths, numbers, strict=True)
        ]
        print("  ".join(cells).rstrip())


def is_terminal() -> bool:
    """Return whether people read the output, and not a program."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def age_of(at: datetime | None) -> str:
    """Return how long ago a moment was."""
    return "-" if at is None else age((datetime.now(UTC) - at).total_seconds())


def _word(cell: Cell) -> str:
    if cell is None or cell == "":
        return "-"
    if isinstance(cell, datetime):
        return moment(cell)
    if isinstance(cell, int):
        return number(cell) if is_terminal() else str(cell)
    return f"{cell:.2f}" if isinstance(cell, float) else printable(cell)


def _print_drawn(columns: Sequence[str], words: Sequence[Sequence[str]], numbers: Sequence[bool]) -> None:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, is_number in zip(columns, numbers, strict=True):
        table.add_column(column, justify="right" if is_number else "left", no_wrap=True)
    for row in words:
        table.add_row(*(Text(word, style=_STYLES.get(word, "")) for word in row))
    # A narrow terminal wraps the lines itself, and does not tear ids apart when they are copied.
    widest = Console(width=WIDEST)
    width = Measurement.get(widest, widest.options, table).maximum
    Console(highlight=False, width=width).print(table, soft_wrap=True)


WIDEST = 10_000
_STYLES = {
    **{"-": "dim", "0": "dim"},
    **{"running": "green", "dead": "red", "queued": "cyan", "paused": "yellow"},
}
