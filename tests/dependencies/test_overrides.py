"""A test replaces factories for a while: those of jobs, of shared values, and of FastAPI."""

from __future__ import annotations

from typing import Annotated, Any

import fastapi
import pytest

from aiospinach import Depends, Engine, InvalidValue, Provided, Shared, UnsupportedType

from ..conftest import Heard
from ..waiting import until
from .conftest import Diary


def name() -> str:
    return "real"


def greeting(who: str = Depends(name)) -> str:
    return f"hello {who}"


@pytest.fixture
def got(engine: Engine) -> list[str]:
    """What the task ``take`` was called with."""
    got: list[str] = []

    @engine.task(name="take")
    async def take(
        own: str = Depends(name),
        nested: str = Depends(greeting),
        of_fastapi: Annotated[str, fastapi.Depends(name)] = Provided,
        shared: str = Shared(name),
    ) -> None:
        got.extend([own, nested, of_fastapi, shared])

    return got


async def run(engine: Engine, got: list[str]) -> list[str]:
    got.clear()
    await engine.schedule("take")
    await engine.start_workers(stop_when_queue_empty=True)
    in_worker = list(got)
    got.clear()
    await engine.execute("take")
    assert got == in_worker
    return in_worker


async def test_an_override_counts_wherever_the_factory_is_used(engine: Engine, got: list[str]) -> None:
    real = ["real", "hello real", "real", "real"]
    assert await run(engine, got) == real
    with engine.override(name, lambda: "fake"):
        assert await run(engine, got) == ["fake", "hello fake", "fake", "fake"]
        with engine.override(name, lambda: "other"), engine.override(greeting, lambda: "bye"):
            assert await run(engine, got) == ["other", "bye", "other", "other"]
        assert await run(engine, got) == ["fake", "hello fake", "fake", "fake"]
    assert await run(engine, got) == real


async def test_an_override_ends_with_an_error_of_the_block(engine: Engine, got: list[str]) -> None:
    with pytest.raises(ValueError, match="no"), engine.override(name, lambda: "fake"):
        raise ValueError("no")
    assert (await run(engine, got))[0] == "real"


async def test_a_replacement_has_scopes_and_dependencies_of_its_own(
    engine: Engine, got: list[str], diary: Diary
) -> None:
    inner = diary.scope("inner")

    def fake(value: str = Depends(inner)) -> str:
        return f"fake with {value}"

    with engine.override(name, fake):
        assert (await run(engine, got))[0] == "fake with inner"
    # For each job, and for each scope of shared values.
    assert diary == ["open inner", "open inner", "close inner", "close inner"] * 2


async def test_a_shared_value_that_is_open_is_not_used_in_the_place_of_a_fake(
    engine: Engine, diary: Diary
) -> None:
    def client(who: str = Shared(name)) -> str:
        return f"client of {who}"

    @engine.task
    async def use(http: str = Shared(client)) -> None:
        diary.append(http)

    async def use_once() -> None:
        count = len(diary)
        await use.schedule()
        await until(lambda: len(diary) > count, "the job has run")

    await engine.start_workers(block=False)
    await use_once()
    with engine.override(name, lambda: "fake"):
        await use_once()
    await use_once()
    assert diary == ["client of real", "client of fake", "client of real"]


async def test_an_override_that_makes_a_circle_is_an_error_of_the_job(
    engine: Engine, got: list[str], heard: Heard
) -> None:
    with engine.override(name, greeting):
        await engine.schedule("take")
        await engine.start_workers(stop_when_queue_empty=True)
    assert "depends on itself" in str(heard.last("job_failed")["err"])


def test_what_cannot_be_called_in_a_job_replaces_nothing(engine: Engine) -> None:
    def needs(value: int) -> int:
        return value

    anything: Any = "fake"
    with pytest.raises(InvalidValue, match=r"override\(\) takes a factory and a function.*not str"):
        engine.override(name, anything)
    with pytest.raises(InvalidValue, match=r"override\(\) takes a factory and a function.*not str"):
        engine.override(anything, name)
    with pytest.raises(UnsupportedType, match=r"needs\(\): parameter 'value' has no default"):
        engine.override(name, needs)
