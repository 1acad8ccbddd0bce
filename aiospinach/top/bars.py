"""Bars of the last hour, drawn with block characters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from textual.content import Content

PLAIN = "$text-success 70%"
WITH_ERRORS = "$text-warning"
FAILING = "$text-error"

BLOCKS = " ▁▂▃▄▅▆▇█"
LEVELS = len(BLOCKS) - 1
MOSTLY = 0.5
"""From this share of failed tries on, a bar is red."""


def sparkline(counts: Sequence[int], failed: Sequence[int], width: int) -> Content:
    """Return a line of bars, the highest of which fills its line. Bars with failed tries have a colour."""
    return chart(counts, failed, width, 1)[0]


def chart(counts: Sequence[int], failed: Sequence[int], width: int, height: int) -> list[Content]:
    """Return lines of bars, the top line first. Several minutes may share a bar, which is their average; if
    there is room, each minute has several columns. The bars are at the right."""
    bars = _shared(list(zip(counts, failed, strict=True)), width)
    highest = max((count for count, _ in bars), default=0)
    levels = [_level(count, highest, height) for count, _ in bars]
    styles = [_style(count, errors) for count, errors in bars]
    columns = max(1, width // max(1, len(bars)))
    room = " " * (width - columns * len(bars))
    lines = []
    for line in reversed(range(height)):
        blocks = [BLOCKS[min(LEVELS, max(0, level - line * LEVELS))] * columns for level in levels]
        styled = [
            ("".join(block for _, block in group), style)
            for style, group in groupby(zip(styles, blocks, strict=True), key=lambda pair: pair[0])
        ]
        lines.append(Content.assemble(room, *styled))
    return lines


def _shared(bars: list[tuple[int, int]], width: int) -> list[tuple[float, float]]:
    """As many bars as fit into the width; the last ones are the latest."""
    share = -(-len(bars) // width) if width > 0 else 1
    first = len(bars) % share
    groups = [bars[:first]] if first else []
    groups += [bars[start : start + share] for start in range(first, len(bars), share)]
    return [
        (sum(count for count, _ in group) / share, sum(errors for _, errors in group) / share)
        for group in groups
    ]


def _level(count: float, highest: float, height: int) -> int:
    """How many eighths of a line a bar has; at least one, unless nothing has ended."""
    return max(1, round(count / highest * height * LEVELS)) if count else 0


def _style(count: float, errors: float) -> str:
    if not errors:
        return PLAIN
    return FAILING if errors >= MOSTLY * count else WITH_ERRORS
