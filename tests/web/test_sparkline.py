"""The pictures of the last hour."""

from __future__ import annotations

import pytest

from aiospinach.contrib.web.sparkline import sparkline


@pytest.mark.parametrize("last", [0, 3, 900])
def test_the_minute_that_is_not_over_is_left_out(last: int) -> None:
    picture = sparkline([4, 2, 4, last], [0, 1, 0, last], label="jobs")
    assert 'd="M0 20L0 1 1 10.5 2 1V20z"' in picture
    assert 'd="M0 20L0 20 1 15.2 2 20V20z"' in picture
    assert 'viewBox="0 0 2 20"' in picture


def test_an_hour_without_jobs_is_a_line() -> None:
    picture = sparkline([0] * 60, [0] * 60, label="jobs")
    assert picture.count("<path") == 1
    assert 'd="M0 19H59V20H0z"' in picture


def test_the_first_minute_with_jobs_is_seen_at_once() -> None:
    picture = sparkline([0, 0, 0, 5], [0, 0, 0, 5], label="jobs")
    assert picture.count('d="M0 20L0 20 1 20 2 20 3 1V20z"') == 2
