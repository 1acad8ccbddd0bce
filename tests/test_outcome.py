"""One pure function decides what happens to a job after a run, by rules in a documented order."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospinach import (
    AbortException,
    Interrupted,
    InvalidArguments,
    InvalidValue,
    Job,
    JobCancelled,
    JobStatus,
    JobTimeout,
    RetryException,
    UnknownTask,
    WorkerLost,
)
from aiospinach.backoff import exponential_backoff, jitter
from aiospinach.failures import MESSAGE_LIMIT, TRACEBACK_LIMIT, describe
from aiospinach.outcome import Action, Outcome, judge
from aiospinach.timing import LAST_MOMENT, from_milliseconds

NOW = 1_700_000_000_000


def job(**changes: Any) -> Job:
    fields: dict[str, Any] = {
        "id": "a1",
        "task_name": "work",
        "queue": "default",
        "namespace": "test",
        "at": from_milliseconds(NOW),
        "created_at": from_milliseconds(NOW),
        "status": JobStatus.RUNNING,
    }
    return Job(**{**fields, **changes})


def failed(reason: str) -> Outcome:
    return Outcome(Action.FAIL, JobStatus.FAILED, reason)


def retry(delay: float) -> Outcome:
    return Outcome(Action.RETRY, JobStatus.WAITING, "error", delay)


DONE = Outcome(Action.DONE, JobStatus.SUCCEEDED, "done")
CANCELLED = Outcome(Action.CANCELLED, JobStatus.CANCELLED, "cancelled")
RELEASED = Outcome(Action.RELEASE, JobStatus.QUEUED, "interrupted")
PARKED = Outcome(Action.PARK, JobStatus.WAITING, "unknown")

LOST = WorkerLost("lost")
ABORT = AbortException("no")
ERROR = ValueError("wrong")
UNKNOWN = UnknownTask("who?")

# Each row fits several rules, and the first of them in the documented order wins: cancelled; lost with
# max_retries=0; third crash; no retry left; abort; else retry.
TABLE: list[tuple[str, dict[str, Any], BaseException | None, Outcome]] = [
    ("success", {}, None, DONE),
    ("success in the last try", {"max_retries": 3, "retries": 3}, None, DONE),
    ("success after crashes", {"max_retries": 3, "crashes": 3}, None, DONE),
    ("cancelled, no retries", {}, JobCancelled(), CANCELLED),
    ("cancelled, retries left", {"max_retries": 3}, JobCancelled(), CANCELLED),
    ("cancelled, exhausted", {"max_retries": 3, "retries": 3}, JobCancelled(), CANCELLED),
    ("cancelled, third crash", {"max_retries": 3, "crashes": 3}, JobCancelled(), CANCELLED),
    ("lost, at most once", {}, LOST, failed("lost")),
    ("lost, at most once, third crash", {"crashes": 3}, LOST, failed("lost")),
    ("lost, first crash", {"max_retries": 1, "crashes": 1}, LOST, retry(0.0)),
    ("lost, second crash", {"max_retries": 9, "crashes": 2}, LOST, retry(jitter(5.0, "a1"))),
    ("lost, third crash", {"max_retries": 9, "crashes": 3}, LOST, failed("poison")),
    ("lost, fourth crash", {"max_retries": 9, "crashes": 4}, LOST, failed("poison")),
    (
        "lost, third crash, no retry left",
        {"max_retries": 2, "retries": 2, "crashes": 3},
        LOST,
        failed("poison"),
    ),
    ("lost, no retry left", {"max_retries": 2, "retries": 2, "crashes": 1}, LOST, failed("exhausted")),
    ("an error after crashes", {"max_retries": 2, "crashes": 3}, RetryException(at=timedelta(0)), retry(0.0)),
    ("an error, no retries", {}, ERROR, failed("exhausted")),
    ("an error, none left", {"max_retries": 2, "retries": 2}, ERROR, failed("exhausted")),
    ("more retries than there are", {"max_retries": 2, "retries": 7}, ERROR, failed("exhausted")),
    ("a timeout, none left", {}, JobTimeout(), failed("exhausted")),
    ("unreadable arguments, none left", {}, InvalidArguments(), failed("exhausted")),
    ("RetryException, none left", {}, RetryException(at=timedelta(0)), failed("exhausted")),
    ("abort, none left", {"max_retries": 1, "retries": 1}, ABORT, failed("exhausted")),
    ("abort, retries left", {"max_retries": 1}, ABORT, failed("aborted")),
    ("interrupted, at most once", {}, Interrupted(), failed("interrupted")),
    ("interrupted, retries left", {"max_retries": 1}, Interrupted(), RELEASED),
    ("interrupted in the last try", {"max_retries": 1, "retries": 1}, Interrupted(), RELEASED),
    ("unknown, for the first time", {}, UNKNOWN, PARKED),
    (
        "unknown, just under a day",
        {"parked_at": from_milliseconds(NOW - 24 * 3600 * 1000 + 1)},
        UNKNOWN,
        PARKED,
    ),
    (
        "unknown for a day",
        {"parked_at": from_milliseconds(NOW - 24 * 3600 * 1000)},
        UNKNOWN,
        failed("unknown"),
    ),
    ("unknown, exhausted", {"max_retries": 1, "retries": 1}, UNKNOWN, PARKED),
    ("a SystemExit of the body", {"max_retries": 1}, SystemExit(1), retry(exponential_backoff(1, "a1"))),
    ("an error", {"max_retries": 1}, ERROR, retry(exponential_backoff(1, "a1"))),
    ("an error, third try", {"max_retries": 9, "retries": 2}, ERROR, retry(exponential_backoff(3, "a1"))),
    ("a timeout", {"max_retries": 1}, JobTimeout(), retry(exponential_backoff(1, "a1"))),
    ("RetryException", {"max_retries": 1}, RetryException(), retry(exponential_backoff(1, "a1"))),
]

# An exception group holds the errors of the tasks of a task group.
TABLE += [
    ("an abort in a group", {"max_retries": 3}, ExceptionGroup("", [ERROR, ABORT]), failed("aborted")),
    (
        "an abort deep in a group, and a retry",
        {"max_retries": 3},
        BaseExceptionGroup("", [RetryException(), BaseExceptionGroup("", [ABORT, SystemExit()])]),
        failed("aborted"),
    ),
    ("an abort in a group, exhausted", {}, ExceptionGroup("", [ABORT]), failed("exhausted")),
    (
        "a retry in a group",
        {"max_retries": 3},
        ExceptionGroup("", [ERROR, ExceptionGroup("", [RetryException(at=timedelta(seconds=7))])]),
        retry(7.0),
    ),
    (
        "retries in a group: the latest",
        {"max_retries": 3},
        ExceptionGroup("", [RetryException(at=timedelta(seconds=n)) for n in (1, 9, 4)]),
        retry(9.0),
    ),
    (
        "a retry without a moment in a group",
        {"max_retries": 3},
        ExceptionGroup("", [RetryException(), ERROR]),
        retry(exponential_backoff(1, "a1")),
    ),
]


@pytest.mark.parametrize(
    ("changes", "error", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_first_rule_that_applies_decides(
    changes: dict[str, Any], error: BaseException | None, expected: Outcome
) -> None:
    assert judge(job(**changes), error, NOW) == expected


@pytest.mark.parametrize(("changes", "error"), [row[1:3] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_verdict_is_deterministic_and_changes_no_argument(
    changes: dict[str, Any], error: BaseException | None
) -> None:
    judged = job(**changes)
    before = repr(judged), copy.copy(vars(error)) if error is not None else None
    first = judge(judged, error, NOW)
    assert [judge(judged, error, NOW) for _ in range(3)] == [first] * 3
    assert (repr(judged), vars(error) if error is not None else None) == before


AT = [
    ("a moment in UTC", from_milliseconds(NOW + 90_000), 90.0),
    ("a moment elsewhere", from_milliseconds(NOW + 90_000).astimezone(timezone(timedelta(hours=-9))), 90.0),
    ("a naive moment means UTC", from_milliseconds(NOW + 90_000).replace(tzinfo=None), 90.0),
    ("a past moment means now", from_milliseconds(NOW - 90_000), 0.0),
    ("a naive past moment means now", datetime(1999, 1, 1), 0.0),
    ("a duration", timedelta(minutes=2), 120.0),
    ("no time", timedelta(0), 0.0),
    ("a negative duration means now", timedelta(days=-3), 0.0),
]


@pytest.mark.parametrize(("at", "delay"), [row[1:] for row in AT], ids=[row[0] for row in AT])
def test_a_retry_exception_can_give_the_moment(at: datetime | timedelta, delay: float) -> None:
    assert judge(job(max_retries=1), RetryException("later", at=at), NOW) == retry(delay)


def test_the_moment_may_be_the_second_argument() -> None:
    error = RetryException("later", timedelta(seconds=5))
    assert (str(error), judge(job(max_retries=1), error, NOW)) == ("later", retry(5.0))


@pytest.mark.parametrize("moment", [timedelta(seconds=5), datetime(2030, 1, 1)])
def test_a_moment_instead_of_the_message_is_refused(moment: Any) -> None:
    with pytest.raises(InvalidValue, match="a message first"):
        RetryException(moment)


def test_a_retry_exception_without_a_moment_uses_the_backoff_of_the_task() -> None:
    assert judge(job(max_retries=1), RetryException("later"), NOW, lambda attempt: 7.0) == retry(7.0)


def test_a_retry_exception_with_a_moment_wins_over_the_backoff_of_the_task() -> None:
    error = RetryException("later", at=timedelta(seconds=1))
    assert judge(job(max_retries=1), error, NOW, lambda attempt: 7.0) == retry(1.0)


def test_a_retry_in_the_far_future_stays_within_the_years_that_datetime_has() -> None:
    delay = judge(job(max_retries=1), RetryException(at=timedelta.max), NOW).delay
    assert from_milliseconds(NOW + delay * 1000) < from_milliseconds(LAST_MOMENT)
    assert from_milliseconds(NOW + delay * 1000).year == 9998


BACKOFFS: list[tuple[str, Callable[[int], Any], float]] = [
    ("seconds", lambda attempt: 10.5 * attempt, 31.5),
    ("whole seconds", lambda attempt: 2, 2.0),
    ("a timedelta", lambda attempt: timedelta(minutes=attempt), 180.0),
    ("nothing", lambda attempt: 0, 0.0),
    ("negative", lambda attempt: -5, 0.0),
]


@pytest.mark.parametrize(
    ("backoff", "delay"), [row[1:] for row in BACKOFFS], ids=[row[0] for row in BACKOFFS]
)
def test_the_backoff_of_the_task_is_called_with_the_number_of_the_retry(
    backoff: Callable[[int], Any], delay: float
) -> None:
    assert judge(job(max_retries=9, retries=2), ERROR, NOW, backoff) == retry(delay)


@pytest.mark.parametrize("endless", [float("inf"), 1e300, 10**400])
def test_an_infinite_backoff_is_capped_before_the_year_9999(endless: float) -> None:
    delay = judge(job(max_retries=1), ERROR, NOW, lambda attempt: endless).delay
    assert from_milliseconds(NOW + delay * 1000).year == 9998


@pytest.mark.parametrize("wrong", [None, "5", float("nan"), [], object()])
def test_a_backoff_that_returns_no_duration_raises_invalid_value(wrong: Any) -> None:
    with pytest.raises(InvalidValue, match="backoff"):
        judge(job(max_retries=1), ERROR, NOW, lambda attempt: wrong)


def test_an_error_of_a_backoff_is_raised() -> None:
    def backoff(attempt: int) -> float:
        raise KeyError("no such attempt")

    with pytest.raises(KeyError, match="no such attempt"):
        judge(job(max_retries=1), ERROR, NOW, backoff)


def test_the_backoff_is_not_called_for_a_lost_worker() -> None:
    def backoff(attempt: int) -> float:
        raise AssertionError("it has waited for its lease already")

    assert judge(job(max_retries=1, crashes=1), LOST, NOW, backoff) == retry(0.0)


@given(st.integers(min_value=1, max_value=10_000), st.text(max_size=20))
def test_the_default_backoff_is_exponential_capped_and_half_of_it_is_jitter(attempt: int, key: str) -> None:
    longest = min(3.0 * 2.0 ** min(attempt, 50), 20 * 60.0)
    assert longest / 2 <= exponential_backoff(attempt, key) <= longest
    assert exponential_backoff(attempt, key) == exponential_backoff(attempt, key)


@pytest.mark.parametrize(
    ("attempt", "longest"),
    [(1, 6.0), (2, 12.0), (3, 24.0), (8, 768.0), (9, 1200.0), (10, 1200.0), (10**9, 1200.0)],
)
def test_jobs_that_failed_together_come_back_spread_over_the_second_half(
    attempt: int, longest: float
) -> None:
    delays = [exponential_backoff(attempt, f"job-{number}") for number in range(500)]
    assert len(set(delays)) > 490
    assert longest / 2 <= min(delays) < longest * 0.55
    assert longest * 0.95 < max(delays) <= longest


def described(error: BaseException, reason: str = "exhausted") -> dict[str, str]:
    description: dict[str, str] = json.loads(describe(error, reason))
    assert set(description) == {"reason", "error", "message", "traceback"}
    assert description["reason"] == reason
    return description


def test_a_description_has_reason_class_message_and_traceback() -> None:
    try:
        raise KeyError("order-17")
    except KeyError as raised:
        description = described(raised, "aborted")
    assert description["error"] == "builtins.KeyError"
    assert description["message"] == "'order-17'"
    assert description["traceback"].startswith("Traceback (most recent call last):")
    assert description["traceback"].endswith("KeyError: 'order-17'\n")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit("a trap")

    __repr__ = __str__


class Text(str):
    def __getitem__(self, key: Any) -> str:
        raise RuntimeError("a trap")

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        raise RuntimeError("a trap")

    def __format__(self, spec: str) -> str:
        raise RuntimeError("a trap")


class Trapped(Exception):
    def __str__(self) -> str:
        return Text("springs")


def test_an_exception_whose_str_raises_is_described() -> None:
    description = described(Unprintable())
    assert description["error"] == f"{__name__}.Unprintable"
    assert description["message"] == "<its __str__ raises>"


def test_an_exception_whose_str_is_a_hostile_string_is_described() -> None:
    assert described(Trapped())["message"] == "springs"


def test_an_exception_with_a_lone_surrogate_is_written_as_text() -> None:
    description = described(ValueError("file \udcff.txt"))
    assert description["message"] == r"file \udcff.txt"
    assert r"\udcff" in description["traceback"]


def test_an_exception_of_a_class_with_an_unencodable_name_is_described() -> None:
    odd = type("Odd", (Exception,), {"__module__": "m\udcff"})
    assert described(odd("x"))["error"] == r"m\udcff.Odd"


def test_an_exception_whose_module_is_no_string_is_described() -> None:
    odd = type("Odd", (Exception,), {"__module__": None})
    assert described(odd("x"))["error"] == "None.Odd"


def test_a_huge_message_is_cut_and_the_end_of_the_traceback_is_kept() -> None:
    description = described(ValueError("é" * 1_000_000))
    assert description["message"] == "é" * MESSAGE_LIMIT
    assert len(description["traceback"]) == TRACEBACK_LIMIT
    assert description["traceback"].endswith("éé\n")


def test_an_exception_that_is_its_own_cause_is_described() -> None:
    error = ValueError("round")
    other = KeyError("and round")
    error.__cause__, other.__cause__ = other, error
    assert described(error)["message"] == "round"


def test_a_bottomless_traceback_is_cut() -> None:
    def dig() -> None:
        dig()

    try:
        dig()
    except RecursionError as raised:
        description = described(raised)
    assert description["error"] == "builtins.RecursionError"
    assert len(description["traceback"]) <= TRACEBACK_LIMIT


def test_an_exception_group_is_described_with_its_members() -> None:
    description = described(ExceptionGroup("many", [ValueError("first"), KeyError("second")]))
    assert "ValueError: first" in description["traceback"]
    assert "KeyError: 'second'" in description["traceback"]


def test_moments_of_verdicts_are_aware() -> None:
    assert from_milliseconds(NOW) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
