"""Arguments arrive equal and as annotated, or are refused when scheduled, without being shown."""

from __future__ import annotations

import dataclasses
import enum
import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospinach import (
    AiospinachError,
    Engine,
    InvalidArguments,
    JobStatus,
    MemoryBroker,
    Tasks,
    UnsupportedType,
)
from aiospinach.arguments.codec import BODY_LIMIT, Arguments
from aiospinach.arguments.depth import DEPTH_LIMIT
from aiospinach.arguments.hints import reader_of
from aiospinach.brokers.records import Envelope

from .asking import counts
from .conftest import Heard

CANARY = "xyzzy-4711"
"""What must never be shown."""


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


class Shade(enum.StrEnum):
    DARK = "dark"


class Level(enum.IntEnum):
    HIGH = 3


class Mixed(enum.Enum):
    NUMBER = 1
    TEXT = "one"


class Pairs(enum.Enum):
    ONE = (1, 1)


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass
class Point3(Point):
    z: int = 0


@dataclasses.dataclass(frozen=True)
class Fixed:
    name: str
    tags: frozenset[str] = frozenset()


class Order(msgspec.Struct):
    id: UUID
    price: Decimal
    at: datetime
    points: list[Point] = []


class RushOrder(Order):
    by: str = ""


class Cat(msgspec.Struct, tag=True):
    name: str


class Dog(msgspec.Struct, tag=True):
    name: str


class Node(msgspec.Struct):
    name: str
    children: list[Node] = []


@attrs.define
class User:
    name: str
    born: date | None = None


@attrs.define
class Admin(User):
    rights: list[str] = attrs.field(factory=list)


class Address(pydantic.BaseModel):
    street: str
    since: date | None = None


class Person(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)

    name: str = pydantic.Field(alias="fullName")
    balance: Decimal = Decimal(0)
    homes: list[Address] = []


class Employee(Address):
    number: int = 0


class Row(TypedDict):
    id: int
    when: datetime


class Pair(NamedTuple):
    left: int
    right: date


UserId = NewType("UserId", int)


class Same:
    """Compares only ``x``: a subclass inherits this equality, which ignores its additional fields."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.x == other.x  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(eq=False)
class SameData(Same):
    x: int


@dataclasses.dataclass(eq=False)
class SameDataMore(SameData):
    secret: str = ""


class SameStruct(msgspec.Struct, eq=False):
    x: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameStruct) and self.x == other.x


class SameStructMore(SameStruct, eq=False):
    secret: str = ""


@attrs.define(eq=False)
class SameAttrs:
    x: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameAttrs) and self.x == other.x


@attrs.define(eq=False)
class SameAttrsMore(SameAttrs):
    secret: str = ""


class SameModel(pydantic.BaseModel):
    x: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameModel) and self.x == other.x


class SameModelMore(SameModel):
    secret: str = ""


@dataclasses.dataclass
class Holder:
    same: SameData


@dataclasses.dataclass(eq=False)
class Explosive:
    secret: str

    def __eq__(self, other: object) -> bool:
        raise RuntimeError(f"no comparison with {self.secret}")

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(eq=False)
class Ambiguous:
    """Its comparison has no truth value, like an array's."""

    secret: str

    def __eq__(self, other: object) -> Any:
        class NoTruth:
            def __bool__(self) -> bool:
                raise ValueError(f"ambiguous: {CANARY}")

        return NoTruth()

    __hash__ = None  # type: ignore[assignment]


class Strict(msgspec.Struct):
    secret: str

    def __post_init__(self) -> None:
        if self.secret.endswith("4711"):
            raise ValueError(f"Expected another secret than {self.secret}")


class StrictModel(pydantic.BaseModel):
    secret: int | str

    @pydantic.field_validator("secret")
    @classmethod
    def refuse(cls, value: int | str) -> int | str:
        if value == CANARY:
            raise ValueError(f"not {value}")
        return value


def taking(hint: Any) -> Any:
    """A function with one parameter annotated ``hint``."""

    async def take(value: Any) -> None: ...

    take.__annotations__["value"] = hint
    return take


def untyped() -> Any:
    async def take(value): ...  # type: ignore[no-untyped-def]

    return take


async def received(engine: Engine, function: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """The arguments that a worker calls the function with, if it is scheduled with these."""
    calls: list[tuple[Any, Any]] = []

    async def body(*args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs))

    body.__wrapped__ = function  # type: ignore[attr-defined]
    task = engine.task(name="take")(body)
    job = await engine.schedule(task, *args, **kwargs)
    assert job.status is JobStatus.QUEUED
    await engine.start_workers(stop_when_queue_empty=True)
    assert len(calls) == 1
    return calls[0]


PARIS = ZoneInfo("Europe/Paris")

JSON: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63,
    2**64,
    2**70,
    -(2**70),
    10**300,
    0.0,
    0.1 + 0.2,
    5e-324,
    -1.7976931348623157e308,
    "",
    "naïve \U0001f96c \x00 \u2028 \\ \" '",
    [],
    {},
    [[]],
    {"": {}},
    {"a": [1, 2.5, None, {"b": [True, "x"]}]},
    {"[": "{{[["},
]


@pytest.mark.parametrize("value", JSON, ids=lambda value: ascii(value)[:40])
@pytest.mark.parametrize("hint", ["none", "Any", "object"])
async def test_a_json_value_arrives_equal_without_an_annotation(
    engine: Engine, value: Any, hint: str
) -> None:
    function = {"none": untyped(), "Any": taking(Any), "object": taking(object)}[hint]
    (arrived,), _ = await received(engine, function, value)
    assert arrived == value
    assert type(arrived) is type(value)


TYPED: list[tuple[Any, Any]] = [
    (int, 2**70),
    (int, -(2**64) - 1),
    (float, 0.1 + 0.2),
    (float, 1e300),
    (bool, True),
    (str, "\x7f\x00é"),
    (list, []),
    (dict, {}),
    (list[int], []),
    (dict[str, int], {"a": 2**70}),
    (dict[int, str], {1: "a", -(2**40): "b"}),
    (dict[date, int], {date(2024, 2, 29): 1}),
    (datetime, datetime(2024, 2, 29, 12, 30, 15, 123456)),
    (datetime, datetime(2024, 2, 29, 12, 30, 15, 1, tzinfo=UTC)),
    (datetime, datetime(2024, 7, 1, 12, 30, tzinfo=PARIS)),
    (datetime, datetime(2024, 7, 1, tzinfo=timezone(-timedelta(hours=9, minutes=30)))),
    (datetime, datetime.max),
    (datetime, datetime.min),
    (date, date(1, 1, 1)),
    (time, time(23, 59, 59, 999999)),
    (time, time(1, 2, tzinfo=UTC)),
    (timedelta, timedelta(days=-3, seconds=5, microseconds=7)),
    (timedelta, timedelta(0)),
    (UUID, UUID(int=2**128 - 1)),
    (Decimal, Decimal("0.10")),
    (Decimal, Decimal("-1E+400")),
    (Color, Color.BLUE),
    (Size, Size.LARGE),
    (Shade, Shade.DARK),
    (Level, Level.HIGH),
    (bytes, b""),
    (bytes, bytes(range(256))),
    (bytearray, bytearray(b"\x00\xff")),
    (set[int], {1, 2, 3}),
    (set[UUID], {UUID(int=1), UUID(int=2)}),
    (set, set()),
    (frozenset[str], frozenset("abc")),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], ()),
    (tuple, (1, "a", None)),
    (tuple[tuple[int, int], ...], ((1, 2), (3, 4))),
    (Pair, Pair(1, date(2024, 2, 29))),
    (Point, Point(1, 2)),
    (Fixed, Fixed("a", frozenset({"x", "y"}))),
    (Order, Order(UUID(int=7), Decimal("9.90"), datetime(2024, 1, 1, tzinfo=UTC), [Point(1), Point(2, 3)])),
    (Cat | Dog, Dog("Rex")),
    (Node, Node("root", [Node("a"), Node("b", [Node("c")])])),
    (User, User("Ada", date(1815, 12, 10))),
    (Row, {"id": 1, "when": datetime(2024, 1, 1)}),
    (Address, Address(street="Rue X", since=date(2024, 2, 29))),
    (Person, Person(fullName="Ada", balance=Decimal("1.10"), homes=[Address(street="A")])),
    (Person | None, None),
    (list[Address], [Address(street="A"), Address(street="B")]),
    (dict[str, list[tuple[User, Color]]], {"a": [(User("Ada"), Color.RED)]}),
    (list[Point | None], [None, Point(5)]),
    (int | float, 1.0),
    (int | str | None, "1"),
    (datetime | None, None),
    (datetime | int, datetime(2024, 1, 1)),
    (Literal["a", "b"], "b"),
    (UserId, 17),
    (Annotated[int, msgspec.Meta(ge=0)], 3),
    (Sequence[int], [1, 2]),
    (Mapping[str, int], {"a": 1}),
]


@pytest.mark.parametrize(  # ids without the value: the order of a set differs between processes
    ("hint", "value"), TYPED, ids=[f"{ascii(hint)[:50]}-{type(value).__name__}" for hint, value in TYPED]
)
async def test_a_value_of_the_annotated_type_arrives_equal_and_of_that_type(
    engine: Engine, hint: Any, value: Any
) -> None:
    (arrived,), _ = await received(engine, taking(hint), value)
    assert arrived == value
    assert type(arrived) is type(value)


async def test_nested_values_arrive_as_annotated(engine: Engine) -> None:
    value = {"a": [(User("Ada", date(1815, 12, 10)), {Color.RED})]}
    (arrived,), _ = await received(engine, taking(dict[str, list[tuple[User, set[Color]]]]), value)
    [(user, colors)] = arrived["a"]
    assert arrived == value
    assert type(user) is User
    assert type(user.born) is date
    assert type(colors) is set
    assert colors == {Color.RED}


async def test_a_whole_number_arrives_as_float_where_a_float_is_annotated(engine: Engine) -> None:
    (arrived,), _ = await received(engine, taking(float), 3)
    assert type(arrived) is float
    assert arrived == 3


async def test_an_aware_datetime_keeps_its_moment_and_a_naive_one_stays_naive(engine: Engine) -> None:
    moment = datetime(2024, 7, 1, 12, 30, tzinfo=PARIS)
    naive = datetime(2024, 7, 1, 12, 30)
    (arrived,), _ = await received(engine, taking(list[datetime]), [moment, naive])
    assert arrived[0].utcoffset() == timedelta(hours=2)
    assert arrived[0] == moment
    assert arrived[1].tzinfo is None
    assert arrived[1] == naive


async def test_a_decimal_keeps_its_digits(engine: Engine) -> None:
    (arrived,), _ = await received(engine, taking(Decimal), Decimal("1.100"))
    assert str(arrived) == "1.100"


async def test_the_body_gets_a_copy_of_what_was_scheduled(engine: Engine) -> None:
    value = [[1]]
    (arrived,), _ = await received(engine, taking(list[list[int]]), value)
    value[0].append(2)
    assert arrived == [[1]]


def plain(a: date, b: int = 1) -> None: ...
def variadic(first: date, *rest: date, **named: UUID) -> None: ...
def keyword_only(*, on: date, color: Color = Color.RED) -> None: ...
def positional_only(on: date, /, count: int = 0) -> None: ...
def shadowed(on: date, /, **more: UUID) -> None: ...


DAY, OTHER_DAY, KEY = date(2024, 2, 29), date(2024, 3, 1), UUID(int=5)


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, (DAY,), {}),
        (plain, (DAY, 2), {}),
        (plain, (), {"b": 2, "a": DAY}),
        (plain, (DAY,), {"b": 2}),
        (variadic, (DAY,), {}),
        (variadic, (DAY, OTHER_DAY, DAY), {"x": KEY, "rest": KEY, "named": KEY}),
        (variadic, (), {"first": DAY, "x": KEY}),
        (keyword_only, (), {"on": DAY, "color": Color.BLUE}),
        (positional_only, (DAY, 7), {}),
        (positional_only, (DAY,), {"count": 7}),
        (shadowed, (DAY,), {"on": KEY, "self": KEY}),
    ],
)
async def test_every_kind_of_parameter_takes_its_arguments(
    engine: Engine, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    assert await received(engine, function, *args, **kwargs) == (args, kwargs)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=5)
    ),
    max_leaves=25,
)


def same_types(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same_types(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return all(map(same_types, left, right))
    return True


@given(st.lists(VALUES, max_size=4), st.dictionaries(st.text("abc", min_size=1), VALUES, max_size=4))
def test_every_json_value_is_read_back_as_it_was_written(args: list[Any], kwargs: dict[str, Any]) -> None:
    def function(*args: Any, **kwargs: Any) -> None: ...

    arguments = Arguments(function, "function")
    read_args, read_kwargs = arguments.decode(arguments.encode(tuple(args), kwargs))
    assert list(read_args) == args
    assert read_kwargs == kwargs
    assert same_types(list(read_args), args)
    assert same_types(read_kwargs, kwargs)


@given(
    VALUES,
    st.sampled_from([math.nan, math.inf, -math.inf, "\ud800", (1,), {1}, b"x", DAY, {1: 1}]),
    st.data(),
)
def test_a_value_that_is_no_json_is_found_at_any_depth(value: Any, wrong: Any, data: Any) -> None:
    outer: Any = data.draw(
        st.sampled_from([lambda v: [value, v], lambda v: {"a": value, "b": [v]}, lambda v: v])
    )
    arguments = Arguments(taking(Any), "take")
    with pytest.raises(InvalidArguments, match="'value'"):
        arguments.encode((outer(wrong),), {})


def texts_of(error: BaseException | None) -> Iterator[str]:
    """All texts of an exception, and of its causes and contexts."""
    while error is not None:
        yield f"{error!s} {error!r} {error.args!r} {getattr(error, '__notes__', '')!r}"
        error = error.__cause__ or error.__context__


def itself() -> list[Any]:
    inner: list[Any] = [CANARY]
    inner.append(inner)
    return inner


def nested(depth: int, leaf: Any = None) -> Any:
    """Returns a value with ``depth`` levels of lists."""
    value: Any = [] if leaf is None else [leaf]
    for _ in range(depth - 1):
        value = [value]
    return value


NONE = object()

REFUSED: list[tuple[str, Any, Callable[[], Any], str]] = [
    ("NaN", NONE, lambda: float("nan"), "float"),
    ("NaN for a float", float, lambda: float("nan"), "float"),
    ("infinity", NONE, lambda: float("inf"), "float"),
    ("infinity for a float", float, lambda: -float("inf"), "float"),
    ("a NaN deep within", NONE, lambda: {CANARY: [float("nan")]}, "dict"),
    ("a Decimal NaN", Decimal, lambda: Decimal("NaN"), "Decimal"),
    ("a lone surrogate", NONE, lambda: CANARY + "\ud800", "str"),
    ("a lone surrogate for a str", str, lambda: CANARY + "\udfff", "str"),
    ("a lone surrogate as a key", NONE, lambda: {CANARY + "\udc80": 1}, "dict"),
    ("a sliced dataclass", Point, lambda: Point3(1, 2, 3), "Point3"),
    (
        "a sliced dataclass with an inherited __eq__",
        SameData,
        lambda: SameDataMore(1, CANARY),
        "SameDataMore",
    ),
    ("a sliced Struct", Order, lambda: RushOrder(KEY, Decimal(1), datetime.min, by=CANARY), "RushOrder"),
    (
        "a sliced Struct with an inherited __eq__",
        SameStruct,
        lambda: SameStructMore(1, CANARY),
        "SameStructMore",
    ),
    ("a sliced attrs class", User, lambda: Admin(CANARY, rights=["all"]), "Admin"),
    (
        "a sliced attrs class with an inherited __eq__",
        SameAttrs,
        lambda: SameAttrsMore(1, CANARY),
        "SameAttrsMore",
    ),
    ("a sliced model", Address, lambda: Employee(street=CANARY, number=3), "Employee"),
    (
        "a sliced model with an inherited __eq__",
        SameModel,
        lambda: SameModelMore(x=1, secret=CANARY),
        "SameModelMore",
    ),
    ("a sliced dataclass in a list", list[Point], lambda: [Point(1), Point3(1, 2, 3)], "list"),
    ("a sliced model in a list", list[Address], lambda: [Employee(street=CANARY)], "list"),
    ("a tuple without a hint", NONE, lambda: (CANARY,), "tuple"),
    ("a tuple deep within", NONE, lambda: [[(CANARY,)]], "list"),
    ("a tuple for a list", list, lambda: (CANARY,), "tuple"),
    ("a set without a hint", NONE, lambda: {CANARY}, "set"),
    ("a datetime without a hint", NONE, lambda: datetime(1987, 6, 5), "datetime"),
    ("a Decimal without a hint", NONE, lambda: Decimal("1.5"), "Decimal"),
    ("a UUID without a hint", NONE, lambda: KEY, "UUID"),
    ("bytes without a hint", NONE, lambda: CANARY.encode(), "bytes"),
    ("a dataclass without a hint", NONE, lambda: Point(1), "Point"),
    ("a model without a hint", NONE, lambda: Address(street=CANARY), "Address"),
    ("an enum without a hint", NONE, lambda: Color.RED, "Color"),
    ("a number as a key without a hint", NONE, lambda: {1: CANARY}, "dict"),
    ("a tuple as a key", NONE, lambda: {(1, 2): CANARY}, "dict"),
    ("a function", NONE, lambda: nested, "function"),
    ("an object", NONE, object, "object"),
    ("a class", NONE, lambda: Point, "type"),
    ("a generator", NONE, lambda: (c for c in CANARY), "generator"),
    ("an object whose __eq__ raises", Explosive, lambda: Explosive(CANARY), "Explosive"),
    ("an object whose __eq__ has no truth", Ambiguous, lambda: Ambiguous(CANARY), "Ambiguous"),
    ("a value of an enum instead of its member", Color, lambda: "red", "str"),
    ("a value of a StrEnum instead of its member", Shade, lambda: "dark", "str"),
    ("a value of an IntEnum instead of its member", Level, lambda: 3, "int"),
    ("a dict instead of a dataclass", Point, lambda: {"x": 1, "y": 2}, "dict"),
    ("a dict instead of a model", Address, lambda: {"street": CANARY}, "dict"),
    ("a str instead of a UUID", UUID, lambda: str(KEY), "str"),
    ("a str instead of a date", date, lambda: "2024-02-29", "str"),
    ("a list instead of a set", set[str], lambda: [CANARY], "list"),
    ("a list instead of a tuple", tuple[str, ...], lambda: [CANARY], "list"),
]


@pytest.mark.parametrize(
    ("hint", "make", "type_name"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
async def test_a_value_that_would_not_arrive_equal_is_refused_without_being_shown(
    engine: Engine, hint: Any, make: Callable[[], Any], type_name: str
) -> None:
    task = engine.task(name="take")(untyped() if hint is NONE else taking(hint))
    with pytest.raises(InvalidArguments) as caught:
        await engine.schedule(task, make())
    assert "take(): argument 'value'" in str(caught.value)
    assert type_name in str(caught.value)
    assert not [text for text in texts_of(caught.value) if CANARY in text or "1987" in text]
    assert (await counts(engine._broker, "default")).ready == 0


MISFITS: list[tuple[str, Any, Any, str]] = [
    ("a str for an int", int, CANARY, "Expected `int`, got `str`"),
    ("a bool for an int", int, True, "Expected `int`, got `bool`"),
    ("an int for a bool", bool, 1, "Expected `bool`, got `int`"),
    ("a float for an int", int, 1.5, "Expected `int`, got `float`"),
    ("an int for a str", str, 4711, "Expected `str`, got `int`"),
    ("None for an int", int, None, "Expected `int`, got `null`"),
    ("a str in a list of int", list[int], [1, CANARY], "Expected `int`, got `str` - at `$[1]`"),
    ("no value of the enum", Color, CANARY, "it is no value of the enum"),
    ("no number of the enum", Size, 4711, "it is no value of the enum"),
    ("no literal", Literal["a"], CANARY, "it is no value of the enum"),
    ("a missing field", Point, {"y": 1}, "Object missing required field `x`"),
    ("an unknown tag", Cat | Dog, {"type": CANARY, "name": "x"}, "reading it back raised ValidationError"),
    ("a number below its bound", Annotated[int, msgspec.Meta(ge=5000)], 4711, "Expected `int` >= 5000"),
    ("a str that is no UUID", UUID, CANARY, "reading it back raised ValidationError"),
    ("a str that is no date", date, CANARY, "reading it back raised ValidationError"),
    ("a validator's own words", Strict, {"secret": CANARY}, "reading it back raised ValidationError"),
    ("a model's own words", StrictModel, {"secret": CANARY}, "reading it back raised ValidationError"),
    (
        "a model built past its rules",
        StrictModel,
        StrictModel.model_construct(secret=CANARY),
        "ValidationError",
    ),
    (
        "a model with a field of another type",
        Employee,
        Employee.model_construct(street="x", number=CANARY),
        "reading it back raised ValidationError",
    ),
]


@pytest.mark.parametrize(
    ("hint", "value", "why"), [row[1:] for row in MISFITS], ids=[row[0] for row in MISFITS]
)
async def test_a_value_that_does_not_fit_the_type_hint_is_refused_without_being_shown(
    engine: Engine, hint: Any, value: Any, why: str
) -> None:
    task = engine.task(name="take")(taking(hint))
    with pytest.raises(InvalidArguments) as caught:
        await engine.schedule(task, value)
    said = str(caught.value)
    assert said.startswith("take(): argument 'value' (")
    assert ") is not what the parameter's type hint allows: " in said
    assert why in str(caught.value)
    assert not [text for text in texts_of(caught.value) if CANARY in text or "4711" in text]


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (list[SameData], [SameDataMore(1, CANARY)]),
        (dict[str, SameStruct], {"a": SameStructMore(1, CANARY)}),
        (Holder, Holder(SameDataMore(1, CANARY))),
    ],
)
def test_a_sliced_subclass_with_an_inherited_equality_is_found_within_others(hint: Any, value: Any) -> None:
    with pytest.raises(InvalidArguments, match="'value'"):
        Arguments(taking(hint), "take").encode((value,), {})


async def test_an_open_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    task = engine.task(name="take")(untyped())
    with (tmp_path / CANARY).open("w") as file, pytest.raises(InvalidArguments) as caught:
        await engine.schedule(task, file)
    assert "argument 'value' (_io.TextIOWrapper) cannot be stored" in str(caught.value)
    assert not [text for text in texts_of(caught.value) if CANARY in text]


async def test_the_error_names_the_wrong_parameter(engine: Engine) -> None:
    task: Any = engine.task(name="take")(variadic)
    with pytest.raises(InvalidArguments, match="argument 'rest'"):
        await engine.schedule(task, DAY, DAY, 5)
    with pytest.raises(InvalidArguments, match="argument 'named'"):
        await engine.schedule(task, DAY, key=object())


async def test_names_of_keyword_arguments_must_be_strings(engine: Engine) -> None:
    task: Any = engine.task(name="take")(variadic)
    with pytest.raises(InvalidArguments, match="take"):
        await engine.schedule(task, DAY, **{"\ud800": KEY})


@pytest.mark.parametrize(
    ("args", "kwargs", "why"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((DAY, 1, 2), {}, "too many positional arguments"),
        ((DAY,), {"c": 1}, "unexpected keyword argument 'c'"),
        ((DAY,), {"a": DAY}, "multiple values for argument 'a'"),
    ],
)
async def test_a_call_that_does_not_fit_the_function_is_refused(
    engine: Engine, args: tuple[Any, ...], kwargs: dict[str, Any], why: str
) -> None:
    task: Any = engine.task(name="take")(plain)
    with pytest.raises(InvalidArguments) as caught:
        await engine.schedule(task, *args, **kwargs)
    assert str(caught.value).startswith("take(a, b=")
    assert why in str(caught.value)


def test_the_default_of_a_parameter_is_not_shown() -> None:
    def function(a: int, password: str = CANARY) -> None: ...

    with pytest.raises(InvalidArguments) as caught:
        Arguments(function, "function").encode((), {})
    assert not [text for text in texts_of(caught.value) if CANARY in text]


LARGEST = BODY_LIMIT - len('[[""],{}]')


async def test_arguments_of_exactly_256_kb_arrive_and_one_byte_more_is_refused(engine: Engine) -> None:
    assert BODY_LIMIT == 256 * 1024
    (arrived,), _ = await received(engine, taking(str), "x" * LARGEST)
    assert len(arrived) == LARGEST
    with pytest.raises(InvalidArguments, match=r"262,145 bytes as JSON, and 262,144 is the limit"):
        await engine.schedule("take", "x" * (LARGEST + 1))


async def test_64_levels_arrive_and_65_are_refused(engine: Engine) -> None:
    assert DEPTH_LIMIT == 64
    (arrived,), _ = await received(engine, taking(Any), nested(64))
    assert arrived == nested(64)
    with pytest.raises(InvalidArguments, match="nested deeper than 64 levels"):
        await engine.schedule("take", nested(65))


@pytest.mark.parametrize("leaf", [1, "a", None, {}])
def test_the_limit_of_64_levels_counts_lists_and_dicts_wherever_they_are(leaf: Any) -> None:
    arguments = Arguments(taking(Any), "take")
    levels = 63 if leaf == {} else 64
    value = {"a": 1, "deep": nested(levels - 1, leaf), "b": [[], [], {}]}
    assert arguments.decode(arguments.encode((value,), {})) == ((value,), {})
    with pytest.raises(InvalidArguments, match="nested deeper than 64"):
        arguments.encode(([value],), {})


def test_many_shallow_lists_are_not_deep() -> None:
    arguments = Arguments(taking(Any), "take")
    value = [[[i]] for i in range(1000)]
    assert arguments.decode(arguments.encode((value,), {})) == ((value,), {})


@pytest.mark.parametrize("depth", [66, 100, 2_000, 100_000])
def test_a_value_of_any_depth_is_refused_without_a_crash(depth: int) -> None:
    for hint in (Any, list):
        with pytest.raises(InvalidArguments, match="nested deeper than 64"):
            Arguments(taking(hint), "take").encode((nested(depth),), {})


def test_a_list_that_contains_itself_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="contain themselves") as caught:
        Arguments(taking(Any), "take").encode((itself(),), {})
    assert not [text for text in texts_of(caught.value) if CANARY in text]


UNSUPPORTED: list[Any] = [
    Path,
    Callable,
    Callable[[int], str],
    type,
    type[int],
    complex,
    range,
    Exception,
    Engine,
    ZoneInfo,
    list[Path],
    dict[str, Callable[[], None]],
    Path | None,
    date | str,
    datetime | date,
    UUID | str,
    bytes | str,
    Color | str,
    set[int] | list[int],
    Point | User,
    Point | dict[str, int],
    list[int] | list[str],
    Mixed,
    list[Mixed],
    Pairs,
    msgspec.Raw,
    msgspec.msgpack.Ext,
    5,
    "list[",
    "1/0",
    "datetime.nothing",
    "\udc80",
]


@pytest.mark.parametrize("hint", UNSUPPORTED, ids=ascii)
def test_a_type_that_cannot_be_restored_is_refused_when_the_task_is_attached(hint: Any) -> None:
    engine = Engine(MemoryBroker())
    with pytest.raises(UnsupportedType, match=r"^work\(\): ") as caught:
        engine.task(name="work")(taking(hint))
    assert isinstance(caught.value, AiospinachError)
    later = engine.task(name="work")(taking(int))  # nothing was attached: the name is free
    assert list(engine._own_tasks) == [later]


def test_the_parameter_of_a_type_that_cannot_be_restored_is_named() -> None:
    with pytest.raises(UnsupportedType, match=r"work\(\): parameter 'value' .*pathlib.*Path"):
        Engine(MemoryBroker()).task(name="work")(taking(Path))


forward = Tasks()
arrivals: list[Any] = []


@forward.task
async def greet(person: DefinedLater, others: list[DefinedLater]) -> None:
    arrivals.append((person, others))


class DefinedLater(msgspec.Struct):
    name: str


async def test_a_hint_may_name_a_class_that_is_defined_later(engine: Engine) -> None:
    arrivals.clear()
    engine.attach_tasks(forward)
    await greet.schedule(DefinedLater("Ada"), [DefinedLater("Bob")])
    await engine.start_workers(stop_when_queue_empty=True)
    assert arrivals == [(DefinedLater("Ada"), [DefinedLater("Bob")])]


async def test_an_unresolvable_hint_is_refused_at_first_use(engine: Engine) -> None:
    task = engine.task(name="work")(taking("NowhereDefined"))
    with pytest.raises(UnsupportedType, match=r"work\(\): .*'NowhereDefined' is not defined"):
        await engine.schedule(task, 1)
    with pytest.raises(UnsupportedType, match="NowhereDefined"):
        await engine.schedule(task, 1)
    assert (await counts(engine._broker, "default")).ready == 0


BODY = b'[["2024-02-29"],{"b":2}]'


def test_a_whole_body_is_read() -> None:
    assert Arguments(plain, "plain").decode(BODY) == ((DAY,), {"b": 2})


@pytest.mark.parametrize("length", range(len(BODY)))
def test_a_truncated_body_is_invalid(length: int) -> None:
    with pytest.raises(InvalidArguments, match=r"^plain"):
        Arguments(plain, "plain").decode(BODY[:length])


FOREIGN = [
    b"null",
    b"5",
    b'"x"',
    b"{}",
    b"[]",
    b"[[]]",
    b"[[],[]]",
    b"[{},{}]",
    b"[[],{},{}]",
    BODY + b"x",
    BODY + BODY,
    b"\x00",
    b"\xff\xfe" * 50,
    b"\x80\x04\x95pickle.",
    b'[["2024-02-29",1,2],{}]',
    b'[[],{"b":2}]',
    b'[["2024-02-29"],{"unknown":2}]',
    b'[["2024-02-29"],{"a":"2024-02-29"}]',
    b'[["2024-02-30"],{}]',
    b"[[5],{}]",
    b'[["2024-02-29"],{"b":"x"}]',
    b'[["2024-02-29"],{"b":1e999}]',
    b'[["2024-02-29"],{"b":NaN}]',
    b'[["2024-02-29"],{"b":' + b"9" * 200_000 + b"}]",
    b'[["2024-02-29"],{"\\ud800":1}]',
    b'[["\xff"],{}]',
    b'[["\\ud800"],{}]',
    b"[[" + b"[" * 65 + b"]" * 65 + b"],{}]",
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 20_000,
    b"[" * 70 + b"\xff",
    b" " * (BODY_LIMIT + 1),
    b'[["2024-02-29"],{"b":' + b" " * BODY_LIMIT + b"2}]",
]


@pytest.mark.parametrize("body", FOREIGN, ids=lambda body: ascii(body[:40]))
@pytest.mark.parametrize("function", [plain, variadic, keyword_only])
def test_a_damaged_or_foreign_body_raises_invalid_arguments_and_nothing_else(
    body: bytes, function: Any
) -> None:
    with pytest.raises(InvalidArguments):
        Arguments(function, "function").decode(body)


@given(st.binary(max_size=200))
def test_garbage_raises_invalid_arguments_and_nothing_else(body: bytes) -> None:
    for function in (plain, variadic):
        with pytest.raises(InvalidArguments):
            Arguments(function, "function").decode(body)


@given(st.data())
def test_a_body_with_a_damaged_byte_is_read_or_invalid(data: Any) -> None:
    arguments = Arguments(plain, "plain")
    damaged = bytearray(BODY)
    damaged[data.draw(st.integers(0, len(BODY) - 1))] = data.draw(st.integers(0, 255))
    try:
        (day,), kwargs = arguments.decode(bytes(damaged))
    except InvalidArguments:
        return
    assert type(day) is date
    assert all(type(value) is int for value in kwargs.values())


def test_the_error_for_an_invalid_body_does_not_show_its_value() -> None:
    body = msgspec.json.encode(([CANARY], {}))
    for hint in (int, Color, UUID, Strict, StrictModel, list[int]):
        with pytest.raises(InvalidArguments, match="'value'") as caught:
            Arguments(taking(hint), "take").decode(body)
        assert not [text for text in texts_of(caught.value) if CANARY in text]


@pytest.mark.parametrize("hint", [int, "NowhereDefined"], ids=["does not fit", "cannot be resolved"])
async def test_an_unreadable_body_fails_its_job_and_not_the_workers(
    engine: Engine, heard: Heard, hint: Any
) -> None:
    engine.task(name="work")(taking(hint))
    good = engine.task(name="good")(taking(int))
    await engine._broker.enqueue("default", [Envelope("bad", "work", b'[["x"],{}]')])
    job = await engine.schedule(good, 1)
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names("bad") == ["job_started", "job_failed", "job_finished"]
    assert heard.names(job.id)[-1] == "job_finished"
    assert isinstance(heard.last("job_failed")["err"], AiospinachError)
    assert "work()" in str(heard.last("job_failed")["err"])


@pytest.mark.parametrize("hint", [int, "NowhereDefined"], ids=["does not fit", "cannot be resolved"])
async def test_a_job_with_an_unreadable_body_is_cancelled_without_its_arguments(
    engine: Engine, heard: Heard, hint: Any
) -> None:
    engine.task(name="work")(taking(hint))
    await engine._broker.enqueue("default", [Envelope("bad", "work", b'[["x"],{}]')])
    assert await engine.cancel("bad") is JobStatus.QUEUED
    assert heard.names() == ["job_cancelled"]
    assert heard.last("job_cancelled")["job"].args == ()


def test_calls_of_more_shapes_than_the_cache_holds_are_decoded() -> None:
    def function(**kwargs: int) -> None: ...

    arguments = Arguments(function, "function")
    names = [f"name{number}" for number in range(1000)]
    random.Random(7).shuffle(names)
    for name in names:
        assert arguments.decode(arguments.encode((), {name: 1})) == ((), {name: 1})


def test_a_function_without_a_signature_is_refused() -> None:
    with pytest.raises(UnsupportedType, match="wrap it in a function"):
        Arguments(type, "type")


def test_the_recursion_limit_is_not_changed() -> None:
    before = sys.getrecursionlimit()
    with pytest.raises(InvalidArguments):
        Arguments(taking(Any), "take").encode((nested(50_000),), {})
    assert sys.getrecursionlimit() == before


def test_a_decoder_is_built_once_per_call_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    def function(a: int, b: int = 0) -> None: ...

    made: list[object] = []

    def counting(hint: Any) -> Any:
        made.append(hint)
        return reader_of(hint)

    arguments = Arguments(function, "function")
    arguments.resolve()
    monkeypatch.setattr("aiospinach.arguments.codec.reader_of", counting)
    for _ in range(10):
        assert arguments.decode(b"[[1],{}]") == ((1,), {})
        assert arguments.decode(b"[[1,2],{}]") == ((1, 2), {})
        assert arguments.encode((1,), {}) == b"[[1],{}]"
    assert len(made) == 2
