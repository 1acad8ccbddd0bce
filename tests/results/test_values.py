"""Values of results: they come back equal, or the job is dead."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest

from aiospinach import (
    Batch,
    Engine,
    InvalidResult,
    InvalidValue,
    JobFailed,
    MemoryBroker,
    Tasks,
    UnknownTask,
    UnsupportedType,
    signals,
)

HOUR = timedelta(hours=1)


@dataclasses.dataclass
class Thumbnail:
    path: str
    size: tuple[int, int]


@attrs.define
class Coin:
    worth: Decimal


class Point(msgspec.Struct):
    x: float


class Model(pydantic.BaseModel):
    at: datetime


class Colour(Enum):
    RED = "red"


PARIS = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Paris"))

VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (Any, {"a": [1, 2.5, None, True, "é\n"]}),
    (Thumbnail, Thumbnail("cat.png", (3, 4))),
    (Coin, Coin(Decimal("0.10"))),
    (Point, Point(0.5)),
    (Model, Model(at=datetime(2026, 1, 1, tzinfo=UTC))),
    (Colour, Colour.RED),
    (Decimal, Decimal("1.50")),
    (UUID, UUID(int=7)),
    (date, date(2026, 1, 2)),
    (datetime, PARIS),
    (list[datetime], [PARIS]),
    (timedelta, timedelta(microseconds=1)),
    (bytes, bytes(range(256))),
    (set[int], {1, 2}),
    (tuple[int, str], (1, "a")),
    (dict[str, Thumbnail], {"a": Thumbnail("b", (0, 0))}),
    (Thumbnail | None, Thumbnail("b", (0, 0))),
    (Awaitable[tuple[int]], (1,)),
]


def returning(hint: Any, value: Any) -> Callable[[], Any]:
    async def produce() -> Any:
        return value

    produce.__annotations__["return"] = hint
    return produce


@pytest.mark.parametrize(("hint", "value"), VALUES, ids=[str(hint) for hint, _ in VALUES])
async def test_a_result_comes_back_equal(engine: Engine, hint: Any, value: Any) -> None:
    task = engine.task(result_ttl=HOUR)(returning(hint, value))
    await engine.start_workers(1, block=False)
    result = await engine.result(await task.schedule(), timeout=10)
    assert result == value
    assert type(result) is type(value)


async def test_a_plain_function_and_a_partial_have_results(engine: Engine) -> None:
    def size(text: str, factor: int = 1) -> tuple[int, ...]:
        return (len(text) * factor,)

    plain = engine.task(name="plain", result_ttl=1e6)(size)
    partial = engine.task(name="partial", result_ttl=5)(functools.partial(size, factor=3))
    await engine.start_workers(2, block=False)
    assert await engine.result(await plain.schedule("ab"), timeout=10) == (2,)
    assert await engine.result(await partial.schedule("ab"), timeout=10) == (6,)


async def test_each_caller_gets_an_object_of_its_own(engine: Engine) -> None:
    task = engine.task(result_ttl=HOUR)(returning(list[int], [1]))
    await engine.start_workers(1, block=False)
    job = await task.schedule()
    (await engine.result(job, timeout=10)).append(2)
    assert await engine.result(job, timeout=10) == [1]


class Secret:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("classified")

    __hash__ = object.__hash__


class Raising(pydantic.BaseModel):
    part: int

    def model_dump(self, *args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt


LOST: list[tuple[Any, Any, str]] = [
    (int, "classified", "Expected `int`, got `str`"),
    (Any, Thumbnail("classified", (1, 2)), "another value (dict)"),
    (Any, (1, 2), "another value (list)"),
    (None, "classified", "Expected `null`"),
    (Any, object(), "cannot be written as JSON"),
    (Any, float("nan"), "NaN"),
    (str, "\ud800", "lone surrogate"),
    (Any, "classified" * 30_000, "262,144 is the limit"),
    (Any, json.loads("[" * 70 + "]" * 70), "nested deeper than 64"),
]


@pytest.mark.parametrize(("hint", "value", "why"), LOST, ids=[why[:20] for _, _, why in LOST])
async def test_a_result_that_cannot_be_kept_makes_the_job_dead_at_once(
    engine: Engine, caplog: pytest.LogCaptureFixture, hint: Any, value: Any, why: str
) -> None:
    failed: list[BaseException] = []
    runs = 0

    async def produce() -> Any:
        nonlocal runs
        runs += 1
        return value

    @signals.job_failed.connect_via(engine.namespace)
    def on_failed(sender: str, job: Any, err: BaseException, **kwargs: Any) -> None:
        failed.append(err)

    produce.__annotations__["return"] = hint
    task = engine.task(result_ttl=HOUR, max_retries=5, name="produce")(produce)
    await engine.start_workers(1, block=False)
    job = await task.schedule()
    with pytest.raises(JobFailed) as caught:
        await engine.result(job, timeout=10)
    assert caught.value.reason == "result"
    assert caught.value.error == "aiospinach.InvalidResult"
    assert "produce(): the result (" in caught.value.message
    assert why in caught.value.message
    [dead] = [dead async for dead in engine.dead_jobs()]
    assert dead.reason == "result"
    await engine.stop_workers()
    assert [type(err) for err in failed] == [InvalidResult]
    assert runs == 1
    assert "failed (result)" in caplog.text
    for text in (caplog.text, str(caught.value), dead.traceback):
        assert "classified" not in text


async def test_a_model_that_raises_anything_harms_no_worker(engine: Engine) -> None:
    task = engine.task(result_ttl=HOUR, name="a")(returning(Raising, Raising(part=1)))
    other = engine.task(result_ttl=HOUR, name="b")(returning(int, 1))
    await engine.start_workers(1, block=False)
    jobs = [await task.schedule(), await other.schedule()]
    done = {each.job.id: each async for each in engine.as_completed(jobs, timeout=10)}
    assert done[jobs[1].id].result == 1
    assert done[jobs[0].id].error is None or isinstance(done[jobs[0].id].error, JobFailed)


@pytest.mark.parametrize("hint", [Callable[[], int], Secret, "Secret"])
def test_an_annotation_that_cannot_be_stored_is_refused_when_the_task_is_made(hint: Any) -> None:
    tasks = Tasks()
    with pytest.raises(UnsupportedType, match=r"produce\(\): the result has a type hint"):
        tasks.task(result_ttl=HOUR, name="produce")(returning(hint, 1))


async def test_an_annotation_that_is_not_defined_is_refused_by_schedule() -> None:
    """The name may be defined further down the module."""
    engine = Engine(MemoryBroker())
    task = engine.task(result_ttl=HOUR, name="produce")(returning("OnlyForCheckers", 1))
    with pytest.raises(
        UnsupportedType, match=r"produce\(\): the type hint of the result .*'OnlyForCheckers'"
    ):
        await engine.schedule(task)


async def test_the_annotation_of_a_task_without_results_is_not_read() -> None:
    engine = Engine(MemoryBroker())
    task = engine.task(returning("OnlyForCheckers", 1))
    assert task.result_ttl is None
    await engine.schedule(task)


async def test_a_batch_refuses_an_unknown_annotation() -> None:
    engine = Engine(MemoryBroker())
    batch = Batch()
    batch.schedule(engine.task(result_ttl=HOUR)(returning("Nowhere", 1)))
    with pytest.raises(UnsupportedType, match="'Nowhere' is not defined"):
        await engine.schedule_batch(batch)


@pytest.mark.parametrize(
    ("ttl", "why"),
    [
        (0, "at least 0.001 s"),
        (-1, "at least 0.001 s"),
        (timedelta(days=31), "at most 30 days, not 31"),
        (float("inf"), "finite"),
        ("1h", "seconds or a timedelta, not str"),
        (True, "seconds or a timedelta, not bool"),
    ],
)
def test_a_wrong_result_ttl_is_refused(ttl: Any, why: str) -> None:
    tasks = Tasks()
    with pytest.raises(InvalidValue, match=f"task 'produce'.* result_ttl .*{why}"):
        tasks.task(name="produce", result_ttl=ttl)(returning(int, 1))


def test_a_task_shows_its_result_ttl() -> None:
    tasks = Tasks()
    assert tasks.task(name="a", result_ttl=timedelta(days=30))(returning(int, 1)).result_ttl == 30 * 86400.0
    assert tasks.task(name="b", result_ttl=1.5)(returning(int, 1)).result_ttl == 1.5
    assert tasks.task(name="c")(returning(int, 1)).result_ttl is None


async def test_a_stored_result_of_another_version_of_the_task_is_refused(
    namespace: str, engine: Engine
) -> None:
    task = engine.task(result_ttl=HOUR, name="produce")(returning(str, "classified"))
    await engine.start_workers(1, block=False)
    job = await task.schedule()
    assert await engine.result(job, timeout=10) == "classified"
    await engine.stop_workers()
    newer = Engine(MemoryBroker(), namespace)
    newer._broker = engine._broker
    newer._hubs = engine._hubs
    newer.task(result_ttl=HOUR, name="produce")(returning(int, 1))
    with pytest.raises(InvalidResult, match="Expected `int`, got `str`") as caught:
        await newer.result(job, timeout=10)
    assert "classified" not in str(caught.value)


async def test_a_result_is_read_where_its_task_is_attached(engine: Engine, namespace: str) -> None:
    task = engine.task(result_ttl=HOUR, name="produce")(returning(int, 1))
    await engine.start_workers(1, block=False)
    job = await task.schedule()
    assert await engine.result(job, timeout=10) == 1
    other = Engine(MemoryBroker(), namespace)
    with pytest.raises(UnknownTask, match=r"'produce' is not attached.*engine\.attach_tasks"):
        await other.result(job, timeout=10)


async def test_execute_returns_what_the_body_returns() -> None:
    engine = Engine(MemoryBroker())
    value = object()
    assert await engine.execute(engine.task(result_ttl=HOUR)(returning(Any, value))) is value
