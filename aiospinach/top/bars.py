"""Bars of the last hour, drawn with block characters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from operator import itemgetter

from textual.content import Content

PLAIN = "$text-success 70%"
WITH_ERRORS = "$text-warning 85%"
FAILING = "$text-error"

BLOCKS = " ▁▂▃▄▅▆▇█"
LEVELS = len(BLOCKS) - 1
SOME = 0.02
MOSTLY = 0.5
"""From these shares of failed tries on, a bar has another colour."""


def sparkline(counts: Sequence[int], failed: Sequence[int], width: int) -> Content:
    """Return a line of bars, the highest of which fills its line. Bars with failed tries have a colour."""
    return chart(counts, failed, width, 1)[0]


def chart(counts: Sequence[int], failed: Sequence[int], width: int, height: int) -> list[Content]:
    """Return lines of bars, the top line first. The minutes share the width: a column is the average of its
    minutes."""
    bars = list(zip(_spread(counts, width), _spread(failed, width), strict=True))
    highest = max((count for count, _ in bars), default=0.0)
    levels = [_level(count, highest, height) for count, _ in bars]
    styles = [_style(count, errors) for count, errors in bars]
    return [_line(levels, styles, line) for line in reversed(range(height))]


def _spread(counts: Sequence[int], width: int) -> list[float]:
    """The average of the minutes of each column."""
    width = max(1, width)
    edges = [column * len(counts) // width for column in range(width + 1)]
    groups = [counts[first : max(last, first + 1)] for first, last in pairwise(edges)]
    return [sum(group) / len(group) for group in groups]


def _line(levels: Sequence[int], styles: Sequence[str], line: int) -> Content:
    """One line of the bars; 0 is the lowest."""
    blocks = [BLOCKS[min(LEVELS, max(0, level - line * LEVELS))] for level in levels]
    groups = groupby(zip(styles, blocks, strict=True), key=itemgetter(0))
    return Content.assemble(*[("".join(block for _, block in group), style) for style, group in groups])


def _level(count: float, highest: float, height: int) -> int:
    """How many eighths of a line a bar has; at least one, unless nothing has ended."""
    return max(1, round(count / highest * height * LEVELS)) if count else 0


def _style(count: float, errors: float) -> str:
    if errors < SOME * count or not errors:
        return PLAIN
    return FAILING if errors >= MOSTLY * count else WITH_ERRORS
