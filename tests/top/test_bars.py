"""Bars of the last hour."""

from __future__ import annotations

import pytest

from aiospinach.top.bars import FAILING, PLAIN, WITH_ERRORS, chart, sparkline


def test_the_highest_bar_fills_its_line_and_nothing_is_blank() -> None:
    assert sparkline([0, 1, 4, 8, 2], [0] * 5, 5).plain == " ▁▄█▂"
    assert sparkline([0, 1, 1000], [0] * 3, 3).plain == " ▁█", "a single job can be seen"
    assert sparkline([0] * 60, [0] * 60, 20).plain == " " * 20


def test_a_chart_has_several_lines() -> None:
    assert [line.plain for line in chart([1, 2, 3, 4], [0] * 4, 4, 2)] == ["  ▄█", "▄███"]


@pytest.mark.parametrize("width", [1, 7, 45, 60, 61, 200])
def test_minutes_share_any_width(width: int) -> None:
    line = sparkline(range(60), [0] * 60, width)
    assert len(line.plain) == width
    assert list(line.plain) == sorted(line.plain)


def test_no_room_is_a_column() -> None:
    assert sparkline([4], [0], 0).plain == sparkline([4], [0], 1).plain == "█"


def test_bars_with_failed_tries_have_colours() -> None:
    line = sparkline([100, 100, 100, 100, 0], [0, 1, 2, 50, 0], 5)
    styles = {line.plain[span.start : span.end]: span.style for span in line.spans}
    assert [str(span.style) for span in line.spans] == [PLAIN, WITH_ERRORS, FAILING, PLAIN]
    assert list(styles) == ["██", "█", " "]
