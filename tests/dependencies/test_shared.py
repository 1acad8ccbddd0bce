"""Shared values are opened once for each pool, at the first use, and closed when the workers have stopped."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiospinach import Broker, Depends, Engine, JobCancelled, MemoryBroker, Shared, Tasks, current_job

from ..brokers_under_test import BROKERS, MakeBroker, redis_broker, shared_server
from ..conftest import Heard
from ..waiting import until
from .conftest import Diary

ROOT = Path(__file__).parents[2]


async def test_jobs_that_ask_at_once_share_one_value(engine: Engine, diary: Diary) -> None:
    may_open = asyncio.Event()
    waiting = 0
    got: list[object] = []

    async def client() -> AsyncIterator[object]:
        diary.append("open")
        await may_open.wait()
        yield object()
        diary.append("close")

    async def arrive() -> None:
        nonlocal waiting
        waiting += 1

    @engine.task
    async def use(number: int, here: None = Depends(arrive), http: object = Shared(client)) -> None:
        got.append(http)

    @engine.task
    def use_in_thread(number: int, here: None = Depends(arrive), http: object = Shared(client)) -> None:
        got.append(http)

    for number in range(5):
        await use.schedule(number)
        await use_in_thread.schedule(number)
    await engine.start_workers(10, block=False)
    await until(lambda: waiting == 10, "all jobs wait for the value")
    may_open.set()
    await until(lambda: len(got) == 10, "all jobs have run")
    assert diary == ["open"]
    await engine.stop_workers()
    assert diary == ["open", "close"]
    assert got == [got[0]] * 10


async def test_each_start_of_the_workers_opens_anew_what_it_needs(engine: Engine, diary: Diary) -> None:
    @engine.task
    async def use(number: int, http: str = Shared(diary.scope("client"))) -> None:
        diary.append(f"{number}")

    await engine.start_workers(stop_when_queue_empty=True)
    assert diary == []
    for number in range(2):
        await use.schedule(number)
        await engine.start_workers(stop_when_queue_empty=True)
    assert diary == ["open client", "0", "close client", "open client", "1", "close client"]


@pytest.mark.parametrize("make_broker", BROKERS)
async def test_three_workers_open_three_and_close_three(
    make_broker: MakeBroker, namespace: str, diary: Diary
) -> None:
    started: set[object] = set()
    registry = Tasks()

    @registry.task
    async def use(http: str = Shared(diary.scope("client"))) -> None:
        started.add(asyncio.current_task())
        await until(lambda: len(started) == 3, "a job runs on each worker")

    brokers: list[Broker] = [make_broker() for _ in range(3)]
    engines = [Engine(broker, namespace) for broker in brokers]
    for engine in engines:
        engine.attach_tasks(registry)
        await engine.start_workers(1, block=False)
    for engine in engines:
        await engine.schedule(use)
    await until(lambda: diary.count("open") == 3, "three values are open", show=lambda: diary)
    assert diary.count("close") == 0
    for engine in engines:
        await engine.stop_workers()
        await engine._broker.aclose()
    assert (diary.count("open"), diary.count("close")) == (3, 3)


PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from contextlib import asynccontextmanager
    from aiospinach import Engine, MemoryBroker, RedisBroker, Shared

    def say(*words):
        print(*words, flush=True)

    @asynccontextmanager
    async def resources(engine):
        say("enter")
        yield
        say("leave")

    async def client():
        say("open")
        yield "client"
        await asyncio.sleep(0)
        say("close")

    url, namespace = sys.argv[1:]
    broker = RedisBroker(url) if url else MemoryBroker()
    engine = Engine(broker, namespace, lifespan=resources)

    @engine.task
    async def use(http=Shared(client)):
        say("run")
        await asyncio.sleep(0.1)

    async def main():
        if not url:
            await use.schedule()
        await engine.start_workers(1)
        await broker.aclose()

    asyncio.run(main())
    """
)


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_three_processes_open_three_and_close_three_at_sigterm(kind: str, namespace: str) -> None:
    url = shared_server().unix_url if kind == "redis" else ""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, url, namespace],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(3)
    ]

    async def read(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return await asyncio.to_thread(process.stdout.readline)

    try:
        for process in processes:
            assert await read(process) == "enter\n"
        if url:
            async with Engine(redis_broker(), namespace) as engine:
                tasks = Tasks()
                use = tasks.task(name="use")(lambda: None)
                engine.attach_tasks(tasks)
                for _ in range(30):  # each worker takes one at a time
                    await use.schedule()
        for process in processes:
            assert await read(process) == "open\n"
            process.send_signal(signal.SIGTERM)
        for process in processes:
            output, _ = await asyncio.to_thread(process.communicate, timeout=50)
            assert process.returncode == 0
            assert output.splitlines()[-2:] == ["close", "leave"]
            assert output.count("open") == 0
            assert output.count("close") == 1
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def test_a_value_that_cannot_be_opened_fails_its_job_and_is_tried_again_for_the_next(
    engine: Engine, diary: Diary, heard: Heard
) -> None:
    async def client() -> AsyncIterator[str]:
        diary.append("open")
        if diary.count("open") == 1:
            raise ConnectionError("not yet")
        yield "client"
        diary.append("close")

    @engine.task
    async def use(http: str = Shared(client)) -> None:
        diary.append("run")

    for _ in range(3):
        await use.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert diary == ["open", "open", "run", "run", "close"]
    assert heard.count("job_failed") == 1
    assert type(heard.last("job_failed")["err"]) is ConnectionError


async def test_a_job_that_ends_while_it_waits_leaves_the_opening_to_others(
    engine: Engine, diary: Diary, heard: Heard
) -> None:
    may_open = asyncio.Event()

    async def client() -> AsyncIterator[str]:
        diary.append("open")
        await may_open.wait()
        yield "client"
        diary.append("close")

    @engine.task
    async def use(number: int, http: str = Shared(client)) -> None:
        diary.append(f"run {number}")

    first = await use.schedule(1)
    await use.schedule(2)
    await engine.start_workers(2, block=False)
    await until(lambda: heard.count("job_started") == 2 and "open" in diary, "both jobs wait")
    await engine.cancel(first)
    await until(lambda: heard.count("job_cancelled"), "the first job is cancelled")
    assert type(heard.last("job_finished")["err"]) is JobCancelled
    may_open.set()
    await until(lambda: "run 2" in diary, "the second job runs")
    await engine.stop_workers()
    assert diary == ["open", "run 2", "close"]


async def test_a_stop_cancels_what_is_still_being_opened(engine: Engine, diary: Diary) -> None:
    async def client() -> str:
        try:
            diary.append("open")
            await asyncio.Event().wait()
        finally:
            diary.append("cancelled")
        return "client"

    @engine.task(max_retries=1)
    async def use(http: str = Shared(client)) -> None: ...

    await use.schedule()
    await engine.start_workers(block=False, shutdown_timeout=0)
    await until(lambda: "open" in diary, "the value is being opened")
    await engine.stop_workers()
    assert diary == ["open", "cancelled"]


async def test_a_shared_value_shares_what_it_depends_on(engine: Engine, diary: Diary) -> None:
    settings, pool = diary.scope("settings"), diary.scope("pool")

    async def client(a: str = Depends(settings), b: str = Shared(pool)) -> AsyncIterator[str]:
        diary.append(f"open client with {a} and {b}")
        yield "client"
        diary.append("close client")

    @engine.task
    async def use(number: int, http: str = Shared(client), b: str = Shared(pool)) -> None:
        diary.append(f"run {number}")

    await use.schedule(1)
    await use.schedule(2)
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert diary == [
        "open settings",
        "open pool",
        "open client with settings and pool",
        "run 1",
        "run 2",
        "close client",
        "close pool",
        "close settings",
    ]


async def test_an_error_of_closing_is_logged_and_the_others_are_closed(
    broker: Broker, namespace: str, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    async def sticky() -> AsyncIterator[str]:
        yield "sticky"
        raise ConnectionError("secret")

    async with Engine(broker, namespace, leave_out=["messages", "tracebacks"]) as engine:

        @engine.task
        async def use(first: str = Shared(diary.scope("first")), second: str = Shared(sticky)) -> None: ...

        await use.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
    assert diary == ["open first", "close first"]
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage().endswith("sticky raised ConnectionError when it was closed: ConnectionError")
    assert record.exc_info is None
    assert "secret" not in caplog.text


async def test_a_shared_value_may_hold_a_task_group(engine: Engine, diary: Diary) -> None:
    @asynccontextmanager
    async def with_background() -> AsyncIterator[Any]:
        async with anyio.create_task_group() as group:
            yield group
            group.cancel_scope.cancel()
        diary.append("closed")

    async def note(number: int) -> None:
        diary.append(f"{number} in the background")

    @engine.task
    async def use(number: int, group: Any = Shared(with_background)) -> None:
        group.start_soon(note, number)

    for number in range(2):
        await use.schedule(number)
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert diary == ["0 in the background", "1 in the background", "closed"]


async def test_a_shared_factory_belongs_to_no_job_and_changes_the_context_of_none(engine: Engine) -> None:
    jobs: list[object] = []
    seen: list[str] = []
    variable = ContextVar("variable", default="unset")

    async def client() -> None:
        jobs.append(current_job())
        variable.set("set by the factory")

    @engine.task
    async def use(http: None = Shared(client)) -> None:
        seen.append(variable.get())

    for _ in range(2):
        await use.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert jobs == [None]
    assert seen == ["unset", "unset"]


def test_the_end_of_the_event_loop_closes_after_the_jobs(diary: Diary, namespace: str) -> None:
    engine = Engine(MemoryBroker(), namespace)

    async def body(http: str = Shared(diary.scope("client"))) -> None:
        diary.append("run")
        try:
            await asyncio.Event().wait()
        finally:
            diary.append("cleaned up")

    use = engine.task(body)

    async def main() -> None:
        await use.schedule()
        await engine.start_workers(block=False)
        await until(lambda: "run" in diary, "the job runs")

    asyncio.run(main())
    assert diary == ["open client", "run", "cleaned up", "close client"]
