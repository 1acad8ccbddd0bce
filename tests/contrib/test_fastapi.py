"""``jobs()``: an endpoint collects jobs, which are stored when it has succeeded and before its response."""

# Endpoints within a class name a local dependency, so annotations are not strings here.

import inspect
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Annotated, Any

import fastapi
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import StreamingResponse

from aiospinach import (
    AiospinachError,
    Broker,
    BrokerUnavailable,
    Engine,
    InvalidValue,
    Job,
    MemoryBroker,
    RedisBroker,
    signals,
)
from aiospinach.brokers.questions import Counts
from aiospinach.contrib.fastapi import Jobs, jobs
from aiospinach.logs import FIELDS

from ..asking import counts
from ..brokers_under_test import BROKERS, MakeBroker
from ..servers import free_port

LATER = datetime(2100, 1, 1, tzinfo=UTC)


def calls_of(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the calls to a broker, by name."""
    called: Counter[str] = Counter()

    def count(name: str) -> None:
        method = getattr(broker, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            called[name] += 1
            return method(*args, **kwargs)

        monkeypatch.setattr(broker, name, counting)

    for name in ("open", "enqueue", "look", "steer"):
        count(name)
    return called


class Shop:
    """An application whose endpoints collect jobs in several ways."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.app = app = FastAPI()
        self.errors: list[Exception] = []
        JobsOfShop = Annotated[Jobs, Depends(jobs(engine))]

        @engine.task(name="charge")
        async def charge(order: int) -> None: ...

        @engine.task(name="ship", queue="parcels")
        async def ship(order: int) -> None: ...

        async def customer(jobs: Annotated[Jobs, Depends(jobs(engine))]) -> str:
            jobs.schedule(charge, 1)
            return "ann"

        @app.post("/orders")
        async def order(jobs: JobsOfShop) -> str:
            jobs.schedule(charge, 17)
            jobs.schedule_at(charge, LATER, 17)
            jobs.schedule("ship", 17)
            return "ordered"

        @app.post("/plain")
        def plain(jobs: JobsOfShop) -> str:
            jobs.schedule(charge, 17)
            jobs.schedule_at("charge", LATER, 17)
            return "ordered"

        @app.post("/shared")
        async def shared(jobs: JobsOfShop, name: Annotated[str, Depends(customer)]) -> int:
            jobs.schedule(charge, 2)
            return len(jobs)

        @app.post("/none")
        async def none(jobs: JobsOfShop) -> str:
            return "nothing to do"

        @app.post("/fails/{how}")
        async def fails(how: str, jobs: JobsOfShop) -> int:
            jobs.schedule(charge, 1)
            jobs.schedule(charge, 2)
            if how == "http":
                raise HTTPException(409, "sold out")
            if how == "argument":
                jobs.schedule(charge, "many")  # type: ignore[call-overload]
            if how == "task":
                jobs.schedule("unknown", 3)
            if how == "response":
                return "no number"  # type: ignore[return-value]
            raise ValueError("broken")

        @app.post("/fails-plainly")
        def fails_plainly(jobs: JobsOfShop) -> None:
            jobs.schedule(charge, 1)
            raise ValueError("broken")

        def too_late(jobs: Jobs) -> None:
            attempts: list[Callable[[], None]] = [
                lambda: jobs.schedule(charge, 1),
                lambda: jobs.schedule_at(charge, LATER, 1),
            ]
            for attempt in attempts:
                try:
                    attempt()
                except AiospinachError as error:
                    self.errors.append(error)

        @app.post("/streams")
        async def streams(jobs: JobsOfShop) -> StreamingResponse:
            async def body() -> AsyncIterator[str]:
                too_late(jobs)
                yield "done"

            return StreamingResponse(body())

        @app.post("/background")
        async def background(jobs: JobsOfShop, tasks: BackgroundTasks) -> None:
            tasks.add_task(too_late, jobs)

        @app.websocket("/socket")
        async def socket(socket: WebSocket, jobs: JobsOfShop) -> None:
            raise AssertionError("it would lose its jobs in an outage")

    async def post(self, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.post(path)


@pytest.fixture(params=BROKERS)
async def shop(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Shop]:
    make_broker: MakeBroker = request.param
    async with Engine(make_broker(), namespace) as engine:
        yield Shop(engine)


async def stored(shop: Shop, queue: str = "default") -> tuple[int, int]:
    found: Counts = await counts(shop.engine._broker, queue)
    return found.ready, found.waiting


async def test_the_jobs_of_a_request_are_stored_with_one_call_for_each_queue(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = calls_of(shop.engine._broker, monkeypatch)
    answer = await shop.post("/orders")
    assert (answer.status_code, answer.json()) == (200, "ordered")
    assert called["enqueue"] == 2
    assert await stored(shop) == (1, 1)
    assert await stored(shop, "parcels") == (1, 0)


async def test_a_plain_endpoint_collects_as_well(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    called = calls_of(shop.engine._broker, monkeypatch)
    assert (await shop.post("/plain")).status_code == 200
    assert called["enqueue"] == 1
    assert await stored(shop) == (1, 1)


async def test_all_parts_of_a_request_share_a_batch(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    called = calls_of(shop.engine._broker, monkeypatch)
    assert (await shop.post("/shared")).json() == 2
    assert called["enqueue"] == 1
    assert await stored(shop) == (2, 0)


async def test_requests_share_nothing(shop: Shop) -> None:
    for number in range(1, 4):
        assert (await shop.post("/shared")).json() == 2
        assert await stored(shop) == (2 * number, 0)


async def test_no_call_is_made_without_jobs(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    called = calls_of(shop.engine._broker, monkeypatch)
    assert (await shop.post("/none")).status_code == 200
    assert called == Counter()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/fails/http", 409),
        ("/fails/error", 500),
        ("/fails/argument", 500),
        ("/fails/task", 500),
        ("/fails/response", 500),
        ("/fails-plainly", 500),
    ],
)
async def test_an_endpoint_that_raises_stores_none(
    shop: Shop, path: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = calls_of(shop.engine._broker, monkeypatch)
    assert (await shop.post(path)).status_code == status
    assert called["enqueue"] == 0
    assert await stored(shop) == (0, 0)


@pytest.mark.skipif(
    "scope" not in inspect.signature(Depends).parameters, reason="dependencies of this release have no scope"
)
@pytest.mark.parametrize(("commit", "status", "ready"), [("works", 200, 1), ("fails", 500, 0)])
async def test_a_transaction_that_ends_with_the_endpoint_is_committed_before_the_jobs_are_stored(
    shop: Shop, commit: str, status: int, ready: int
) -> None:
    stored_before: list[tuple[int, int]] = []

    async def session() -> AsyncIterator[None]:
        yield
        stored_before.append(await stored(shop))
        if commit == "fails":
            raise ValueError("serialization failure")

    @shop.app.post("/in-transaction")
    async def order(
        jobs: Annotated[Jobs, Depends(jobs(shop.engine))],
        session: Annotated[None, Depends(session, scope="function")],
    ) -> None:
        jobs.schedule("charge", 1)

    assert (await shop.post("/in-transaction")).status_code == status
    assert stored_before == [(0, 0)]
    assert await stored(shop) == (ready, 0)


@pytest.mark.parametrize("path", ["/streams", "/background"])
async def test_jobs_that_come_after_the_endpoint_are_refused(shop: Shop, path: str) -> None:
    assert (await shop.post(path)).status_code == 200
    assert [type(error) for error in shop.errors] == [AiospinachError] * 2
    assert "await engine.schedule(...)" in str(shop.errors[0])
    assert await stored(shop) == (0, 0)


# The broker is away.


@pytest.fixture
def away(namespace: str) -> Shop:
    broker = RedisBroker(f"redis://127.0.0.1:{free_port()}", enqueue_timeout=0.05)
    return Shop(Engine(broker, namespace))


@pytest.mark.parametrize("path", ["/orders", "/plain", "/shared"])
async def test_an_outage_is_a_503_which_names_a_time(away: Shop, path: str) -> None:
    answer = await away.post(path)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "try again" in answer.json()["detail"]


async def test_a_websocket_is_refused(shop: Shop) -> None:
    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None: ...

    scope = {"type": "websocket", "path": "/socket", "headers": [], "query_string": b"", "subprotocols": []}
    with pytest.raises(AiospinachError, match=r"websocket use 'await engine\.schedule"):
        await shop.app(scope, receive, send)


async def test_requests_without_jobs_do_not_notice_an_outage(away: Shop) -> None:
    assert (await away.post("/none")).status_code == 200
    assert (await away.post("/fails/http")).status_code == 409


class HalfAway(MemoryBroker):
    """A broker that stores no parcels."""

    async def enqueue(self, queue: str, *args: Any, **kwargs: Any) -> list[bool]:
        if queue == "parcels":
            raise BrokerUnavailable("no answer")
        return await super().enqueue(queue, *args, **kwargs)


async def test_the_ids_of_a_partly_stored_batch_are_logged(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(HalfAway(), namespace)
    ids: list[str] = []

    signals.job_scheduled.connect_via(namespace)(lambda sender, job, **kwargs: ids.append(job.id))
    assert (await Shop(engine).post("/orders")).status_code == 503
    [record] = [record for record in caplog.records if record.name == "aiospinach"]
    assert record.levelno == logging.ERROR
    assert len(ids) == 2
    assert all(job_id in record.getMessage() for job_id in ids)
    assert {name: getattr(record, name) for name in FIELDS} == {
        **dict.fromkeys(FIELDS),
        "namespace": namespace,
    }


@pytest.mark.parametrize(
    ("setter", "headers"),
    [
        ("middleware", {"request_id": "r-1"}),
        ("async dependency", {"request_id": "r-1"}),
        ("plain dependency", {}),
        ("plain endpoint", {}),
    ],
)
async def test_variables_are_read_in_the_context_of_the_request_when_its_jobs_are_stored(
    shop: Shop, setter: str, headers: dict[str, str]
) -> None:
    request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
    shop.engine.carry(request_id)

    def set_if(name: str) -> None:
        if name == setter:
            request_id.set("r-1")

    async def dependency() -> None:
        set_if("async dependency")

    @shop.app.middleware("http")
    async def middleware(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        set_if("middleware")
        return await call_next(request)

    @shop.app.post("/set", dependencies=[Depends(dependency), Depends(lambda: set_if("plain dependency"))])
    def order(jobs: Annotated[Jobs, Depends(jobs(shop.engine))]) -> None:
        set_if("plain endpoint")
        jobs.schedule("charge", 1)

    jobs_seen: list[Job] = []

    def see(namespace: str, job: Job, **kwargs: object) -> None:
        jobs_seen.append(job)

    with signals.job_scheduled.connected_to(see, shop.engine.namespace):
        assert (await shop.post("/set")).status_code == 200
    assert [dict(job.headers) for job in jobs_seen] == [headers]


def test_an_object_that_is_no_engine_collects_no_jobs() -> None:
    with pytest.raises(InvalidValue, match=r"takes an Engine, not FastAPI: Depends\(jobs\(engine\)\)"):
        jobs(FastAPI())  # type: ignore[arg-type]


def test_releases_that_end_dependencies_after_the_response_are_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def old(dependency: Any = None, *, use_cache: bool = True) -> Any:
        return Depends(dependency, use_cache=use_cache)

    monkeypatch.setattr(fastapi, "Depends", old)
    monkeypatch.setattr(fastapi, "__version__", "0.117.1")
    jobs(engine)
    monkeypatch.setattr(fastapi, "__version__", "0.120.4")
    with pytest.raises(ImportError, match=r"0\.121 or newer, not 0\.120\.4"):
        jobs(engine)
