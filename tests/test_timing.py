"""Moments and durations are validated at the interface, and converted exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospinach import InvalidValue
from aiospinach.timing import LAST_MOMENT, from_milliseconds, to_milliseconds, to_seconds


class Hostile(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise SyntaxError("a trap")

    def dst(self, moment: datetime | None) -> None: ...

    def tzname(self, moment: datetime | None) -> None: ...


@pytest.mark.parametrize(
    ("moment", "milliseconds"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1), 0),
        (datetime(2024, 2, 29, 12, 0, 0, 1999, tzinfo=UTC), 1_709_208_000_001),
        (datetime(2024, 2, 29, 12, 0), 1_709_208_000_000),
        (datetime(2024, 2, 29, 13, 0, tzinfo=ZoneInfo("Europe/Paris")), 1_709_208_000_000),
        (datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=0), 1_729_989_000_000),
        (datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1), 1_729_992_600_000),
        (datetime(9998, 12, 31, 23, 59, 59, 999999), LAST_MOMENT - 1),
    ],
)
def test_a_datetime_is_a_number_of_milliseconds_and_a_naive_one_means_utc(
    moment: datetime, milliseconds: int
) -> None:
    assert to_milliseconds(moment, what="at") == milliseconds


@given(st.integers(min_value=0, max_value=LAST_MOMENT - 1))
def test_milliseconds_survive_a_conversion_to_an_aware_datetime(milliseconds: int) -> None:
    moment = from_milliseconds(milliseconds)
    assert moment.tzinfo is UTC
    assert to_milliseconds(moment, what="at") == milliseconds


@pytest.mark.parametrize(
    "moment",
    [
        datetime.min,
        datetime.max,
        datetime(1969, 12, 31, 23, 59, 59, 999999),
        datetime(9999, 1, 1),
        datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=12))),
        datetime(2024, 1, 1, tzinfo=Hostile()),
    ],
    ids=lambda moment: f"year {moment.year}",
)
def test_a_moment_that_cannot_be_stored_is_refused(moment: datetime) -> None:
    with pytest.raises(InvalidValue, match="the start"):
        to_milliseconds(moment, what="the start")


@pytest.mark.parametrize(
    "wrong", [None, 5, 5.0, "2024-01-01", datetime(2024, 1, 1).date(), timedelta(1), True]
)
def test_a_moment_of_another_type_is_refused_with_the_name_of_the_type(wrong: Any) -> None:
    with pytest.raises(InvalidValue, match=f"the start takes a datetime, not {type(wrong).__name__}"):
        to_milliseconds(wrong, what="the start")


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [(5, 5.0), (0, 0.0), (0.25, 0.25), (timedelta(minutes=2), 120.0), (timedelta(milliseconds=1), 0.001)],
)
def test_a_duration_is_a_number_of_seconds_or_a_timedelta(duration: Any, seconds: float) -> None:
    measured = to_seconds(duration, what="pause")
    assert measured == seconds
    assert type(measured) is float


@pytest.mark.parametrize(
    "wrong",
    [-1, -0.001, timedelta(seconds=-1), float("nan"), float("inf"), -float("inf"), 10**400, -(10**400)],
)
def test_a_duration_out_of_bounds_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidValue, match="pause must be finite and at least 0 s"):
        to_seconds(wrong, what="pause")


@pytest.mark.parametrize("wrong", [None, "5", True, False, [], object(), datetime(2024, 1, 1)])
def test_a_duration_of_another_type_is_refused_with_the_name_of_the_type(wrong: Any) -> None:
    with pytest.raises(InvalidValue, match=f"pause takes seconds or a timedelta, not {type(wrong).__name__}"):
        to_seconds(wrong, what="pause")


def test_the_shortest_duration_is_accepted_and_a_shorter_one_is_not() -> None:
    assert to_seconds(0.1, what="pause", least=0.1) == 0.1
    with pytest.raises(InvalidValue, match=r"at least 0\.1 s"):
        to_seconds(0.0999, what="pause", least=0.1)
