"""Sparklines: what happened in the last minutes, as a picture of one line, drawn by the server."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

HEIGHT = 20


def sparkline(values: Sequence[int], failed: Sequence[int] = (), *, label: str) -> Markup:
    """An SVG of an area for all values, and one for those that failed. The stylesheet has its colours.

    The last value is left out, if there are others: its minute is not over, and would look like a fall.
    """
    if any(values[:-1]):
        values, failed = values[:-1], failed[:-1]
    most = max(values, default=0) or 1
    areas = Markup('<path class="all" d="{}"/>').format(_area(values, most))
    if any(failed):
        areas += Markup('<path class="failed" d="{}"/>').format(_area(failed, most))
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    ).format(max(1, len(values) - 1), HEIGHT, label, areas)


def _area(values: Sequence[int], most: int) -> str:
    points = " ".join(f"{place} {_height(value, most)}" for place, value in enumerate(values))
    return (
        f"M0 {HEIGHT}L{points}V{HEIGHT}z" if any(values) else f"M0 {HEIGHT - 1}H{len(values) - 1}V{HEIGHT}H0z"
    )


def _height(value: int, most: int) -> str:
    """The distance from the top. A value above 0 is seen, however small it is."""
    if not value:
        return str(HEIGHT)
    return f"{min(HEIGHT - 1.0, HEIGHT - value / most * (HEIGHT - 1)):.1f}".removesuffix(".0")
