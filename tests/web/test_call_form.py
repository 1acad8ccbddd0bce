"""The form of a task, made of its type hints, and the arguments that arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest

from aiospinach import Depends, Engine, InvalidArguments, MemoryBroker
from aiospinach.contrib.web import Access

from .conftest import view_of


class Colour(Enum):
    RED = "red"
    TEN = "ten"


@dataclass
class Point:
    x: int
    y: int = 0


class Secret:
    """What a worker fills in."""


@pytest.fixture
async def called() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
async def engine(namespace: str, called: list[tuple[Any, ...]]) -> AsyncIterator[Engine]:
    async with Engine(MemoryBroker(), namespace) as engine:

        @engine.task(name="paint")
        async def paint(
            text: str,
            number: int,
            /,
            ratio: float = 0.5,
            colour: Colour = Colour.RED,
            is_wet: bool = False,
            size: Literal["s", "l"] | None = None,
            at: datetime | None = None,
            day: date = date(2026, 1, 1),
            pause: timedelta = timedelta(0),
            price: Decimal = Decimal(0),
            which: UUID | None = None,
            point: Annotated[Point, "where"] = Point(0),  # noqa: B008
            tags: list[str] = [],  # noqa: B006
            anything: Any = None,
            secret: Secret = Depends(Secret),
            *rest: int,
        ) -> None:
            """Paint something.

            It takes long.
            """
            called.append(
                (
                    text,
                    number,
                    ratio,
                    colour,
                    is_wet,
                    size,
                    at,
                    day,
                    pause,
                    price,
                    which,
                    point,
                    tags,
                    anything,
                )
            )

        @engine.task(name="plain")
        async def plain(need: int | None, text: str) -> None:
            called.append((need, text))

        yield engine


async def test_the_form_has_a_field_for_each_argument(engine: Engine) -> None:
    async with view_of(engine) as client:
        text = (await client.get("schedule?task=paint")).text
    for name in (
        "text",
        "number",
        "ratio",
        "colour",
        "is_wet",
        "size",
        "at",
        "day",
        "point",
        "tags",
        "anything",
    ):
        assert f'name="argument.{name}"' in text
    assert "argument.secret" not in text
    assert "argument.rest" not in text
    assert '<option value="&#34;red&#34;">red</option>' in text
    assert '<option value="&#34;ten&#34;">ten</option>' in text
    assert "Paint something." in text
    assert "It takes long." not in text
    assert "default: 0.5" in text


async def schedule(engine: Engine, **fields: str) -> str:
    """Send the form of ``paint``. Returns the text of a page that refuses it, or runs the job."""
    data = {"task": "paint", "argument.text": "a", "argument.number": "5"}
    async with view_of(engine) as client:
        response = await client.post("schedule", data=data | fields)
    if response.status_code != 303:
        assert response.status_code == 422
        return response.text
    assert response.headers["location"].startswith("job?id=")
    await engine.start_workers(stop_when_queue_empty=True)
    return ""


async def test_arguments_arrive_with_the_types_of_their_hints(
    engine: Engine, called: list[tuple[Any, ...]]
) -> None:
    fields = {
        "text": '"quoted" <b>',
        "number": " 1,234 ",
        "ratio": "2",
        "colour": '"ten"',
        "is_wet": "true",
        "size": '"l"',
        "at": "2026-11-29T08:00:00Z",
        "day": "2026-11-29",
        "pause": "PT90S",
        "price": "1.10",
        "which": "123e4567-e89b-12d3-a456-426614174000",
        "point": '{"x": 1, "y": 2}',
        "tags": '["a", "b"]',
        "anything": "[1, null]",
    }
    assert await schedule(engine, **{f"argument.{name}": value for name, value in fields.items()}) == ""
    assert called == [
        (
            '"quoted" <b>',
            1234,
            2.0,
            Colour.TEN,
            True,
            "l",
            datetime(2026, 11, 29, 8, tzinfo=UTC),
            date(2026, 11, 29),
            timedelta(seconds=90),
            Decimal("1.10"),
            UUID("123e4567-e89b-12d3-a456-426614174000"),
            Point(1, 2),
            ["a", "b"],
            [1, None],
        )
    ]


async def test_empty_fields_are_left_to_their_defaults(engine: Engine, called: list[tuple[Any, ...]]) -> None:
    empty = {f"argument.{name}": "" for name in ("ratio", "colour", "size", "at", "point", "anything")}
    assert await schedule(engine, **empty) == ""
    assert called[0][:6] == ("a", 5, 0.5, Colour.RED, False, None)
    async with view_of(engine) as client:
        data = {"task": "plain", "argument.need": "", "argument.text": ""}
        assert (await client.post("schedule", data=data)).status_code == 303
    await engine.start_workers(stop_when_queue_empty=True)
    assert called[1:] == [(None, "")]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("number", "canary-4711", "argument &#39;number&#39; takes a number"),
        ("number", "1.5", "argument &#39;number&#39;"),
        ("number", "", "argument &#39;number&#39;"),
        ("colour", '"canary-4711"', "argument &#39;colour&#39;"),
        ("point", "{canary-4711", "argument &#39;point&#39; takes JSON"),
        ("point", '{"y": 1}', "argument &#39;point&#39;"),
        ("which", "canary-4711", "argument &#39;which&#39;"),
        ("tags", "[" * 5000, "argument &#39;tags&#39;"),
        ("anything", "1e999", "argument &#39;anything&#39;"),
        ("text", "x" * 300_000, "262,144 is the limit"),
    ],
)
async def test_what_does_not_fit_is_refused_with_the_form(
    engine: Engine, name: str, value: str, words: str
) -> None:
    text = await schedule(engine, **{f"argument.{name}": value, "argument.price": "17.25"})
    error = text.partition('role="alert"')[2].partition("</p>")[0]
    assert words in error
    assert "canary" not in error, "the message has no value"
    assert 'value="17.25"' in text, "what was typed is kept"
    assert [job async for job in engine.jobs()] == []


async def test_a_job_is_scheduled_for_a_moment(engine: Engine) -> None:
    async with view_of(engine) as client:
        data = {"task": "plain", "argument.text": "a", "at": "2031-01-02T03:04"}
        assert (await client.post("schedule", data=data)).status_code == 303
        assert (await client.post("schedule", data=data | {"at": "soon"})).status_code == 422
    assert [job.at async for job in engine.jobs()] == [datetime(2031, 1, 2, 3, 4, tzinfo=UTC)]


async def test_the_owner_chooses_the_tasks(engine: Engine) -> None:
    async with view_of(engine, schedulable=["plain"]) as client:
        text = (await client.get("schedule")).text
        assert "plain" in text
        assert "paint" not in text
        assert (await client.get("schedule?task=paint")).status_code == 404
        response = await client.post("schedule", data={"task": "paint", "argument.text": "a"})
        assert response.status_code == 404
    async with view_of(engine, Access.ALL) as client:
        assert (await client.post("schedule", data={"task": "plain"})).status_code == 403
    assert [job async for job in engine.jobs()] == []


async def test_values_are_read_by_the_hints_of_a_task(engine: Engine) -> None:
    paint = engine.tasks["paint"]
    assert list(paint.signature.parameters)[-3:] == ["tags", "anything", "rest"]
    assert paint.signature.parameters["number"].annotation is int
    assert paint.read_values({"colour": b'"red"', "number": b"5"}) == {"colour": Colour.RED, "number": 5}
    with pytest.raises(InvalidArguments, match=r"paint\(\) has no parameter 'odd'"):
        paint.read_values({"odd": b"1"})
    with pytest.raises(InvalidArguments, match="argument 'number' is not what"):
        paint.read_values({"number": b'"canary"'})
    with pytest.raises(InvalidArguments):
        paint.read_values({"number": b"{"})
