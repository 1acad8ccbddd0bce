"""Periodic tasks are due at exact moments, also when the clocks of a zone change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiospinach import AiospinachError, Cron, InvalidValue
from aiospinach.cron import Every, calendar_of
from aiospinach.timing import from_milliseconds, to_milliseconds

PARIS = "Europe/Paris"
NEW_YORK = "America/New_York"


def moment(text: str) -> int:
    return to_milliseconds(datetime.fromisoformat(text).replace(tzinfo=UTC), what="the test")


def dues(calendar: Cron | Every, after: str, count: int) -> list[str]:
    """The next moments, as UTC to the minute."""
    found, now = [], moment(after)
    for _ in range(count):
        now = calendar.next_after(now)
        assert now % 60_000 == 0
        found.append(from_milliseconds(now).strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 9 * * mon-fri", "2024-06-07 08:00", ["2024-06-07 09:00", "2024-06-10 09:00"]),
        ("*/15 * * * *", "2024-06-07 08:50", ["2024-06-07 09:00", "2024-06-07 09:15"]),
        ("30 23 31 * *", "2024-01-31 23:30", ["2024-03-31 23:30", "2024-05-31 23:30"]),
        ("0 0 29 2 *", "2024-02-29 00:00", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        ("0 0 1 jan *", "2024-06-07 08:00", ["2025-01-01 00:00", "2026-01-01 00:00"]),
        ("0 0 13 * fri", "2024-09-12 00:00", ["2024-09-13 00:00", "2024-09-20 00:00"]),
        ("0 12 * * 7", "2024-06-07 08:00", ["2024-06-09 12:00", "2024-06-16 12:00"]),
        ("5,10-12 8 * * *", "2024-06-07 08:05", ["2024-06-07 08:10", "2024-06-07 08:11"]),
        ("  0   9 * *\t*  ", "2024-06-07 08:00", ["2024-06-07 09:00", "2024-06-08 09:00"]),
    ],
)
def test_the_five_fields_mean_what_crontab_says(expression: str, after: str, expected: list[str]) -> None:
    assert dues(Cron(expression), after, len(expected)) == expected


def test_a_zone_gives_the_time_of_its_wall_clocks_in_winter_and_in_summer() -> None:
    cron = Cron("0 9 * * mon-fri", tz=PARIS)
    assert dues(cron, "2024-01-08 00:00", 1) == ["2024-01-08 08:00"]
    assert dues(cron, "2024-07-08 00:00", 1) == ["2024-07-08 07:00"]


CHANGES = [
    # The clocks of Paris go from 02:00 to 03:00 at 01:00 UTC.
    (
        "a time that Paris skips is due right after the change",
        Cron("30 2 * * *", tz=PARIS),
        "2024-03-30 12:00",
        ["2024-03-31 01:00", "2024-04-01 00:30", "2024-04-02 00:30"],
    ),
    (
        "the first hour after the gap is due once",
        Cron("0 3 * * *", tz=PARIS),
        "2024-03-30 12:00",
        ["2024-03-31 01:00", "2024-04-01 01:00"],
    ),
    (
        "every half hour follows the clocks of Paris through the gap",
        Cron("*/30 * * * *", tz=PARIS),
        "2024-03-31 00:00",
        ["2024-03-31 00:30", "2024-03-31 01:00", "2024-03-31 01:30"],
    ),
    # ... and from 03:00 back to 02:00 at 01:00 UTC.
    (
        "a time that Paris repeats is due once, the first time",
        Cron("30 2 * * *", tz=PARIS),
        "2024-10-26 12:00",
        ["2024-10-27 00:30", "2024-10-28 01:30", "2024-10-29 01:30"],
    ),
    (
        "after a moment in the repeated hour of Paris the next day is due",
        Cron("30 2 * * *", tz=PARIS),
        "2024-10-27 01:10",
        ["2024-10-28 01:30", "2024-10-29 01:30"],
    ),
    (
        "every half hour follows the clocks of Paris through the fold",
        Cron("*/30 * * * *", tz=PARIS),
        "2024-10-26 23:30",
        ["2024-10-27 00:00", "2024-10-27 00:30", "2024-10-27 01:00", "2024-10-27 01:30"],
    ),
    # The clocks of New York go from 02:00 to 03:00 at 07:00 UTC.
    (
        "a time that New York skips is due right after the change",
        Cron("30 2 * * *", tz=NEW_YORK),
        "2024-03-09 12:00",
        ["2024-03-10 07:00", "2024-03-11 06:30"],
    ),
    (
        "a time before the gap is due as ever",
        Cron("30 1 * * *", tz=NEW_YORK),
        "2024-03-09 12:00",
        ["2024-03-10 06:30", "2024-03-11 05:30"],
    ),
    # ... and from 02:00 back to 01:00 at 06:00 UTC.
    (
        "a time that New York repeats is due once, the first time",
        Cron("30 1 * * *", tz=NEW_YORK),
        "2024-11-02 12:00",
        ["2024-11-03 05:30", "2024-11-04 06:30"],
    ),
    (
        "after a moment in the repeated hour of New York the next day is due",
        Cron("30 1 * * *", tz=NEW_YORK),
        "2024-11-03 06:00",
        ["2024-11-04 06:30", "2024-11-05 06:30"],
    ),
    (
        "every hour follows the clocks of New York through the fold",
        Cron("0 * * * *", tz=NEW_YORK),
        "2024-11-03 04:00",
        ["2024-11-03 05:00", "2024-11-03 06:00", "2024-11-03 07:00"],
    ),
]


@pytest.mark.parametrize(
    ("cron", "after", "expected"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)
def test_a_change_of_the_clocks_is_handled_as_documented(cron: Cron, after: str, expected: list[str]) -> None:
    assert dues(cron, after, len(expected)) == expected


EXPRESSIONS = [
    "30 2 * * *",
    "0 2 * * *",
    "0 3 * * *",
    "30 1 * * *",
    "*/30 * * * *",
    "0 */2 * * *",
    "15 1-3 * * *",
]
NIGHTS = [
    (PARIS, "2024-03-30 20:00"),
    (PARIS, "2024-10-26 20:00"),
    (NEW_YORK, "2024-03-10 01:00"),
    (NEW_YORK, "2024-11-03 01:00"),
    ("UTC", "2024-11-03 01:00"),
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize(("tz", "start"), NIGHTS)
def test_the_next_moment_is_the_same_until_it_is_reached(expression: str, tz: str, start: str) -> None:
    cron, now = Cron(expression, tz=tz), moment(start)
    end, due = now + 24 * 3600_000, cron.next_after(now)
    while now < end:
        assert cron.next_after(now) == due
        assert due > now
        now += 10 * 60_000
        if now >= due:
            now, due = due, cron.next_after(due)


@given(
    st.sampled_from(EXPRESSIONS),
    st.sampled_from([PARIS, NEW_YORK, "UTC", "Asia/Kolkata"]),
    st.integers(min_value=0, max_value=moment("2100-01-01")),
)
def test_the_next_moment_is_strictly_after_now(expression: str, tz: str, now: int) -> None:
    assert Cron(expression, tz=tz).next_after(now) > now


def test_a_moment_is_due_up_to_its_millisecond_and_then_the_next_one_is() -> None:
    cron, due = Cron("0 9 * * *"), moment("2024-06-07 09:00")
    assert cron.next_after(due - 1) == due
    assert cron.next_after(due) == moment("2024-06-08 09:00")
    assert cron.next_after(due + 1) == moment("2024-06-08 09:00")


@pytest.mark.parametrize("day", ["2026-04-05", "2026-10-04"])
def test_no_minute_is_skipped_when_the_clocks_move_by_half_an_hour(day: str) -> None:
    zone, cron = ZoneInfo("Australia/Lord_Howe"), Cron("* 4 * * *", tz="Australia/Lord_Howe")
    now, minutes = to_milliseconds(datetime.fromisoformat(day).replace(tzinfo=zone), what="the test"), []
    while True:
        now = cron.next_after(now)
        local = from_milliseconds(now).astimezone(zone)
        if local.date().isoformat() != day:
            break
        minutes.append((local.hour, local.minute))
    assert minutes == [(4, minute) for minute in range(60)]


HALF_HOURS = [
    # To 02:30 at 02:00: a skipped time is due right after.
    ("15 2 * * *", "2026-10-04", ["02:30"]),
    ("0 2 * * *", "2026-10-04", ["02:30"]),
    ("30 2 * * *", "2026-10-04", ["02:30"]),
    ("45 1,2 * * *", "2026-10-04", ["01:45", "02:45"]),
    # Back to 01:30 at 02:00: a repeated time is due once, the first time.
    ("45 1 * * *", "2026-04-05", ["01:45"]),
    ("30 1 * * *", "2026-04-05", ["01:30"]),
    ("0 2 * * *", "2026-04-05", ["02:00"]),
    ("15,45 1,2 * * *", "2026-04-05", ["01:15", "01:45", "02:15", "02:45"]),
    # An expression whose minute or hour begins with * is due both times.
    ("*/15 1 * * *", "2026-04-05", ["01:00", "01:15", "01:30", "01:45", "01:30", "01:45"]),
    ("*/15 2 * * *", "2026-10-04", ["02:30", "02:45"]),
]


@pytest.mark.parametrize(("expression", "day", "expected"), HALF_HOURS)
def test_a_change_by_half_an_hour_is_handled_like_any_other(
    expression: str, day: str, expected: list[str]
) -> None:
    zone, cron = ZoneInfo("Australia/Lord_Howe"), Cron(expression, tz="Australia/Lord_Howe")
    now, seen = to_milliseconds(datetime.fromisoformat(day).replace(tzinfo=zone), what="the test") - 1, []
    while from_milliseconds(now := cron.next_after(now)).astimezone(zone).date().isoformat() == day:
        seen.append(f"{from_milliseconds(now).astimezone(zone):%H:%M}")
    assert seen == expected


ZONES = [
    PARIS,
    NEW_YORK,
    "Australia/Lord_Howe",  # by half an hour
    "Africa/Cairo",  # at midnight
    "Atlantic/Azores",  # at midnight, to another day
    "America/Caracas",  # for good, by half an hour, in the middle of an hour
    "Pacific/Apia",  # skipped a day
    "UTC",
]


def changes_of(tz: str) -> list[int]:
    """The noons before the clocks of a zone changed in some years, in milliseconds."""
    zone, found = ZoneInfo(tz), []
    for year in (2011, 2016, 2024, 2026):
        noons = [datetime(year, 1, 1, 12, tzinfo=UTC) + timedelta(days=days) for days in range(365)]
        offsets = [noon.astimezone(zone).utcoffset() for noon in noons]
        found += [noons[day] for day in range(364) if offsets[day] != offsets[day + 1]]
    return [to_milliseconds(noon, what="the test") for noon in found or [datetime(2024, 3, 30, tzinfo=UTC)]]


CHANGES_OF = {tz: changes_of(tz) for tz in ZONES}


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        st.integers(2, 20).map("*/{}".format),
        numbers.map(str),
        st.tuples(numbers, numbers).map(sorted).map("{0[0]}-{0[1]}".format),
    )


@settings(max_examples=150, deadline=None)
@given(
    st.data(),
    st.sampled_from(ZONES),
    fields(0, 59),
    fields(0, 23),
    st.sampled_from(["* * *", "* * *", "* * sun", "1-7 * *", "L * *", "*/2 3-4 *", "* 10 fri#1"]),
)
def test_the_next_moment_never_goes_back_and_is_the_same_until_it_is_reached(
    data: st.DataObject, tz: str, minute: str, hour: str, days: str
) -> None:
    cron = Cron(f"{minute} {hour} {days}", tz=tz)
    now = data.draw(st.sampled_from(CHANGES_OF[tz])) + data.draw(st.integers(0, 36 * 3600_000))
    due = cron.next_after(now)
    assert due > now
    for _ in range(3):
        assert cron.next_after(data.draw(st.integers(now, due - 1))) == due
    assert cron.next_after(due - 1) == due
    assert cron.next_after(due) > due


WRONG_FIELDS = [
    ("60 * * * *", "minute"),
    ("x * * * *", "minute"),
    ("*/0 * * * *", "minute"),
    ("5-1 * * * *", "minute"),
    (", * * * *", "minute"),
    ("-1 * * * *", "minute"),
    ("* 24 * * *", "hour"),
    ("* * 0 * *", "day"),
    ("* * 32 * *", "day"),
    ("* * * 13 *", "month"),
    ("* * * foo *", "month"),
    ("* * * * 8", "day-of-week"),
    ("* * * * fri#6", "day-of-week"),
]


@pytest.mark.parametrize(("expression", "field"), WRONG_FIELDS)
def test_a_wrong_field_is_named(expression: str, field: str) -> None:
    with pytest.raises(InvalidValue, match=field) as caught:
        Cron(expression)
    assert repr(expression) in str(caught.value)


@pytest.mark.parametrize("expression", ["", "*", "* * * *", "0 0 * * * * *"])
def test_an_expression_must_have_five_or_six_fields(expression: str) -> None:
    with pytest.raises(InvalidValue, match="five fields"):
        Cron(expression)


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 2,4,6 *", "0 0 31 6 *"])
def test_an_expression_that_is_never_due_is_refused(expression: str) -> None:
    with pytest.raises(InvalidValue, match="Cron"):
        Cron(expression)


@pytest.mark.parametrize(
    "tz", ["Europe/Atlantis", "", "Europe", "../../etc/passwd", "/etc/localtime", "\0", "\udcff", "x" * 5000]
)
def test_an_unknown_zone_is_refused_by_name(tz: str) -> None:
    with pytest.raises(InvalidValue, match="no such time zone") as caught:
        Cron("* * * * *", tz=tz)
    assert repr(tz[:60]) in str(caught.value)


@given(
    st.lists(
        st.text("0123456789*/,-#LWJANMONx\u00b2\u0661\0\udcff", min_size=1, max_size=4),
        min_size=5,
        max_size=6,
    )
)
def test_any_fields_are_accepted_or_refused_with_our_own_error(fields: list[str]) -> None:
    try:
        cron = Cron(" ".join(fields))
    except AiospinachError:
        return
    assert cron.next_after(0) > 0


NICKNAMES = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * sun"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
    (" @Daily ", "0 0 * * *"),
]


@pytest.mark.parametrize(("nickname", "fields"), NICKNAMES)
def test_a_nickname_stands_for_five_fields(nickname: str, fields: str) -> None:
    named, spelled = Cron(nickname, tz=PARIS), Cron(fields, tz=PARIS)
    now = moment("2024-03-01 00:00")
    for _ in range(40):
        assert named.next_after(now) == spelled.next_after(now)
        now = spelled.next_after(now)
    assert repr(named) == f"Cron({nickname!r}, tz='Europe/Paris')"


@pytest.mark.parametrize("nickname", ["@reboot", "@every 5m", "@", "@daily 5"])
def test_the_error_for_an_unknown_nickname_names_the_known_ones(nickname: str) -> None:
    with pytest.raises(InvalidValue, match=r"@daily, @midnight, @hourly.*timedelta"):
        Cron(nickname)


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("*/20 * * * * *", "2024-06-07 09:59:45", ["10:00:00", "10:00:20", "10:00:40", "10:01:00"]),
        ("5,50 0 9 * * *", "2024-06-07 09:00:05", ["09:00:50", "09:00:05", "09:00:50", "09:00:05"]),
        ("0 30 9 * * *", "2024-06-07 09:29:59", ["09:30:00", "09:30:00"]),
        ("59 * 9 * * *", "2024-06-07 09:58:59", ["09:59:59", "09:00:59"]),
    ],
)
def test_the_first_of_six_fields_is_the_second(expression: str, after: str, expected: list[str]) -> None:
    cron, seen = Cron(expression), []
    now = to_milliseconds(datetime.fromisoformat(after), what="the test")
    for _ in expected:
        now = cron.next_after(now)
        seen.append(f"{from_milliseconds(now):%H:%M:%S}")
    assert seen == expected


def test_seconds_follow_their_minute_through_a_change_of_the_clocks() -> None:
    minutes = Cron("30 2 * * *", tz=PARIS)
    seconds = Cron("10,40 30 2 * * *", tz=PARIS)
    for day in ("2026-03-29", "2026-10-25"):
        now = to_milliseconds(datetime.fromisoformat(day), what="the test")
        due = minutes.next_after(now)
        first = seconds.next_after(now)
        second = seconds.next_after(first)
        assert (first, second) == (due + 10_000, due + 40_000)
        assert seconds.next_after(second) == minutes.next_after(due) + 10_000


def test_a_cron_shows_its_expression_and_zone() -> None:
    assert repr(Cron("0 9 * * *", tz=PARIS)) == "Cron('0 9 * * *', tz='Europe/Paris')"


@pytest.mark.parametrize(
    ("period", "after", "expected"),
    [
        (timedelta(minutes=5), "2024-06-07 08:51", ["2024-06-07 08:55", "2024-06-07 09:00"]),
        (timedelta(minutes=5), "2024-06-07 08:55", ["2024-06-07 09:00", "2024-06-07 09:05"]),
        (timedelta(days=1), "2024-06-07 08:51", ["2024-06-08 00:00", "2024-06-09 00:00"]),
        (timedelta(hours=7), "1970-01-01 00:00", ["1970-01-01 07:00", "1970-01-01 14:00"]),
    ],
)
def test_a_period_ticks_on_whole_multiples_of_itself(
    period: timedelta, after: str, expected: list[str]
) -> None:
    calendar = calendar_of(period)
    assert calendar is not None
    assert dues(calendar, after, len(expected)) == expected


@given(st.integers(min_value=100, max_value=10**12), st.integers(min_value=0, max_value=10**13))
def test_a_tick_of_a_period_lies_on_the_grid_and_at_most_one_period_after_now(period: int, now: int) -> None:
    due = Every(timedelta(milliseconds=period)).next_after(now)
    assert due % period == 0
    assert now < due <= now + period


@pytest.mark.parametrize("period", [timedelta(0), timedelta(seconds=-1), timedelta(milliseconds=99)])
def test_a_period_shorter_than_a_tenth_of_a_second_is_refused(period: timedelta) -> None:
    with pytest.raises(InvalidValue, match="periodicity"):
        calendar_of(period)


def test_the_shortest_period_is_a_tenth_of_a_second() -> None:
    assert Every(timedelta(milliseconds=100)).next_after(0) == 100


def test_a_cron_is_its_own_calendar_and_none_is_none() -> None:
    cron = Cron("* * * * *")
    assert calendar_of(cron) is cron
    assert calendar_of(None) is None


@pytest.mark.parametrize("wrong", [5, "5 min", "* * * * *", True, object()])
def test_a_periodicity_of_another_type_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidValue, match="periodicity"):
        calendar_of(wrong)
