"""Datetimes with zones and pydantic models arrive equal, or the error names the part that would not."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, SecretStr

from aiospinach import Engine, InvalidArguments, MemoryBroker, Tasks, UnsupportedType
from aiospinach.arguments.codec import Arguments

from .brokers_under_test import BROKERS, MakeBroker
from .conftest import Heard

PARIS = ZoneInfo("Europe/Paris")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
DAY = timedelta(days=1)


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    make: MakeBroker = request.param
    async with Engine(make(), namespace) as engine:
        yield engine


def taking(hint: Any) -> Any:
    async def work(value: Any) -> Any:
        return value

    work.__annotations__["value"] = hint
    return work


async def arrived(engine: Engine, heard: Heard, hint: Any, value: Any) -> Any:
    """The value that a job receives if it is scheduled with ``value``."""
    await engine.task(name="work")(taking(hint)).schedule(value)
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.last("job_finished")["err"] is None
    return heard.last("job_finished")["result"]


def refusal(hint: Any, value: Any) -> str:
    """The message of the error for a value that is refused."""
    arguments = Arguments(taking(hint), "work")
    with pytest.raises(InvalidArguments) as caught:
        arguments.encode((value,), {})
    assert caught.value.__context__ is None
    return str(caught.value)


MOMENTS = [
    datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=0),
    datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=1),
    datetime(2026, 10, 24, 12, 0, tzinfo=PARIS),
    datetime(2026, 3, 29, 2, 30, tzinfo=PARIS),  # skipped
    datetime(2026, 3, 29, 2, 30, tzinfo=PARIS, fold=1),
    datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=PARIS, fold=1),
    datetime(2026, 4, 5, 1, 45, tzinfo=LORD_HOWE, fold=1),
    datetime(1890, 1, 1, tzinfo=PARIS),  # the offset has seconds
    datetime(2026, 7, 1, tzinfo=ZoneInfo("Asia/Kolkata")),
    datetime(2026, 7, 1, tzinfo=ZoneInfo("UTC")),
    datetime(2026, 7, 1, tzinfo=UTC),
    datetime(2026, 7, 1, tzinfo=timezone(timedelta(hours=-9, minutes=-30))),
    datetime(2026, 7, 1),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
async def test_a_datetime_keeps_its_zone(engine: Engine, heard: Heard, moment: datetime) -> None:
    copy = await arrived(engine, heard, datetime, moment)
    assert copy == moment
    assert copy.utcoffset() == moment.utcoffset()
    # One year contains both changes of the clocks.
    assert [str(copy + days * DAY) for days in range(0, 400, 9)] == [
        str(moment + days * DAY) for days in range(0, 400, 9)
    ]


CONTAINERS: list[tuple[Any, Any]] = [
    (datetime | None, MOMENTS[1]),
    (list[datetime], MOMENTS),
    (dict[str, list[datetime | None]], {"a": [MOMENTS[0], None], "b": MOMENTS}),
    (tuple[int, datetime], (1, MOMENTS[1])),
    (set[datetime], {MOMENTS[2], MOMENTS[10]}),
    (Annotated[datetime, "when"], MOMENTS[1]),
    (Sequence[datetime], [MOMENTS[1]]),
]


@pytest.mark.parametrize(("hint", "value"), CONTAINERS)
async def test_datetimes_in_collections_keep_their_zones(
    engine: Engine, heard: Heard, hint: Any, value: Any
) -> None:
    copy = await arrived(engine, heard, hint, value)
    assert copy == value

    def zones(thing: Any) -> list[Any]:
        if isinstance(thing, datetime):
            key = thing.tzinfo.key if isinstance(thing.tzinfo, ZoneInfo) else "UTC"
            return [thing.utcoffset(), key]
        parts = thing.values() if isinstance(thing, dict) else thing if hasattr(thing, "__iter__") else ()
        return [zones(part) for part in parts]

    assert zones(copy) == zones(value)


async def test_datetimes_in_keyword_arguments_keep_their_zones(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def remind(who: str, *at: datetime, until: datetime, **more: datetime) -> list[Any]:
        return [who, at, until, more]

    first, last = MOMENTS[:2]
    await remind.schedule("ann", first, last, until=last, other=first)
    await engine.start_workers(stop_when_queue_empty=True)
    result = heard.last("job_finished")["result"]
    assert result == ["ann", (first, last), last, {"other": first}]
    assert [moment.tzinfo for moment in (*result[1], result[2], result[3]["other"])] == [PARIS] * 4


def test_a_datetime_keeps_its_moment_if_the_offset_of_its_zone_has_changed() -> None:
    arguments = Arguments(taking(datetime), "work")
    body = b'[["2026-07-01T12:00:00+05:00[Europe/Paris]"],{}]'
    (copy,), _ = arguments.decode(body)
    assert copy == datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert copy.tzinfo is PARIS


@pytest.mark.parametrize(
    "text",
    ["2026-07-01T12:00:00+02:00[Mars/Olympus]", "2026-07-01[Europe/Paris", "[]", "[Europe/Paris]", "x]"],
)
def test_an_unknown_zone_is_invalid(text: str) -> None:
    with pytest.raises(InvalidArguments):
        Arguments(taking(datetime), "work").decode(msgspec.json.encode([[text], {}]))


class Fickle(tzinfo):
    """A zone that is no ZoneInfo."""

    def tzname(self, moment: datetime | None) -> str:
        return "Fickle"

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=2 if moment and moment.month in range(4, 11) else 1)

    def dst(self, moment: datetime | None) -> timedelta:
        return timedelta(0)


@dataclasses.dataclass
class Event:
    name: str
    at: datetime


class Plan(msgspec.Struct):
    events: list[Event]


@attrs.define
class Shift:
    begins: datetime


class Meeting(BaseModel):
    at: datetime
    shifts: list[datetime] = []


class Rota(BaseModel):
    event: Event


@pydantic.dataclasses.dataclass
class Visit:
    at: datetime


class Round(BaseModel):
    visits: list[Visit]


LOST: list[tuple[Any, Any, str]] = [
    (Event, Event("x", MOMENTS[2]), "its part 'at' has a time zone"),
    (Event, Event("x", MOMENTS[1]), "its part 'at' has a time zone"),
    (
        Plan,
        Plan([Event("x", MOMENTS[10]), Event("y", MOMENTS[2])]),
        "its part 'events[1].at' has a time zone",
    ),
    (Shift, Shift(MOMENTS[2]), "its part 'begins' has a time zone"),
    (Meeting, Meeting(at=MOMENTS[10], shifts=[MOMENTS[2]]), "its part 'shifts[0]' has a time zone"),
    (Rota, Rota(event=Event("x", MOMENTS[2])), "its part 'event.at' has a time zone"),
    (Visit, Visit(at=MOMENTS[2]), "its part 'at' has a time zone"),
    (Round, Round(visits=[Visit(at=MOMENTS[2])]), "its part 'visits[0].at' has a time zone"),
    (dict[datetime, int], {MOMENTS[2]: 1}, "its part '[key]' has a time zone"),
    (datetime | int, MOMENTS[2], "it has a time zone"),
    (datetime, datetime(2026, 7, 1, tzinfo=Fickle()), "it has a time zone"),
    (datetime, datetime(2026, 10, 25, 2, 30, fold=1), "it is naive and has a fold"),
    (time, time(2, 30, fold=1), "it is naive and has a fold"),
    (time, time(2, 30, tzinfo=PARIS), "it is a time of a zone"),
]


@pytest.mark.parametrize(("hint", "value", "named"), LOST)
def test_the_part_that_would_lose_its_zone_is_named(hint: Any, value: Any, named: str) -> None:
    assert f"would not arrive equal: {named}" in refusal(hint, value)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Event, Event("x", datetime(2026, 7, 1, tzinfo=ZoneInfo("Asia/Kolkata")))),
        (Event, Event("x", datetime(2026, 7, 1, tzinfo=ZoneInfo("UTC")))),
        (Meeting, Meeting(at=MOMENTS[10])),
        (Visit | int, Visit(at=MOMENTS[10])),
        (Round, Round(visits=[Visit(at=MOMENTS[10])])),
        (time, time(2, 30, tzinfo=UTC)),
        (datetime | int, MOMENTS[10]),
    ],
)
async def test_a_value_that_loses_nothing_arrives(
    engine: Engine, heard: Heard, hint: Any, value: Any
) -> None:
    assert await arrived(engine, heard, hint, value) == value


# Pydantic models.


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    name: str


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Bird(BaseModel):
    wings: int = Field(2, validation_alias="Wings")


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


def kind_of(value: Any) -> str:
    return str(value["kind"] if isinstance(value, dict) else value.kind)


Tagged = Annotated[
    Annotated[Cat, pydantic.Tag("cat")] | Annotated[Dog, pydantic.Tag("dog")], pydantic.Discriminator(kind_of)
]


class Owner(BaseModel):
    pets: list[Pet]


UNIONS: list[tuple[Any, Any]] = [
    (Pet, Cat(name="Tom")),
    (Pet, Dog(name="Rex")),
    (Cat | Dog, Dog(name="Rex")),
    (Tagged, Dog(name="Rex")),
    (Pet | None, None),
    (Pet | None, Cat(name="Tom")),
    (list[Pet], [Cat(name="Tom"), Dog(name="Rex")]),
    (dict[str, Pet | None], {"a": Cat(name="Tom"), "b": None}),
    (tuple[int, Pet], (1, Dog(name="Rex"))),
    (Cat | int, 5),
    (Cat | str, "Tom"),
    (Cat | Bird, Bird.model_validate({"Wings": 3})),
    (Owner, Owner(pets=[Dog(name="Rex")])),
]


@pytest.mark.parametrize(("hint", "value"), UNIONS)
async def test_members_of_a_union_of_models_arrive_equal(
    engine: Engine, heard: Heard, hint: Any, value: Any
) -> None:
    copy = await arrived(engine, heard, hint, value)
    assert copy == value
    assert type(copy) is type(value)


def test_a_value_outside_of_a_union_of_models_is_refused() -> None:
    assert "argument 'value'" in refusal(Pet, {"kind": "cow", "name": "xyzzy"})
    assert "xyzzy" not in refusal(Pet, {"kind": "cow", "name": "xyzzy"})
    assert "argument 'value'" in refusal(Pet, Bird.model_validate({"Wings": 2}))
    assert "argument 'value'" in refusal(Cat | int, "5")


def test_unions_of_models_in_other_classes_are_refused_where_they_are_declared() -> None:
    @dataclasses.dataclass
    class Kennel:
        pet: Cat | Dog

    with pytest.raises(UnsupportedType, match="more than one custom type"):
        Tasks().task(name="work")(taking(Kennel))


class Reads(BaseModel):
    user: int = Field(validation_alias="uid")


class Chooses(BaseModel):
    user: int = Field(validation_alias=AliasChoices("uid", "user_id"))


class Digs(BaseModel):
    user: int = Field(validation_alias=AliasPath("user", "id"))


class Writes(BaseModel):
    user: int = Field(serialization_alias="uid")


class Both(BaseModel):
    user: int = Field(alias="uid")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    user: int = Field(validation_alias="uid", serialization_alias="userId")


class Generated(BaseModel):
    model_config = ConfigDict(
        alias_generator=pydantic.AliasGenerator(
            validation_alias=lambda name: f"{name}_in", serialization_alias=lambda name: f"{name}_out"
        )
    )
    user: int


class Swapped(BaseModel):
    a: int = Field(validation_alias="b")
    b: int = Field(validation_alias="a")


class ByNameOnly(BaseModel):
    model_config = ConfigDict(validate_by_alias=False, validate_by_name=True)
    user: int = Field(alias="uid")


class Defaulted(BaseModel):
    user: int = Field(0, validation_alias="uid")


class Nests(BaseModel):
    first: Reads
    others: dict[str, list[Writes]] = {}


class Computes(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.a


MODELS = [
    Reads.model_validate({"uid": 1}),
    Chooses.model_validate({"user_id": 1}),
    Digs.model_validate({"user": {"id": 1}}),
    Writes(user=1),
    Both(uid=1),
    Strict.model_validate({"uid": 1}),
    Generated.model_validate({"user_in": 1}),
    Swapped(a=1, b=2),
    ByNameOnly.model_validate({"user": 1}),
    Defaulted.model_validate({"uid": 5}),
    Nests(first=Reads.model_validate({"uid": 1}), others={"x": [Writes(user=2)]}),
    Computes(a=1),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
async def test_a_model_arrives_with_any_kind_of_alias(engine: Engine, heard: Heard, model: BaseModel) -> None:
    assert await arrived(engine, heard, type(model), model) == model


def test_a_model_with_symmetric_aliases_is_stored_by_alias() -> None:
    body = Arguments(taking(Both), "work").encode((Both(uid=1),), {})
    assert body == b'[[{"uid":1}],{}]'


class Login(BaseModel):
    name: str
    password: SecretStr


class Account(BaseModel):
    logins: list[Login] = []
    cache: str = Field(default="", exclude=True)


class Token(BaseModel):
    value: str = Field(exclude=True)


class Hidden(BaseModel):
    _key: int = 0


def hidden(key: int) -> Hidden:
    model = Hidden()
    model._key = key
    return model


NAMED: list[tuple[Any, Any, str]] = [
    (Login, Login(name="ann", password=SecretStr("xyzzy")), "its part 'password' is a secret"),
    (
        list[Account],
        [Account(logins=[Login(name="ann", password=SecretStr("xyzzy"))])],
        "its part '[0].logins[0].password' is a secret",
    ),
    (Account, Account(cache="xyzzy"), "its part 'cache' is excluded when the model is written"),
    (Token, Token(value="xyzzy"), "its part 'value' is excluded when the model is written"),
    (Hidden, hidden(4711), "its part '_key' is private"),
]


@pytest.mark.parametrize(("hint", "value", "named"), NAMED)
def test_a_field_that_is_not_serialized_is_named(hint: Any, value: Any, named: str) -> None:
    message = refusal(hint, value)
    assert named in message
    assert ";" in message  # followed by advice
    assert "xyzzy" not in message


@dataclasses.dataclass
class Sums:
    a: int
    total: int = 0

    def __post_init__(self) -> None:
        self.total += self.a


def test_a_field_that_is_restored_with_another_value_is_named() -> None:
    assert "its part 'total' comes back as another value" in refusal(Sums, Sums(1))
    assert "its part '[1].total' comes back" in refusal(list[Sums], [Sums(0), Sums(1)])


async def test_an_excluded_field_that_has_its_default_arrives(engine: Engine, heard: Heard) -> None:
    assert await arrived(engine, heard, Account, Account()) == Account()


async def test_a_secret_with_a_serializer_arrives(engine: Engine, heard: Heard) -> None:
    class Shown(BaseModel):
        password: SecretStr

        @pydantic.field_serializer("password", when_used="json")
        def show(self, value: SecretStr) -> str:
            return value.get_secret_value()

    copy = await arrived(engine, heard, Shown, Shown(password=SecretStr("x")))
    assert copy.password.get_secret_value() == "x"


async def test_a_job_with_a_zone_unknown_to_the_worker_fails(namespace: str, heard: Heard) -> None:
    async with Engine(MemoryBroker(), namespace) as engine:
        task = engine.task(name="work")(taking(datetime))
        encode = task._arguments.encode
        task._arguments.encode = lambda *call: encode(*call).replace(b"Paris", b"Atlantis")  # type: ignore[method-assign]
        await task.schedule(MOMENTS[0])
        await engine.start_workers(stop_when_queue_empty=True)
        assert isinstance(heard.last("job_failed")["err"], InvalidArguments)
