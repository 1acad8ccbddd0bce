"""Calendars: the moments at which periodic tasks are due."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from .exceptions import InvalidValue
from .timing import from_milliseconds, to_milliseconds, to_seconds

SHORTEST_PERIOD = 0.1
_DAY = timedelta(days=1)
_MINUTE = 60_000
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Cron:
    """A calendar: the five fields of crontab(5), in a time zone.

    ``Cron("0 9 * * mon-fri", tz="Europe/Paris")`` is due on weekdays at nine in Paris. Of six fields the
    first is for seconds. ``@yearly``, ``@monthly``, ``@weekly``, ``@daily`` and ``@hourly`` mean the
    beginning of each. ``tz`` is the name of an IANA zone. Raises InvalidValue.

    At a change of the clocks it behaves like Debian's cron. A time that the clocks skip is due right after
    the change. A time that the clocks repeat is due the first time only. Expressions whose minute or hour is
    ``*`` follow the clock through both.
    """

    def __init__(self, expression: str, *, tz: str = "UTC") -> None:
        if not isinstance(expression, str):
            raise InvalidValue(f"Cron takes an expression, not {type(expression).__name__}")
        if not isinstance(tz, str):
            raise InvalidValue(
                f"Cron(tz=) takes the name of a zone such as 'Europe/Paris', not {type(tz).__name__}"
            )
        try:
            self._zone = ZoneInfo(tz)
        except Exception as error:  # a name with odd characters raises ValueError or OSError
            raise InvalidValue(
                f"Cron(tz={tz[:60]!r}): no such time zone; if it exists, install the package tzdata"
            ) from error
        self.expression = expression
        self.tz = tz
        fields = _fields_of(expression)
        self._seconds = _seconds_of(fields.pop(0), expression) if len(fields) == 6 else None
        self._minutes = " ".join(fields)
        try:
            self._fields = CronSim(self._minutes, datetime(2024, 1, 1, tzinfo=self._zone))
            next(self._fields)
        except CronSimError as error:
            raise InvalidValue(f"Cron({expression[:60]!r}): {error}") from None
        except StopIteration:
            raise InvalidValue(f"Cron({expression[:60]!r}) is never due") from None
        self._follows_the_clock = fields[0].startswith("*") or fields[1].startswith("*")

    def next_after(self, now: int) -> int:
        """The first moment after ``now`` at which it is due, both in milliseconds since 1970."""
        if self._seconds is None:
            return self._next_minute(now)
        minute = self._next_minute(now - _MINUTE)
        while True:
            for second in self._seconds:
                if minute + second > now:
                    return minute + second
            minute = self._next_minute(minute)

    def _next_minute(self, now: int) -> int:
        """The beginning of the first minute after ``now`` that matches all fields except the second."""
        if self._follows_the_clock:
            return self._next_by_the_clock(now)
        moments = CronSim(self._minutes, from_milliseconds(now).astimezone(self._zone))
        # In an hour that the clocks repeat, CronSim returns moments of the first pass, which are over.
        dues = (to_milliseconds(moment, what="Cron") for moment in moments)
        return next(due for due in dues if due > now)

    def _next_by_the_clock(self, now: int) -> int:
        """The first moment at which the clocks of the zone show a time that the fields match.

        CronSim goes from hour to hour, and so misses minutes after a change of the clocks by half an hour.
        Here a step across a change is taken minute by minute.
        """
        moment = from_milliseconds(now // 1000 * 1000) + timedelta(seconds=1)
        while True:
            local = moment.astimezone(self._zone)
            day = local.date()
            while not (day.month in self._fields.months and self._fields.match_day(day)):
                day += _DAY
            if day != local.date():
                midnight = datetime.combine(day, time(), tzinfo=self._zone).astimezone(UTC)
                moment = max(midnight, moment + timedelta(seconds=60 - local.second))
            elif local.second:  # of the moment, or of the zone's offset
                moment += timedelta(seconds=60 - local.second)
            elif local.hour not in self._fields.hours:
                step = timedelta(minutes=60 - local.minute)
                crosses = (moment + step).astimezone(self._zone).utcoffset() != local.utcoffset()
                moment += timedelta(minutes=1) if crosses else step
            elif local.minute not in self._fields.minutes:
                moment += timedelta(minutes=1)
            else:
                return to_milliseconds(moment, what="Cron")

    def __repr__(self) -> str:
        return f"Cron({self.expression!r}, tz={self.tz!r})"


def _fields_of(expression: str) -> list[str]:
    fields = expression.split()
    if fields and fields[0].startswith("@"):
        nickname = _NICKNAMES.get(expression.strip().lower())
        if nickname is None:
            raise InvalidValue(
                f"Cron({expression[:60]!r}): there are {', '.join(_NICKNAMES)}; for a fixed period use"
                " periodicity=timedelta(...), and for a run at the start of a program schedule a job there"
            )
        fields = nickname.split()
    if len(fields) not in (5, 6):
        raise InvalidValue(
            f"Cron({expression[:60]!r}): five fields are needed: minute hour day month weekday; or six, with"
            " the second before the minute"
        )
    return fields


def _seconds_of(field: str, expression: str) -> list[int]:
    """The milliseconds within a minute that match the field for seconds."""
    try:
        seconds = CronSim(f"{field} * * * *", datetime(2024, 1, 1)).minutes
    except CronSimError:
        raise InvalidValue(f"Cron({expression[:60]!r}): Bad second") from None
    return [1000 * second for second in sorted(seconds)]


class Every:
    """A fixed period. Ticks lie on whole multiples of it since 1970, so that all workers agree."""

    def __init__(self, period: timedelta) -> None:
        self._milliseconds = round(to_seconds(period, what="periodicity", least=SHORTEST_PERIOD) * 1000)

    def next_after(self, now: int) -> int:
        """The first moment after ``now`` at which it is due, both in milliseconds since 1970."""
        return (now // self._milliseconds + 1) * self._milliseconds


def is_tick_of(calendar: Cron | Every, due: int) -> bool:
    """The calendar is due at this moment, in milliseconds since 1970."""
    return calendar.next_after(due - 1) == due


def calendar_of(periodicity: object) -> Cron | Every | None:
    """The calendar of ``periodicity=``. Raises InvalidValue for anything but a timedelta, a Cron or None."""
    if periodicity is None or isinstance(periodicity, Cron):
        return periodicity
    if isinstance(periodicity, timedelta):
        return Every(periodicity)
    raise InvalidValue(f"periodicity takes a timedelta or a Cron, not {type(periodicity).__name__}")
