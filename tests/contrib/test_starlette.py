"""Workers start and stop with a FastAPI or Starlette application, under a test client and a real server.

The real server imports ``app`` from this file; its jobs write lines to a file, which tests read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from aiospinach import Engine, Interrupted, InvalidValue, MemoryBroker, UnknownQueue, signals
from aiospinach.contrib.starlette import lifespan

from ..waiting import until
from . import ROOT, Server

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore"
    )  # Starlette 1 prefers another HTTP client, older versions support httpx only
    from starlette.testclient import TestClient

# The application that the real server serves.

served = Engine(MemoryBroker(), namespace="served")
opened: ContextVar[str] = ContextVar("opened", default="nothing")


def note(what: str, **details: Any) -> None:
    """Append a line to the file that tests read, with one write, so that lines of processes do not mix."""
    line = json.dumps({"what": what, **details}) + "\n"
    file = os.open(os.environ["EVIDENCE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@contextlib.asynccontextmanager
async def resources(app: Any) -> AsyncIterator[dict[str, str]]:
    opened.set("database")
    note("opened", process=os.getpid())
    yield {"greeting": "hello"}
    note("closed", process=os.getpid())


app = FastAPI(lifespan=lifespan(served, number=5, inner=resources))


@served.task
async def report(name: str) -> None:
    note(
        "async job",
        name=name,
        process=os.getpid(),
        thread=threading.get_ident(),
        loop=id(asyncio.get_running_loop()),
        opened=opened.get(),
    )


@served.task
def report_from_thread(name: str) -> None:
    note("sync job", name=name, process=os.getpid(), thread=threading.get_ident(), opened=opened.get())


@served.task
async def hold(release: str) -> None:
    note("held")
    while not await asyncio.to_thread(os.path.exists, release):
        await asyncio.sleep(0.005)
    note("released")


@app.post("/reports/{name}", status_code=202)
async def post_report(name: str, request: Request) -> dict[str, Any]:
    await report.schedule(name)
    await report_from_thread.schedule(name)
    return {
        "process": os.getpid(),
        "thread": threading.get_ident(),
        "loop": id(asyncio.get_running_loop()),
        "greeting": request.state.greeting,
    }


@app.post("/holds", status_code=202)
async def post_hold(release: str) -> None:
    await hold.schedule(release)


class Evidence:
    """The lines written by the served application and its jobs."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "evidence"

    def lines(self, what: str | None = None) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [line for line in lines if what in (None, line["what"])]

    def order(self) -> list[str]:
        return [line["what"] for line in self.lines()]


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path)


def serve(evidence: Evidence, *arguments: str) -> Server:
    folder = evidence.path.parent
    return Server("tests.contrib.test_starlette:app", folder, *arguments, EVIDENCE=str(evidence.path))


LOOPS = ["asyncio", "uvloop"]


@pytest.mark.parametrize("loop", LOOPS)
async def test_jobs_run_in_the_event_loop_of_the_server(evidence: Evidence, loop: str) -> None:
    async with serve(evidence, f"--loop={loop}") as server:
        answer = server.request("POST", "/reports/one")
        assert answer.status_code == 202
        await until(lambda: len(evidence.lines()) == 3, "both jobs ran", show=lambda: server.log)
    request = answer.json()
    assert request.pop("greeting") == "hello"
    assert request["process"] == server.process.pid
    assert evidence.lines("async job") == [
        {"what": "async job", "name": "one", "opened": "database", **request}
    ]
    [in_thread] = evidence.lines("sync job")
    assert in_thread["process"] == request["process"]
    assert in_thread["thread"] != request["thread"]
    assert in_thread["opened"] == "database"


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_terminated_server_waits_for_its_running_jobs(
    evidence: Evidence, tmp_path: Path, loop: str
) -> None:
    release = tmp_path / "release"
    async with serve(evidence, f"--loop={loop}") as server:
        assert server.request("POST", f"/holds?release={release}").status_code == 202
        await until(lambda: evidence.lines("held"), "the job runs", show=lambda: server.log)
        server.terminate()
        await until(lambda: not server.listens(), "the server takes no requests", show=lambda: server.log)
        await until(lambda: "Waiting for application shutdown" in server.log, "the lifespan ends")
        assert evidence.order() == ["opened", "held"]
        assert not server.has_ended
        release.touch()
        assert await server.ended() == -signal.SIGTERM
    assert evidence.order() == ["opened", "held", "released", "closed"]
    assert "Traceback" not in server.log


async def test_each_process_of_a_server_runs_the_jobs_of_its_own_requests(evidence: Evidence) -> None:
    answers: dict[str, dict[str, Any]] = {}
    async with serve(evidence, "--workers=2") as server:

        def both_have_answered() -> bool:
            name = str(len(answers))
            answers[name] = server.request("POST", f"/reports/{name}").json()
            return len({answer["process"] for answer in answers.values()}) == 2

        await until(both_have_answered, "both processes answered", timeout=30, show=lambda: server.log)
        await until(lambda: len(evidence.lines("async job")) == len(answers), "all jobs ran")
        await until(lambda: len(evidence.lines("sync job")) == len(answers), "all sync jobs ran")
        server.terminate()
        await server.ended()
    for kind in ("async job", "sync job"):
        assert {line["name"]: line["process"] for line in evidence.lines(kind)} == {
            name: answer["process"] for name, answer in answers.items()
        }
    processes = {answer["process"] for answer in answers.values()}
    assert {line["process"] for line in evidence.lines("opened")} == processes
    assert sorted(line["process"] for line in evidence.lines("closed")) == sorted(processes)
    assert "Traceback" not in server.log


# In this process, under Starlette's test client, which runs an application in its own thread and loop.


@pytest.fixture
def own(namespace: str) -> Engine:
    """An engine for the loops of test clients; the fixture ``engine`` is open in the loop of the test."""
    return Engine(MemoryBroker(), namespace)


def wait(client: TestClient, condition: Callable[[], object], what: str) -> None:
    assert client.portal is not None
    client.portal.call(until, condition, what)


def test_an_engine_runs_jobs_for_two_test_clients_in_turn(own: Engine) -> None:
    ran: list[tuple[int, int]] = []

    @own.task
    async def work(number: int) -> None:
        ran.append((number, id(asyncio.get_running_loop())))

    loops = []
    app = FastAPI(lifespan=lifespan(own))

    @app.post("/work/{number}")
    async def post(number: int) -> None:
        loops.append(asyncio.get_running_loop())
        await work.schedule(number)

    for number in (1, 2):
        with TestClient(app) as client:
            assert client.post(f"/work/{number}").status_code == 200
            wait(client, lambda: len(ran) == len(loops), "the job ran")
    assert ran == [(1, id(loops[0])), (2, id(loops[1]))]
    assert loops[0] is not loops[1]


def test_closing_a_test_client_waits_for_running_jobs(own: Engine) -> None:
    order: list[str] = []

    @own.task
    async def work() -> None:
        order.append("begun")
        await asyncio.sleep(0.05)
        order.append("ended")

    app = FastAPI(lifespan=lifespan(own))

    @app.post("/work")
    async def post() -> None:
        await work.schedule()

    with TestClient(app) as client:
        client.post("/work")
        wait(client, lambda: order == ["begun"], "the job runs")
    assert order == ["begun", "ended"]


def test_jobs_that_outlast_the_shutdown_timeout_are_cancelled(own: Engine) -> None:
    errors: list[BaseException | None] = []
    began = threading.Event()

    @own.task
    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    @signals.job_finished.connect_via(own.namespace)
    async def job_finished(namespace: str, err: BaseException | None, **kwargs: Any) -> None:
        errors.append(err)

    app = FastAPI(lifespan=lifespan(own, shutdown_timeout=0.05))

    @app.post("/work")
    async def post() -> None:
        await work.schedule()

    with TestClient(app) as client:
        client.post("/work")
        wait(client, began.is_set, "the job runs")
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 15  # the default would be 25 s
    assert [type(error) for error in errors] == [Interrupted]


def test_the_workers_run_before_the_application_takes_requests(own: Engine) -> None:
    started: list[str] = []

    @own.task
    async def work() -> None: ...

    @signals.worker_started.connect_via(own.namespace)
    async def worker_started(namespace: str, worker_name: str, **kwargs: Any) -> None:
        await asyncio.sleep(0.05)
        started.append(worker_name)

    with TestClient(FastAPI(lifespan=lifespan(own))):
        assert len(started) == 1


def test_lifespan_passes_number_and_queue_to_the_workers(own: Engine) -> None:
    running, most, ended = 0, 0, []

    async def body(queue: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        ended.append(queue)

    tasks = {queue: own.task(name=queue, queue=queue)(body) for queue in ("mail", "web", "idle")}
    app = FastAPI(lifespan=lifespan(own, number=2, queue=["mail", "web"]))

    @app.post("/work")
    async def post() -> None:
        for queue, task in tasks.items():
            for _ in range(3):
                await task.schedule(queue)

    with TestClient(app) as client:
        client.post("/work")
        wait(client, lambda: len(ended) >= 6, "the jobs of both queues ran")
    assert sorted(ended) == ["mail"] * 3 + ["web"] * 3
    assert most == 2


def test_an_inner_lifespan_is_entered_first_and_left_last(own: Engine) -> None:
    order: list[str] = []
    resource: ContextVar[str] = ContextVar("resource", default="none")

    @own.task
    async def work() -> None:
        order.append(f"job uses {resource.get()}")

    @contextlib.asynccontextmanager
    async def inner(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        order.append(f"inner opens for {app.title}")
        resource.set("pool")
        yield {"resource": "pool"}
        order.append("inner closes")

    @signals.worker_started.connect_via(own.namespace)
    def worker_started(namespace: str, **kwargs: Any) -> None:
        order.append("workers start")

    @signals.worker_terminated.connect_via(own.namespace)
    def worker_terminated(namespace: str, **kwargs: Any) -> None:
        order.append("workers end")

    app = FastAPI(title="the shop", lifespan=lifespan(own, inner=inner))

    @app.post("/work")
    async def post(request: Request) -> str:
        await work.schedule()
        return str(request.state.resource)

    with TestClient(app) as client:
        assert client.post("/work").json() == "pool"
        wait(client, lambda: len(order) == 3, "the job ran")
    assert order == [
        "inner opens for the shop",
        "workers start",
        "job uses pool",
        "workers end",
        "inner closes",
    ]


def test_an_inner_lifespan_may_yield_nothing(own: Engine) -> None:
    order = []

    @own.task
    async def work() -> None: ...

    @contextlib.asynccontextmanager
    async def inner(app: FastAPI) -> AsyncIterator[None]:
        order.append("open")
        yield
        order.append("close")

    app = FastAPI(lifespan=lifespan(own, inner=inner))

    @app.get("/")
    async def get() -> list[str]:
        return order

    with TestClient(app) as client:
        assert client.get("/").json() == ["open"]
    assert order == ["open", "close"]


def test_workers_do_not_start_if_the_inner_lifespan_fails(own: Engine) -> None:
    started = []

    @own.task
    async def work() -> None: ...

    @signals.worker_started.connect_via(own.namespace)
    def worker_started(namespace: str, **kwargs: Any) -> None:
        started.append(namespace)

    @contextlib.asynccontextmanager
    async def inner(app: FastAPI) -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    with (
        pytest.raises(ConnectionError, match="no database"),
        TestClient(FastAPI(lifespan=lifespan(own, inner=inner))),
    ):
        pass
    assert started == []


def test_the_application_does_not_start_if_the_workers_cannot(own: Engine) -> None:
    closed = []

    @own.task
    async def work() -> None: ...

    @contextlib.asynccontextmanager
    async def inner(app: FastAPI) -> AsyncIterator[None]:
        yield
        closed.append("never, since it raises at its yield")

    app = FastAPI(lifespan=lifespan(own, queue="typo", inner=inner))
    with pytest.raises(UnknownQueue, match="typo"), TestClient(app):
        pass
    assert closed == []


def test_workers_run_in_a_starlette_application(own: Engine) -> None:
    ran: list[str] = []

    @own.task
    async def work(name: str) -> None:
        ran.append(name)

    async def post(request: StarletteRequest) -> JSONResponse:
        job = await work.schedule(request.path_params["name"])
        return JSONResponse({"id": job.id}, status_code=202)

    app = Starlette(lifespan=lifespan(own), routes=[Route("/work/{name}", post, methods=["POST"])])
    with TestClient(app) as client:
        answer = client.post("/work/anna")
        assert answer.status_code == 202
        assert len(answer.json()["id"]) == 32
        wait(client, lambda: ran, "the job ran")
    assert ran == ["anna"]


def test_a_lifespan_without_its_engine_is_refused_when_the_application_starts() -> None:
    app = FastAPI(lifespan=lifespan)  # type: ignore[arg-type]
    words = r"takes an Engine, not FastAPI: pass lifespan=lifespan\(engine\)"
    with pytest.raises(InvalidValue, match=words), TestClient(app):
        pass


def test_neither_the_package_nor_the_integration_imports_a_framework() -> None:
    program = (
        "import sys, aiospinach, aiospinach.contrib.starlette;"
        "print({'fastapi', 'starlette', 'uvicorn'} & set(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=ROOT,
    )
    assert (ran.stdout, ran.stderr) == ("set()\n", "")
