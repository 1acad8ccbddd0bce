"""An ASGI application without a framework runs an engine in its lifespan.

A real server imports ``app`` from this file; the other tests speak the protocol themselves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiospinach import Engine, MemoryBroker, UnknownQueue

from .conftest import Heard
from .contrib import Server
from .waiting import until

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Body = Callable[[], Awaitable[None]]


class Application:
    """Answers every request; a POST schedules a job first."""

    def __init__(self, engine: Engine, body: Body, **workers: Any) -> None:
        self.engine = engine
        self.task = engine.task(name="work")(body)
        self.workers = workers

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        else:
            await self.answer(scope, send)

    async def live(self, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        async with self.engine:
            await self.engine.start_workers(block=False, **self.workers)
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    async def answer(self, scope: Message, send: Send) -> None:
        if scope["method"] == "POST":
            await self.task.schedule()
        here = {"process": os.getpid(), "loop": id(asyncio.get_running_loop())}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(here).encode()})


async def work_for_the_server() -> None:
    """Write the process and loop to a file, wait for the release, and write again."""
    evidence = Path(os.environ["EVIDENCE"])
    here = {"process": os.getpid(), "loop": id(asyncio.get_running_loop())}
    evidence.write_text(json.dumps(here) + "\n")
    while not await asyncio.to_thread(os.path.exists, os.environ["RELEASE"]):
        await asyncio.sleep(0.005)
    with evidence.open("a") as file:
        file.write("released\n")


app = Application(Engine(MemoryBroker(), namespace="plain-asgi"), work_for_the_server)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_server_runs_jobs_in_its_loop_and_drains_them_before_it_exits(
    tmp_path: Path, loop: str
) -> None:
    evidence, release = tmp_path / "evidence", tmp_path / "release"
    evidence.touch()
    server = Server(
        "tests.test_asgi:app",
        tmp_path,
        f"--loop={loop}",
        "--lifespan=on",
        EVIDENCE=str(evidence),
        RELEASE=str(release),
    )
    async with server:
        answer = server.request("POST", "/")
        assert answer.status_code == 202
        await until(lambda: evidence.read_text().endswith("\n"), "the job runs", show=lambda: server.log)
        assert json.loads(evidence.read_text()) == answer.json()
        assert answer.json()["process"] == server.process.pid
        server.terminate()
        await until(lambda: not server.listens(), "the server takes no requests", show=lambda: server.log)
        await until(lambda: "Waiting for application shutdown" in server.log, "the lifespan ends")
        assert len(evidence.read_text().splitlines()) == 1
        assert not server.has_ended
        release.touch()
        assert await server.ended() == -signal.SIGTERM
    assert evidence.read_text().splitlines()[1:] == ["released"]
    assert "Traceback" not in server.log


class Client:
    """Speaks the lifespan protocol with an application, in the test's own loop."""

    def __init__(self, app: Application) -> None:
        self.sent: list[str] = []
        self._app = app
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self.lifespan = asyncio.create_task(
            app({"type": "lifespan"}, self._messages.get, self._receive_message)
        )

    async def _receive_message(self, message: Message) -> None:
        self.sent.append(message["type"])

    def push(self, kind: str) -> None:
        self._messages.put_nowait({"type": kind})

    async def start(self) -> None:
        self.push("lifespan.startup")
        await until(lambda: self.sent == ["lifespan.startup.complete"], "the application started")

    async def stop(self) -> None:
        self.push("lifespan.shutdown")
        await self.lifespan
        assert self.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    async def post(self) -> Message:
        messages: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(message: Message) -> None:
            messages.append(message)

        await self._app({"type": "http", "method": "POST", "path": "/"}, receive, send)
        answer: Message = json.loads(messages[1]["body"])
        return answer


async def test_jobs_run_between_startup_and_shutdown(namespace: str, heard: Heard) -> None:
    loops = []

    async def body() -> None:
        loops.append(id(asyncio.get_running_loop()))

    client = Client(Application(Engine(MemoryBroker(), namespace), body))
    await client.start()
    assert heard.names() == ["worker_started"]
    answer = await client.post()
    await until(lambda: heard.count("job_finished") == 1, "the job finished")
    await client.stop()
    assert loops == [answer["loop"]]
    assert heard.names()[-1] == "worker_terminated"


async def test_shutdown_completes_after_the_running_job(namespace: str) -> None:
    begun = asyncio.Event()

    async def body() -> None:
        begun.set()
        await asyncio.sleep(0.05)
        client.sent.append("the job ends")

    client = Client(Application(Engine(MemoryBroker(), namespace), body))
    await client.start()
    await client.post()
    await begun.wait()
    client.push("lifespan.shutdown")
    await client.lifespan
    assert client.sent == ["lifespan.startup.complete", "the job ends", "lifespan.shutdown.complete"]


async def test_an_application_can_be_started_again_with_the_same_engine(namespace: str, heard: Heard) -> None:
    ran = []

    async def body() -> None:
        ran.append(1)

    app = Application(Engine(MemoryBroker(), namespace), body)
    for _ in range(2):
        client = Client(app)
        await client.start()
        await client.post()
        await until(lambda: heard.names()[-1] == "job_finished", "the job finished")
        await client.stop()
    assert len(ran) == 2
    assert heard.count("worker_started") == heard.count("worker_terminated") == 2


async def test_a_lifespan_whose_workers_cannot_start_fails(namespace: str, heard: Heard) -> None:
    async def body() -> None: ...

    client = Client(Application(Engine(MemoryBroker(), namespace), body, queue="typo"))
    client.push("lifespan.startup")
    with pytest.raises(UnknownQueue, match="typo"):
        await client.lifespan
    assert client.sent == []
    assert heard.names() == []


async def test_a_lifespan_that_is_cancelled_stops_the_workers(namespace: str, heard: Heard) -> None:
    async def body() -> None: ...

    client = Client(Application(Engine(MemoryBroker(), namespace), body))
    await client.start()
    client.lifespan.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.lifespan
    assert client.sent == ["lifespan.startup.complete"]
    assert heard.names() == ["worker_started", "worker_terminated"]
