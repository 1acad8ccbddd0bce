"""Invalid values are refused where they are given, with an error that names them, and without effects."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from aiospinach import (
    AiospinachError,
    AlreadyRunning,
    Batch,
    BatchTooLarge,
    Cron,
    DuplicateTask,
    Engine,
    InvalidArguments,
    InvalidValue,
    MemoryBroker,
    NotAttached,
    RetryException,
    Task,
    Tasks,
    UnknownQueue,
    UnknownTask,
    UnsupportedType,
    signals,
)
from aiospinach.batch import JOBS_LIMIT
from aiospinach.brokers.questions import Counts

from .asking import counts

NOTHING = Counts(ready=0, running=0, waiting=0, dead=0)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


class Hostile(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise RuntimeError("a trap")

    def dst(self, moment: datetime | None) -> None: ...

    def tzname(self, moment: datetime | None) -> None: ...


class Given:
    """The start of every case: an engine with a task, and a batch."""

    def __init__(self, engine: Engine) -> None:
        self.engine: Any = engine
        self.ran: list[int] = []
        self.batch: Any = Batch()

        @engine.task(name="work")
        async def work(number: int, *, note: Any = None) -> int:
            self.ran.append(number)
            return number

        self.work: Any = work


async def function() -> None: ...
def plain() -> None: ...
async def picky(number: int) -> None: ...
def generator() -> Any:
    yield


def nested(depth: int) -> Any:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


Attempt = Callable[..., Any]
"""Passes an invalid value; an awaitable result is awaited."""
Case = tuple[str, Attempt, type[AiospinachError], str]

CASES: list[Case] = []


def case(what: str, attempt: Attempt, error: type[AiospinachError], named: str) -> None:
    CASES.append((what, attempt, error, named))


WRONG_SPACES: list[tuple[str, Any]] = [
    ("braces", "{}"),
    ("a newline within", "a\nb"),
    ("a trailing newline", "mail\n"),
    ("101 characters", "x" * 101),
    ("empty", ""),
    ("a space", "a b"),
    ("a colon", "a:b"),
    ("a glob", "a*"),
    ("an accent", "é"),
    ("another digit", "\u0661"),
    ("a surrogate", "\ud800"),
    ("a NUL", "a\0"),
    ("bytes", b"mail"),
    ("a number", 5),
    ("a list", ["mail"]),
]
WRONG_LABELS: list[tuple[str, Any]] = [
    ("braces", "{}"),
    ("a newline within", "a\nb"),
    ("a trailing newline", "work\n"),
    ("201 characters", "x" * 201),
    ("empty", ""),
    ("a space", "a b"),
    ("a slash", "a/b"),
    ("an accent", "é"),
    ("a surrogate", "\ud800"),
    ("bytes", b"work"),
    ("a number", 5),
    ("a bool", True),
]
WRONG_IDS = [wrong for wrong in WRONG_LABELS if wrong[0] not in ("braces", "a slash")]
WRONG_COUNTS: list[tuple[str, Any]] = [
    ("negative", -1),
    ("huge", 2**31),
    ("very huge", 10**400),
    ("very negative", -(10**400)),
    ("a bool", True),
    ("a float", 3.0),
    ("NaN", math.nan),
    ("infinity", math.inf),
    ("text", "3"),
    ("a list", []),
]
WRONG_SECONDS: list[tuple[str, Any]] = [
    ("negative", -1),
    ("a negative timedelta", -timedelta(seconds=1)),
    ("NaN", math.nan),
    ("infinity", math.inf),
    ("minus infinity", -math.inf),
    ("very huge", 10**400),
    ("a bool", True),
    ("text", "5"),
    ("a datetime", LATER),
    ("a list", [5]),
]
WRONG_MOMENTS: list[tuple[str, Any]] = [
    ("text", "2024-01-01"),
    ("a number", 1_700_000_000),
    ("a bool", True),
    ("a date", LATER.date()),
    ("a timedelta", timedelta(hours=1)),
    ("None", None),
    ("before 1970", datetime(1969, 12, 31)),
    ("the first moment", datetime.min),
    ("the last moment", datetime.max),
    ("a hostile zone", datetime(2024, 1, 1, tzinfo=Hostile())),
]
WRONG_ARGUMENTS: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("too few", (), {}, "'number'"),
    ("too many", (1, 2), {}, "work"),
    ("an unknown keyword", (1,), {"nota": 1}, "'nota'"),
    ("one twice", (1,), {"number": 1}, "'number'"),
    ("another type", ("1",), {}, "'number'"),
    ("a bool for an int", (True,), {}, "'number'"),
    ("None for an int", (None,), {}, "'number'"),
    ("NaN", (1,), {"note": math.nan}, "'note'"),
    ("infinity", (1,), {"note": [math.inf]}, "'note'"),
    ("a surrogate", (1,), {"note": "\ud800"}, "'note'"),
    ("a surrogate as a key", (1,), {"note": {"\ud800": 1}}, "'note'"),
    ("a tuple", (1,), {"note": (1,)}, "'note'"),
    ("an object", (1,), {"note": object()}, "'note'"),
    ("a coroutine function", (1,), {"note": function}, "'note'"),
    ("257 KB", (1,), {"note": "x" * 257 * 1024}, "262,144"),
    ("65 levels", (1,), {"note": nested(65)}, "64 levels"),
    ("2,000 levels", (1,), {"note": nested(2_000)}, "64 levels"),
]
WRONG_TASKS: list[tuple[str, Any, type[AiospinachError], str]] = [
    ("an unknown name", "unknown", UnknownTask, "'unknown'"),
    ("a function", function, InvalidValue, "function"),
    ("None", None, InvalidValue, "NoneType"),
    ("a number", 5, InvalidValue, "int"),
    ("bytes", b"work", InvalidValue, "bytes"),
    ("a class", Task, InvalidValue, "type"),
    ("a task of nobody", Tasks().task(name="orphan")(picky), UnknownTask, "'orphan'"),
    ("another's task of that name", Tasks().task(name="work")(picky), UnknownTask, "'work'"),
    *((f"a name with {what}", name, InvalidValue, "task name") for what, name in WRONG_LABELS[:9]),
]

# Engine
for what, value in [*WRONG_SPACES, ("None", None)]:
    case(
        f"Engine(namespace=): {what}", lambda g, v=value: Engine(MemoryBroker(), v), InvalidValue, "namespace"
    )
for what, value, named in [
    ("None", None, "NoneType"),
    ("a class", MemoryBroker, "MemoryBroker: call it"),
    ("a url", "redis://localhost", "str"),
]:
    case(f"Engine(broker): {what}", lambda g, v=value: Engine(v), InvalidValue, named)
case("Engine(broker): another's", lambda g: Engine(g.engine._broker), InvalidValue, "MemoryBroker")
for what, value in [*WRONG_SECONDS, ("zero", 0), ("None", None)]:
    case(
        f"Engine(signal_timeout=): {what}",
        lambda g, v=value: Engine(MemoryBroker(), signal_timeout=v),
        InvalidValue,
        "signal_timeout",
    )
for what, value in [*WRONG_SECONDS, ("zero", 0), ("None", None)]:
    case(f"MemoryBroker(lease=): {what}", lambda g, v=value: MemoryBroker(lease=v), InvalidValue, "lease")

# Engine.task and Tasks.task, with every option
for where, of in [("Engine.task", lambda g: g.engine), ("Tasks.task", lambda g: Tasks())]:
    for option, wrongs in {
        "name": WRONG_LABELS,
        "queue": WRONG_SPACES,
        "max_retries": WRONG_COUNTS,
        "max_concurrency": [*WRONG_COUNTS, ("zero", 0)],
        "timeout": [*WRONG_SECONDS, ("zero", 0)],
        "backoff": [("a number", 5), ("a timedelta", timedelta(1)), ("text", "exponential")],
        "periodicity": [
            ("a number", 5),
            ("text", "* * * * *"),
            ("a bool", True),
            ("zero", timedelta(0)),
            ("negative", -timedelta(hours=1)),
            ("too short", timedelta(milliseconds=99)),
            ("a datetime", LATER),
        ],
    }.items():
        for what, value in wrongs:
            case(
                f"{where}({option}=): {what}",
                lambda g, of=of, o=option, v=value: of(g).task(**{o: v})(function),
                InvalidValue,
                "task name" if option == "name" else option,
            )
    for what, value, named in [
        ("text", "work", "str"),
        ("a number", 5, "int"),
        ("a generator", generator, "generator"),
        ("a lambda", lambda: None, "lambda"),
    ]:
        case(f"{where}: {what}", lambda g, of=of, v=value: of(g).task(v), InvalidValue, named)
    case(
        f"{where}: unknown option",
        lambda g, of=of: of(g).task(retries=1)(function),
        InvalidValue,
        "no option retries",
    )
    case(
        f"{where}: timeout in a thread",
        lambda g, of=of: of(g).task(timeout=1)(plain),
        InvalidValue,
        "'plain'",
    )
    case(
        f"{where}: periodic with arguments",
        lambda g, of=of: of(g).task(periodicity=timedelta(1))(picky),
        InvalidValue,
        "'number'",
    )

    def takes_path(path: Path) -> None: ...

    case(f"{where}: unsupported type", lambda g, of=of: of(g).task(takes_path), UnsupportedType, "'path'")
case("Engine.task: duplicate", lambda g: g.engine.task(name="work")(function), DuplicateTask, "'work'")
case("Engine.task: a task", lambda g: g.engine.task(g.work), InvalidValue, "work")

# Tasks
for option, wrongs in {
    "queue": [*WRONG_SPACES, ("None", None)],
    "max_retries": [*WRONG_COUNTS, ("None", None)],
    "max_concurrency": [*WRONG_COUNTS, ("zero", 0)],
    "periodicity": [("a number", 5), ("text", "5m"), ("zero", timedelta(0))],
}.items():
    for what, value in wrongs:
        case(f"Tasks({option}=): {what}", lambda g, o=option, v=value: Tasks(**{o: v}), InvalidValue, option)

# attach_tasks
for what, value, named in [
    ("None", None, "NoneType"),
    ("a class", Tasks, "type"),
    ("a list", [], "list"),
    ("a task", Tasks().task(name="lone")(function), "Task"),
]:
    case(f"attach_tasks: {what}", lambda g, v=value: g.engine.attach_tasks(v), InvalidValue, named)


def attach_duplicate(given: Given) -> None:
    tasks = Tasks()
    tasks.task(name="fresh")(function)
    tasks.task(name="work")(function)
    given.engine.attach_tasks(tasks)


case("attach_tasks: duplicate", attach_duplicate, DuplicateTask, "'work'")

# Scheduling and executing, in every way
for what, value, error, named in WRONG_TASKS:
    case(f"schedule: {what}", lambda g, v=value: g.engine.schedule(v, 1), error, named)
    case(f"schedule_at: {what}", lambda g, v=value: g.engine.schedule_at(v, LATER, 1), error, named)
    case(f"execute: {what}", lambda g, v=value: g.engine.execute(v, 1), error, named)
    case(
        f"schedule_batch: {what}",
        lambda g, v=value: g.engine.schedule_batch(g.batch.schedule(g.work, 1).schedule(v, 1)),
        error,
        named,
    )
    case(
        f"schedule_batch, later: {what}",
        lambda g, v=value: g.engine.schedule_batch(g.batch.schedule(g.work, 1).schedule_at(v, LATER, 1)),
        error,
        named,
    )
for what, value in WRONG_MOMENTS:
    case(
        f"schedule_at(at): {what}",
        lambda g, v=value: g.engine.schedule_at(g.work, v, 1),
        InvalidValue,
        "schedule_at",
    )
    case(
        f"Task.schedule_at: {what}", lambda g, v=value: g.work.schedule_at(v, 1), InvalidValue, "schedule_at"
    )
    case(
        f"Batch.schedule_at: {what}",
        lambda g, v=value: g.batch.schedule_at("work", v, 1),
        InvalidValue,
        "_at",
    )
for what, args, kwargs, named in WRONG_ARGUMENTS:
    for where, call in {
        "schedule": lambda g, a, k: g.engine.schedule(g.work, *a, **k),
        "schedule by name": lambda g, a, k: g.engine.schedule("work", *a, **k),
        "schedule_at": lambda g, a, k: g.engine.schedule_at(g.work, LATER, *a, **k),
        "Task.schedule": lambda g, a, k: g.work.schedule(*a, **k),
        "Task.schedule_at": lambda g, a, k: g.work.schedule_at(LATER, *a, **k),
        "Batch.schedule": lambda g, a, k: g.batch.schedule(g.work, *a, **k),
        "Batch.schedule_at": lambda g, a, k: g.batch.schedule_at(g.work, LATER, *a, **k),
        "schedule_batch by name": lambda g, a, k: g.engine.schedule_batch(
            g.batch.schedule("work", 1).schedule("work", *a, **k)
        ),
    }.items():
        case(
            f"{where}: {what}",
            lambda g, call=call, a=args, k=kwargs: call(g, a, k),
            InvalidArguments,
            named,
        )
for what, args, kwargs, named in WRONG_ARGUMENTS[:4]:
    case(
        f"execute: {what}",
        lambda g, a=args, k=kwargs: g.engine.execute(g.work, *a, **k),
        InvalidArguments,
        named,
    )
case("Task.schedule: attached to none", lambda g: Tasks().task(picky).schedule(1), NotAttached, "'picky'")
for what, value, named in [("None", None, "NoneType"), ("a list", [], "list"), ("a class", Batch, "type")]:
    case(f"schedule_batch of: {what}", lambda g, v=value: g.engine.schedule_batch(v), InvalidValue, named)


def overfill(given: Given) -> None:
    for _ in range(JOBS_LIMIT + 1):
        given.batch.schedule("work", 1)


case("Batch.schedule: 10,001 jobs", overfill, BatchTooLarge, "10,000")

# options
for what, value in WRONG_IDS:
    case(f"options(id=): {what}", lambda g, v=value: g.work.options(id=v).schedule(1), InvalidValue, "job id")

# cancel
for what, value in [*WRONG_IDS, ("None", None), ("a list", [])]:
    case(f"cancel: {what}", lambda g, v=value: g.engine.cancel(v), InvalidValue, "job id")
for what, value in WRONG_SPACES:
    case(f"cancel(queue=): {what}", lambda g, v=value: g.engine.cancel("x", queue=v), InvalidValue, "queue")
case("cancel(queue=): unknown", lambda g: g.engine.cancel("x", queue="mail"), UnknownQueue, "'mail'")

# start_workers
for what, value in [*WRONG_COUNTS, ("zero", 0), ("10,001", 10_001), ("None", None)]:
    case(
        f"start_workers(number=): {what}",
        lambda g, v=value: g.engine.start_workers(v),
        InvalidValue,
        "number",
    )
for what, value in [
    *(pair for pair in WRONG_SPACES if pair[0] != "a list"),
    ("an empty list", []),
    ("a set", {"default"}),
    ("a list of numbers", [5]),
    ("one wrong of two", ["default", "a b"]),
    ("one twice", ["default", "default"]),
    ("no shares", {}),
    ("a share of 0", {"default": 0}),
    ("a share of 1,001", {"default": 1_001}),
    ("a share of 0.5", {"default": 0.5}),
    ("a share of True", {"default": True}),
    ("a share of a wrong queue", {"a b": 1}),
]:
    case(
        f"start_workers(queue=): {what}",
        lambda g, v=value: g.engine.start_workers(1, v),
        InvalidValue,
        "queue",
    )
for value in ("mail", ["mail"], ["default", "mail"], {"mail": 2}):
    case(
        f"start_workers(queue=): {value} is unknown",
        lambda g, v=value: g.engine.start_workers(1, v),
        UnknownQueue,
        "'mail'",
    )
for what, value in [*WRONG_SECONDS, ("None", None)]:
    case(
        f"start_workers(shutdown_timeout=): {what}",
        lambda g, v=value: g.engine.start_workers(1, shutdown_timeout=v),
        InvalidValue,
        "shutdown_timeout",
    )

# Cron
for what, value, named in [
    ("None", None, "NoneType"),
    ("a number", 5, "int"),
    ("a timedelta", timedelta(1), "timedelta"),
    ("empty", "", "five fields"),
    ("seven fields", "* * * * * * *", "five fields"),
    ("a wrong second", "60 * * * * *", "second"),
    ("an unknown nickname", "@reboot", "@hourly"),
    ("a huge minute", "99999999999999999999 * * * *", "minute"),
    ("a negative minute", "-1 * * * *", "minute"),
    ("an unknown month", "* * * foo *", "month"),
    ("never due", "0 0 30 2 *", "0 0 30 2 *"),
    ("a surrogate", "\ud800 * * * *", "minute"),
]:
    case(f"Cron: {what}", lambda g, v=value: Cron(v), InvalidValue, named)
for what, value in [("unknown", "Mars"), ("None", None), ("a zone", UTC), ("empty", ""), ("a path", "../x")]:
    case(f"Cron(tz=): {what}", lambda g, v=value: Cron("* * * * *", tz=v), InvalidValue, "tz")

# RetryException
for what, value in [("a number", 5), ("text", "5m"), ("a bool", True), ("a date", LATER.date())]:
    case(f"RetryException(at=): {what}", lambda g, v=value: RetryException("x", at=v), InvalidValue, "at=")

# signals
for what, value in [*WRONG_SECONDS, ("zero", 0)]:
    case(
        f"signal.timeout: {what}",
        lambda g, v=value: setattr(signals.job_failed, "timeout", v),
        InvalidValue,
        r"job_failed.timeout",
    )
for what, value in [("None", None), ("a number", 5), ("text", "receiver"), ("a coroutine's result", [])]:
    case(
        f"signal.connect: {what}",
        lambda g, v=value: signals.job_failed.connect(v),
        InvalidValue,
        "job_failed",
    )
    case(
        f"signal.connect_via: {what}",
        lambda g, v=value: signals.job_failed.connect_via("x")(v),
        InvalidValue,
        "job_failed",
    )


@pytest.mark.parametrize(
    ("attempt", "error", "named"), [row[1:] for row in CASES], ids=[ascii(row[0]) for row in CASES]
)
async def test_an_invalid_value_is_refused_by_name_and_changes_nothing(
    engine: Engine, attempt: Attempt, error: type[AiospinachError], named: str
) -> None:
    given = Given(engine)
    before = list(engine._own_tasks)

    async def act() -> None:
        await attempt(given)

    with pytest.raises(AiospinachError) as caught:
        await act()
    assert type(caught.value) is error
    assert named in str(caught.value)
    str(caught.value).encode()
    assert len(str(caught.value)) < 1000
    assert list(engine._own_tasks) == before
    assert not signals.job_failed.receivers
    assert signals.job_failed.timeout is None
    assert await counts(engine._broker, "default") == NOTHING
    await given.work.schedule(7)
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert given.ran == [7]
    assert await counts(engine._broker, "default") == NOTHING


def test_every_case_has_a_unique_name() -> None:
    assert len({row[0] for row in CASES}) == len(CASES)


async def test_a_second_start_is_refused_and_the_first_continues(engine: Engine) -> None:
    given = Given(engine)
    await engine.start_workers(block=False)
    with pytest.raises(AlreadyRunning, match=engine.namespace):
        await engine.start_workers()
    await given.work.schedule(1)
    await engine.stop_workers()
    await engine.start_workers(stop_when_queue_empty=True)
    assert given.ran == [1]


TAKEN: list[tuple[str, Attempt]] = [
    ("a namespace of 100 characters", lambda g: Engine(MemoryBroker(), "aZ0_.-" + "x" * 94).namespace),
    ("a task name of 200 characters", lambda g: g.engine.task(name="a:@_.-" + "x" * 194)(function).name),
    ("an id of 200 characters", lambda g: g.work.options(id="x" * 200)._job_id),
    ("a naive datetime", lambda g: g.work.schedule_at(datetime(2100, 1, 1), 1)),
    ("a past datetime", lambda g: g.work.schedule_at(datetime(1970, 1, 1), 1)),
    ("the last moment", lambda g: g.work.schedule_at(datetime(9998, 12, 31, 23, 59, 59), 1)),
    ("the most retries", lambda g: g.engine.task(max_retries=2**31 - 1)(function).name),
    ("the longest period", lambda g: g.engine.task(periodicity=timedelta.max)(function).name),
    ("the longest timeout", lambda g: g.engine.task(timeout=timedelta.max)(function).name),
    ("a long signal_timeout", lambda g: Engine(MemoryBroker(), signal_timeout=10**9).namespace),
    ("an id that nobody has", lambda g: g.engine.cancel("nobody")),
]


@pytest.mark.parametrize("attempt", [row[1] for row in TAKEN], ids=[row[0] for row in TAKEN])
async def test_values_just_within_the_limits_are_accepted(engine: Engine, attempt: Attempt) -> None:
    given = Given(engine)
    taken = attempt(given)
    assert taken if isinstance(taken, str) else await taken
    await given.work.schedule(7)
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert 7 in given.ran


async def test_a_naive_datetime_means_utc(engine: Engine) -> None:
    given = Given(engine)
    job = await given.work.schedule_at(datetime(2100, 1, 1, 12), 1)
    assert job.at == datetime(2100, 1, 1, 12, tzinfo=UTC)
    [batched] = await engine.schedule_batch(given.batch.schedule_at(given.work, datetime(2100, 1, 1, 12), 1))
    assert batched.at == job.at
