"""One declaration of FastAPI serves an endpoint and a task, with the same meaning in both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import fastapi
import httpx
import pytest

from aiospinach import Depends, Engine, Provided

from ..conftest import Heard

happened: list[str] = []


class Session:
    """A database session that a factory opens and closes."""

    def __init__(self) -> None:
        self.is_open = True


async def get_session() -> AsyncIterator[Session]:
    session = Session()
    happened.append("open")
    try:
        yield session
    except Exception:
        happened.append("rollback")
        raise
    finally:
        session.is_open = False
        happened.append("close")


class Rows:
    def __init__(self, session: Annotated[Session, fastapi.Depends(get_session)], limit: int = 10) -> None:
        self.session = session
        self.limit = limit


class Client:
    """A client that all share: nothing may enter or leave it, or await it."""

    def __enter__(self) -> None:
        raise AssertionError("entered")

    def __exit__(self, *error: object) -> None: ...

    def __await__(self) -> Iterator[None]:
        raise AssertionError("awaited")


client = Client()


def get_client() -> Client:
    return client


async def get_client_later() -> Client:
    return client


def counter() -> object:
    return object()


@asynccontextmanager
async def decorated() -> AsyncIterator[str]:
    happened.append("open decorated")
    yield "decorated"
    happened.append("close decorated")


SessionOf = Annotated[Session, fastapi.Depends(get_session)]


@pytest.fixture(autouse=True)
def nothing_happened() -> None:
    happened.clear()


async def request(app: fastapi.FastAPI) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.post("/bills/17")


@pytest.mark.parametrize("fails", [False, True], ids=["success", "error"])
async def test_an_endpoint_and_a_task_have_the_same_session(
    engine: Engine, heard: Heard, fails: bool
) -> None:
    app = fastapi.FastAPI()
    seen: list[tuple[int, bool, int, bool]] = []

    @engine.task(name="bill")
    async def bill(
        order: int,
        session: SessionOf,
        rows: Annotated[Rows, fastapi.Depends()],
        plain: Annotated[Client, fastapi.Depends(get_client)],
        later: Annotated[Client, fastapi.Depends(get_client_later)] = Provided,
    ) -> None:
        assert plain is later is client
        seen.append((order, session.is_open, rows.limit, rows.session is session))
        if fails:
            raise ValueError("no")

    @app.post("/bills/{order}")
    async def endpoint(
        order: int,
        session: SessionOf,
        rows: Annotated[Rows, fastapi.Depends()],
        plain: Annotated[Client, fastapi.Depends(get_client)],
        later: Annotated[Client, fastapi.Depends(get_client_later)],
    ) -> None:
        assert happened == ["open"]
        await bill(order, session, rows, plain, later)

    answer = await request(app)
    assert answer.status_code == (500 if fails else 200)
    in_endpoint, of_endpoint = list(happened), list(seen)
    happened.clear()
    seen.clear()
    await engine.schedule("bill", 17)
    await engine.start_workers(stop_when_queue_empty=True)
    assert happened == in_endpoint
    assert seen == of_endpoint == [(17, True, 10, True)]
    assert heard.count("job_failed") == fails


async def test_an_endpoint_schedules_a_task_that_shares_its_declaration(engine: Engine) -> None:
    app = fastapi.FastAPI()
    sessions: list[Session] = []

    @engine.task
    async def bill(order: int, session: SessionOf = Provided) -> None:
        sessions.append(session)

    @app.post("/bills/{order}")
    async def endpoint(order: int, session: SessionOf) -> None:
        sessions.append(session)
        await bill.schedule(order)

    assert (await request(app)).status_code == 200
    await engine.start_workers(stop_when_queue_empty=True)
    assert len(set(sessions)) == 2
    assert happened == ["open", "close"] * 2


async def test_a_value_is_made_for_each_use_without_the_cache(engine: Engine) -> None:
    got: list[tuple[object, ...]] = []

    @engine.task
    async def take(
        a: Annotated[object, fastapi.Depends(counter, use_cache=False)] = Provided,
        b: Annotated[object, fastapi.Depends(counter, use_cache=False)] = Provided,
        c: Annotated[object, fastapi.Depends(counter)] = Provided,
        d: object = fastapi.Depends(counter),
    ) -> None:
        got.append((a, b, c, d))

    await take.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    [(a, b, c, d)] = got
    assert len({a, b, c}) == 3
    assert c is d


async def test_both_kinds_of_declarations_of_a_factory_have_one_value(engine: Engine) -> None:
    got: list[bool] = []

    @engine.task
    async def take(rows: Rows = Depends(Rows), session: Any = Depends(get_session)) -> None:
        got.append(rows.session is session)

    await take.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert got == [True]
    assert happened == ["open", "close"]


async def test_a_decorated_context_manager_is_entered(engine: Engine) -> None:
    @engine.task
    async def take(a: Annotated[str, fastapi.Depends(decorated)] = Provided) -> None:
        happened.append(a)

    await take.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert happened == ["open decorated", "decorated", "close decorated"]


async def test_fastapi_is_not_imported_for_a_task_without_it() -> None:
    import subprocess
    import sys

    code = """
import sys
from typing import Annotated
from aiospinach import Depends, Engine, MemoryBroker, Provided
engine = Engine(MemoryBroker())
@engine.task
async def work(a: Annotated[str, Depends(str.upper if False else lambda: "")] = Provided) -> None: ...
assert work._injection and not {"fastapi", "starlette", "pydantic"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)
