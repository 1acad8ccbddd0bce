"""The events of one job, as a browser gets them from a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sse_starlette.sse import AppStatus, _get_shutdown_state
from starlette.applications import Starlette

from aiospinach import Engine, InvalidValue, Job, MemoryBroker, progress
from aiospinach.contrib import job_events
from aiospinach.contrib.starlette import events_endpoint

from ..brokers_under_test import BROKERS, MakeBroker
from ..waiting import until

Message = tuple[str, str, Any]
"""The name of a message, its id and its data."""


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    """An engine that keeps events."""
    make: MakeBroker = request.param
    async with Engine(make(events=100), namespace) as engine:
        engine.release = asyncio.Event()  # type: ignore[attr-defined]

        @engine.task(name="load")
        async def load() -> None:
            progress(3, 10, "rows")
            await engine.release.wait()  # type: ignore[attr-defined]

        @engine.task(name="fail", max_retries=1, backoff=lambda attempt: 0.0)
        async def fail() -> None:
            raise ValueError("a secret")

        yield engine
        await engine._broker.flush("default")


async def may_see(request: Any) -> bool:
    return bool(request.headers.get("authorization") == "yes")


@pytest.fixture(params=[Starlette, FastAPI])
async def url(engine: Engine, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A server of an application with the endpoint, in this event loop."""
    app = request.param()
    app.add_route("/jobs/{id}/events", events_endpoint(engine, access=may_see))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server._serve())
    await until(lambda: server.started, "the server listens")
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    AppStatus.should_exit = server.should_exit = True
    await serving
    await until(lambda: not _get_shutdown_state().watcher_started, "sse-starlette watches no more")
    AppStatus.should_exit = False


async def messages(
    url: str, job: Job | str, *, after: str | None = None, count: int = 1000
) -> tuple[int, list[Message]]:
    """The status of the answer, and the messages until its end, or so many."""
    headers = {"authorization": "yes"} | ({"last-event-id": after} if after else {})
    got: list[Message] = []
    where = f"{url}/jobs/{job.id if isinstance(job, Job) else job}/events"
    async with httpx.AsyncClient() as client, client.stream("GET", where, headers=headers) as answer:
        fields: dict[str, str] = {}
        async with asyncio.timeout(20):
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                elif "data" in fields:
                    got.append((fields["event"], fields["id"], json.loads(fields["data"])))
                    fields = {}
                    if len(got) == count:
                        break
    return answer.status_code, got


async def within(call: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(call, 20)


async def test_a_browser_sees_a_job_from_its_state_to_its_end(engine: Engine, url: str) -> None:
    job = await engine.schedule("load")
    reading = asyncio.create_task(messages(url, job))
    await until(lambda: bool(engine._event_hubs.here()._readers), "it reads")
    await engine.start_workers(1, block=False)

    async def has_progress() -> bool:
        found = await engine.job(job)
        return found is not None and found.progress is not None

    async with asyncio.timeout(20):
        while not await has_progress():
            await asyncio.sleep(0.01)
    [(name, _, state)] = (await within(messages(url, job, count=1)))[1]
    assert (name, state["status"]) == ("state", "running")
    assert (state["progress"]["current"], state["progress"]["total"]) == (3, 10)
    engine.release.set()  # type: ignore[attr-defined]
    status, got = await within(reading)
    await engine.stop_workers()
    assert status == 200
    names = [name for name, _, _ in got]
    assert names[0] == "state"
    assert names[-1] == "job_finished"
    assert "job_progress" in names
    progressed = next(data for name, _, data in got if name == "job_progress")
    assert progressed["data"] == {"current": 3, "total": 10, "note": "rows"}
    assert set(progressed) == {"name", "job_id", "task", "queue", "at", "worker", "data"}


async def test_a_browser_that_connects_again_goes_on_behind_its_last_message(
    engine: Engine, url: str
) -> None:
    job = await engine.schedule("fail")
    [state] = (await within(messages(url, job, count=1)))[1]
    await engine.start_workers(1, stop_when_queue_empty=True)
    _, first = await within(messages(url, job, after=state[1], count=1))
    _, rest = await within(messages(url, job, after=first[0][1]))
    assert [name for name, _, _ in first + rest] == [
        *("job_started", "job_schedule_retry", "job_finished"),
        *("job_started", "job_failed", "job_finished"),
    ]
    assert "secret" not in repr(first + rest)
    status, nothing = await within(messages(url, job, after=rest[-1][1]))
    assert (status, nothing) == (204, [])


async def test_a_dead_job_is_its_state_alone(engine: Engine, url: str) -> None:
    job = await engine.schedule("fail")
    await engine.start_workers(1, stop_when_queue_empty=True)
    status, got = await within(messages(url, job))
    assert (status, [(name, data["status"]) for name, _, data in got]) == (200, [("state", "failed")])


async def test_a_cancelled_job_ends_its_stream(engine: Engine, url: str) -> None:
    job = await engine.schedule("load")
    [state] = (await within(messages(url, job, count=1)))[1]
    await engine.cancel(job)
    _, got = await within(messages(url, job, after=state[1]))
    assert [name for name, _, _ in got] == ["job_cancelled"]


async def test_who_may_not_see_it_learns_nothing(engine: Engine, url: str) -> None:
    job = await engine.schedule("load")
    async with httpx.AsyncClient() as client:
        for job_id in (job.id, "unknown"):
            answer = await client.get(f"{url}/jobs/{job_id}/events")
            assert (answer.status_code, answer.text) == (403, "you may not see this job")


async def test_an_unknown_job_is_not_found(url: str) -> None:
    assert await within(messages(url, "unknown")) == (404, [])


async def test_a_wrong_cursor_is_a_bad_request(engine: Engine, url: str) -> None:
    job = await engine.schedule("load")
    assert await within(messages(url, job, after="nonsense")) == (400, [])


async def test_an_end_without_an_event_is_found(
    engine: Engine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_events, "LOOK_AGAIN_AFTER", 0.1)
    job = await engine.schedule("load")
    reading = asyncio.create_task(messages(url, job))
    await until(lambda: bool(engine._event_hubs.here()._readers), "it reads")
    await asyncio.sleep(0.2)
    engine._broker.events = 0
    if isinstance(engine._broker, MemoryBroker):
        engine._broker._queues["default"].events.most = 0
    else:
        engine._broker._calls.events = 0  # type: ignore[attr-defined]
    await engine.cancel(job)
    _, got = await within(reading)
    assert [(name, data["status"]) for name, _, data in got] == [("state", "queued"), ("state", "not_set")]


async def test_a_loss_is_a_new_state(engine: Engine, url: str) -> None:
    job = await engine.schedule("load")
    [state] = (await within(messages(url, job, count=1)))[1]
    for _ in range(400):
        await engine.schedule("fail")
    [(name, _, data)] = (await within(messages(url, job, after=state[1], count=1)))[1]
    assert (name, data["status"]) == ("state", "queued")


async def test_wrong_arguments_are_refused(namespace: str) -> None:
    engine = Engine(MemoryBroker(events=10), namespace)
    with pytest.raises(InvalidValue, match="Engine"):
        events_endpoint(FastAPI(), access=may_see)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="access="):
        events_endpoint(engine, access=True)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="events=10_000"):
        events_endpoint(Engine(MemoryBroker(), namespace), access=may_see)
