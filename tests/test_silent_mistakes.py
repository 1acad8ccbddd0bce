"""Mistakes that would end in silence are warned of within seconds."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiospinach import Batch, Broker, BrokerError, BrokerUnavailable, Engine, MemoryBroker, RedisBroker
from aiospinach.engine import queue_watch
from aiospinach.workers import outage, supervisor

from .brokers_under_test import BROKERS, MakeBroker
from .servers import free_port
from .waiting import until
from .workers.failing import FailingBroker

ROOT = Path(__file__).parent.parent


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def program(text: str) -> subprocess.Popen[str]:
    """A program of its own, whose log goes to standard error."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Broker:
    make: MakeBroker = request.param
    return make()


async def test_jobs_in_a_queue_that_no_worker_looks_at(
    broker: Broker, namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_watch, "WARN_AFTER", 0.05)
    async with Engine(broker, namespace) as engine:
        send = engine.task(name="send", queue="mail")(lambda: None)
        await engine.task(name="other")(lambda: None).schedule()
        for _ in range(3):
            await engine.schedule_batch(Batch().schedule(send).schedule(send))
        await until(lambda: len(warnings(caplog)) == 2, "both queues are warned of")
        await engine.start_workers(block=False)
        await send.schedule()
        assert [line.split(":")[0] for line in warnings(caplog)] == ["queue default", "queue mail"]
        assert f"in {broker!r}, and no worker of the namespace {namespace} looks" in warnings(caplog)[0]


async def test_jobs_in_a_queue_that_a_worker_looks_at(
    broker: Broker, namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_watch, "WARN_AFTER", 0.05)
    looks: list[str] = []
    look = broker.look

    async def counted(queue: str, question: Any) -> Any:
        looks.append(queue)
        return await look(queue, question)

    monkeypatch.setattr(broker, "look", counted)
    async with Engine(broker, namespace) as engine:
        engine.task(name="send")(lambda: None)
        await engine.start_workers(block=False)
        for _ in range(10):
            await engine.schedule("send")
        await until(lambda: bool(looks), "it has looked")
        for _ in range(10):
            await engine.schedule("send")
    assert looks == ["default"]
    assert not warnings(caplog)


async def test_a_look_is_given_up_with_the_engine(namespace: str) -> None:
    async with Engine(MemoryBroker(), namespace) as engine:
        engine.task(name="send")(lambda: None)
        await engine.schedule("send")
        assert engine._producer._queue_watch._looks
    assert not engine._producer._queue_watch._looks


def test_jobs_in_memory_are_lost_with_the_process() -> None:
    with program(
        """
        import asyncio
        from aiospinach import Engine, MemoryBroker
        engine = Engine(MemoryBroker())
        @engine.task
        async def send() -> None: ...
        asyncio.run(send.schedule())
        """
    ) as process:
        _, said = process.communicate(timeout=30)
    assert "MemoryBroker: 1 jobs are lost with the process" in said


async def test_workers_without_tasks(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    await Engine(MemoryBroker(), namespace).start_workers(stop_when_queue_empty=True)
    [said] = warnings(caplog)
    assert said.startswith(f"engine {namespace} has no tasks, and its workers run nothing")


def test_workers_that_end_with_their_loop() -> None:
    with program(
        """
        import asyncio
        from aiospinach import Engine, MemoryBroker
        engine = Engine(MemoryBroker())
        @engine.task
        async def send() -> None: ...
        asyncio.run(engine.start_workers(block=False))
        """
    ) as process:
        _, said = process.communicate(timeout=30)
    assert "ended with its event loop" in said
    assert "block=True" in said


async def test_a_start_that_waits_for_a_store_that_never_answers(
    namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "SLOW_START", 0.05)
    writers: list[asyncio.StreamWriter] = []
    deaf = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", free_port())
    port = deaf.sockets[0].getsockname()[1]
    engine = Engine(RedisBroker(f"redis://127.0.0.1:{port}/0"), namespace)
    engine.task(name="send")(lambda: None)
    starting = asyncio.create_task(engine.start_workers(block=False))
    await until(lambda: bool(warnings(caplog)), "it is warned of")
    assert f"waits for an answer of RedisBroker('redis://127.0.0.1:{port}/0')" in warnings(caplog)[0]
    await engine.stop_workers()
    await starting
    for writer in writers:
        writer.close()
    deaf.close()


async def test_an_outage_is_logged_again_while_it_lasts(
    namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "LOG_EVERY", 0.01)
    broker = FailingBroker(lease=1.2)
    async with Engine(broker, namespace) as engine:
        engine.task(name="send")(lambda: None)
        await engine.start_workers(block=False)
        broker.go_away()
        await until(lambda: any("trying on, for 0 s by now" in line for line in warnings(caplog)))
        broker.come_back()
        await until(lambda: any("answers again" in line for line in warnings(caplog)))


def test_a_refusal_during_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Whose cause is a password is not looked for at the server."""
    outage_ = outage.Outage("queue mail", {})
    outage_.begin("exchanging", BrokerUnavailable("does not answer"))
    for _ in range(3):
        outage_.begin("ticking", BrokerError("check the password"))
        outage_.begin("exchanging", BrokerUnavailable("does not answer"))
    assert warnings(caplog) == [
        "queue mail: exchanging: does not answer; trying on",
        "queue mail: ticking, and now: check the password; trying on",
    ]


def test_a_datetime_without_a_zone_where_the_machine_is_not_in_utc() -> None:
    with program(
        """
        import asyncio, os, time
        from datetime import datetime
        os.environ["TZ"] = "Asia/Tokyo"
        time.tzset()
        from aiospinach import Engine, MemoryBroker
        async def main() -> None:
            async with Engine(MemoryBroker()) as engine:
                @engine.task
                async def send() -> None: ...
                for _ in range(3):
                    job = await send.schedule_at(datetime(2100, 1, 1))
                await engine.cancel(job)
        asyncio.run(main())
        """
    ) as process:
        _, said = process.communicate(timeout=30)
    assert said.count("is taken as UTC, and this machine is not in UTC") == 1
    assert "schedule_at()" in said


async def test_a_datetime_with_a_zone_is_not_warned_of(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Engine(MemoryBroker(), namespace) as engine:
        engine.task(name="send")(lambda: None)
        await engine.schedule_at("send", datetime.now(UTC) + timedelta(hours=1))
    assert not warnings(caplog)


@pytest.mark.parametrize("body", ["time.sleep(60)", "await asyncio.sleep(0); time.sleep(60)"])
def test_the_third_signal_ends_a_process_whose_jobs_cannot_be_stopped(body: str) -> None:
    kind = "async def" if "await" in body else "def"
    with program(
        f"""
        import asyncio, time
        from aiospinach import Engine, MemoryBroker
        engine = Engine(MemoryBroker())
        @engine.task
        {kind} hang() -> None:
            print("began", flush=True)
            {body}
        async def main() -> None:
            await hang.schedule()
            await engine.start_workers()
        asyncio.run(main())
        """
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "began\n"
        end = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < end:
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        if process.poll() is None:
            process.kill()
    assert process.returncode == -signal.SIGINT
