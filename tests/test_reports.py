"""What workers report: themselves, and the numbers of their minutes, on every broker."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from aiospinach import Broker, Engine, InvalidValue, TaskNumbers, UnknownQueue, __version__

from .brokers_under_test import BROKERS, MakeBroker

LEASE = 1.2
NUMBERS = 3


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    make: MakeBroker = request.param
    broker: Broker = make(lease=LEASE)
    async with Engine(broker, namespace) as engine:
        yield engine


async def test_live_workers_are_listed(engine: Engine) -> None:
    release = asyncio.Event()

    @engine.task(queue="mail")
    async def hold() -> None:
        await release.wait()

    @engine.task(queue="web")
    async def other() -> None: ...

    assert await engine.workers() == []
    before = datetime.now(UTC) - timedelta(milliseconds=2)
    await engine.start_workers(7, block=False)
    await hold.schedule()
    async with asyncio.timeout(10):
        while not (workers := await engine.workers()) or workers[0].running != 1:
            await asyncio.sleep(0.01)
    [worker] = workers
    assert worker.name.startswith(f"{socket.gethostname()}-{os.getpid()}-")
    assert (worker.host, worker.pid) == (socket.gethostname(), os.getpid())
    assert (worker.number, worker.running, worker.version) == (7, 1, __version__)
    assert worker.queues == ("mail", "web")
    assert worker.started_at is not None
    assert (
        before <= worker.started_at <= worker.seen_at + timedelta(milliseconds=1)
    )  # the store drops microseconds
    assert worker.seen_at <= datetime.now(UTC) + timedelta(milliseconds=2)
    assert 0 <= worker.loop_lag < 5
    assert worker.level == 1
    assert await engine.workers(queue="web") == [worker]
    with pytest.raises(UnknownQueue):
        await engine.workers(queue="nobodys")
    release.set()
    await engine.stop_workers()
    assert await engine.workers() == [], "a worker that stops is listed no longer"
    assert (await engine.counts())["mail"].workers == 0


async def test_the_jobs_of_each_minute_are_counted(engine: Engine) -> None:
    @engine.task(queue="mail", name="send")
    async def send() -> None:
        await asyncio.sleep(0.01)

    @engine.task(queue="mail", name="fail")
    async def fail() -> None:
        raise ValueError

    @engine.task(queue="mail", name="retry", max_retries=1, backoff=lambda attempt: 0.0)
    async def retry() -> None:
        raise ValueError

    @engine.task(queue="web", name="idle")
    def idle() -> None: ...

    assert await engine.throughput() == []
    before = datetime.now(UTC).replace(second=0, microsecond=0)
    for task in (send, fail, retry, idle):
        for _ in range(NUMBERS):
            await task.schedule()
    await engine.start_workers(3, stop_when_queue_empty=True)
    rows = await engine.throughput()
    assert {row.queue for row in rows} == {"mail", "web"}
    assert all(before <= row.minute <= datetime.now(UTC) for row in rows)
    assert rows == sorted(rows, key=lambda row: (row.minute, row.queue))
    mail = [row for row in rows if row.queue == "mail"]
    assert sum(row.done for row in mail) == NUMBERS
    assert sum(row.failed for row in mail) == 2 * NUMBERS
    assert sum(row.retried for row in mail) == NUMBERS
    assert sum(row.done for row in rows if row.queue == "web") == NUMBERS
    assert 0.005 * NUMBERS <= sum(row.seconds for row in mail) < 5  # uvloop rounds the time of a sleep
    if len(mail) == 1:
        by_task = mail[0].by_task
        assert by_task.keys() == {"send", "fail", "retry"}
        assert by_task["send"] == TaskNumbers(done=NUMBERS, seconds=by_task["send"].seconds)
        assert by_task["retry"] == TaskNumbers(
            failed=NUMBERS, retried=NUMBERS, seconds=by_task["retry"].seconds
        )
    assert await engine.throughput(queue="web") == [row for row in rows if row.queue == "web"]


async def test_workers_that_are_started_again_add_to_the_minute(engine: Engine) -> None:
    @engine.task(queue="mail")
    async def send() -> None: ...

    for _ in range(3):
        await send.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
    assert sum(row.done for row in await engine.throughput()) == 3
    assert await engine.throughput(since=timedelta(0)) in ([], await engine.throughput())


async def test_released_and_cancelled_jobs_are_not_counted(engine: Engine) -> None:
    started = asyncio.Event()

    @engine.task(queue="mail", max_retries=1)
    async def hold() -> None:
        started.set()
        await asyncio.sleep(60)

    job = await hold.schedule()
    await engine.start_workers(1, block=False)
    await started.wait()
    await engine.cancel(job)
    started.clear()
    await hold.schedule()
    await started.wait()
    engine._workers.pool.interrupt()  # type: ignore[union-attr]
    await engine.stop_workers()
    assert await engine.throughput() == []
    assert (await engine.counts())["mail"].ready == 1


@pytest.mark.parametrize("since", [-1, "1", None])
async def test_a_wrong_span_is_refused(engine: Engine, since: object) -> None:
    with pytest.raises(InvalidValue, match="since="):
        await engine.throughput(since=since)  # type: ignore[arg-type]
