"""Lengths of time, moments, numbers and rates for people, and text of strangers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from aiospinach import Progress
from aiospinach.views import age, moment, number, printable, progress_text, rate, short_number


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0.0 s"),
        (0, "0.0 s"),
        (1.26, "1.3 s"),
        (9.96, "10 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_799, "47 h"),
        (172_800, "2 d"),
        (86_400 * 12_345, "12,345 d"),
    ],
)
def test_a_length_of_time_has_one_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_a_moment_is_in_utc() -> None:
    assert moment(datetime(2026, 11, 29, 8, 1, 12, tzinfo=UTC)) == "2026-11-29 08:01:12 UTC"
    paris = timezone(timedelta(hours=1))
    assert moment(datetime(2026, 11, 29, 0, 1, 12, tzinfo=paris)) == "2026-11-28 23:01:12 UTC"


def test_numbers_have_commas() -> None:
    assert [number(count) for count in (0, 999, 1000, 1234567)] == ["0", "999", "1,000", "1,234,567"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (-9_999, "-9,999"),
        (10_000, "10.0k"),
        (12_399, "12.3k"),
        (999_999, "999k"),
        (1_000_000, "1.00M"),
        (4_567_890, "4.56M"),
        (123_456_789_012, "123G"),
        (5 * 10**12, "5.00T"),
    ],
)
def test_a_short_number_is_never_larger_than_the_number(count: int, text: str) -> None:
    assert short_number(count) == text
    assert len(text) <= 6


def test_rates_are_of_a_minute() -> None:
    texts = ["0/min", "0.1/min", "2.5/min", "10/min", "1,200/min"]
    assert [rate(each) for each in (0, 0.05, 2.5, 9.96, 1200.4)] == texts


@pytest.mark.parametrize(
    ("current", "total", "note", "text"),
    [
        (450, 1000, "rows", "450 of 1,000 rows (45 %)"),
        (1234.5, 1234.5, "", "1,234.5 of 1,234.5 (100 %)"),
        (450, None, "rows", "450 rows"),
        (0, 0, "", "0 of 0"),
        (3, -1, "odd", "3 of -1 odd"),
    ],
)
def test_progress_has_a_share_if_the_total_is_known(
    current: float, total: float | None, note: str, text: str
) -> None:
    at = datetime(2026, 11, 29, tzinfo=UTC)
    assert progress_text(Progress(current, total, note, at)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mail.send", "mail.send"),
        ("größe", "größe"),
        ("שלום", "שלום"),
        ("価格更新", "価格更新"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b2J", "\\x9b2J"),
        ("two\nlines\ttab", "two\\nlines\\ttab"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\ud800", "\\ud800"),
        ("a\u2028b", "a\\u2028b"),
    ],
)
def test_text_of_strangers_steers_no_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
