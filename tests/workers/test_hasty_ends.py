"""A pool ends whatever is cancelled meanwhile, and a cancelled job takes no other job of its id along."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiospinach import Broker, Engine, JobStatus, MemoryBroker, signals

from ..brokers_under_test import BROKERS, MakeBroker
from ..conftest import Heard
from ..waiting import until

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Broker:
    make: MakeBroker = request.param
    return make()


@pytest.fixture
async def engine(broker: Broker, namespace: str) -> AsyncIterator[Engine]:
    async with Engine(broker, namespace) as engine:
        yield engine


@pytest.mark.parametrize("turns", range(6))
def test_a_program_ends_that_returns_while_its_job_stops_the_workers(turns: int) -> None:
    """The event loop cancels every task while the drain is at each of its awaits."""
    program = f"""
        import asyncio
        from aiospinach import Engine, MemoryBroker
        async def main():
            engine = Engine(MemoryBroker())
            done = asyncio.Event()
            @engine.task
            async def stop():
                await engine.stop_workers()
                done.set()
            await engine.start_workers(block=False)
            await stop.schedule()
            await done.wait()
            for _ in range({turns}):
                await asyncio.sleep(0)
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, timeout=20, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


async def test_the_next_job_of_a_cancelled_id_runs(engine: Engine, heard: Heard) -> None:
    ended = asyncio.Event()

    @engine.task
    async def remind(number: int) -> None:
        await ended.wait()

    named = remind.options(id="reminder")

    @signals.job_cancelled.connect_via(engine.namespace)
    async def schedule_again(namespace: str, **kwargs: Any) -> None:
        await named.schedule(2)
        await until(lambda: heard.count("job_started") == 1, "the next job of the id runs")

    await named.schedule_at(datetime.now(UTC) + timedelta(hours=1), 1)
    await engine.start_workers(block=False)
    assert await engine.cancel("reminder") is JobStatus.WAITING
    ended.set()
    await until(lambda: heard.count("job_finished") == 1, "it has ended")
    assert heard.last("job_finished")["job"].status is JobStatus.SUCCEEDED


def test_looks_of_each_loop_are_its_own(namespace: str) -> None:
    engine = Engine(MemoryBroker(), namespace)
    engine.task(name="send")(lambda: None)
    watch = engine._producer._queue_watch

    async def schedule_and_close_elsewhere() -> None:
        await engine.schedule("send")
        thread = threading.Thread(target=lambda: asyncio.run(close()))
        thread.start()
        await asyncio.to_thread(thread.join)
        [looks] = [looks for loop, looks in watch._looks.items() if loop is asyncio.get_running_loop()]
        assert list(looks.timers) == ["default"], "another loop closed its own looks"
        watch.close()
        assert not watch._looks

    async def close() -> None:
        watch.close()

    asyncio.run(engine.schedule("send"))
    asyncio.run(schedule_and_close_elsewhere())
