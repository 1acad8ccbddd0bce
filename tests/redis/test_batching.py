"""EnqueueBatcher, shared by callers: neither another caller nor the server makes their calls fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
import redis

from aiospinach import Engine, EnqueueUncertain, JobStatus, RedisBroker
from aiospinach.brokers.records import Envelope

from ..conftest import Heard
from ..waiting import until
from .conftest import SCRIPTS, key, live
from .proxy import Proxy


@pytest.mark.large
async def test_no_job_is_lost_if_the_server_forgets_scripts_under_load(
    namespace: str, heard: Heard, own_server: Any
) -> None:
    ran: Counter[int] = Counter()
    async with Engine(RedisBroker(own_server.unix_url), namespace) as engine:

        @engine.task
        async def job(number: int) -> None:
            ran[number] += 1

        await engine.start_workers(10, block=False)
        with own_server.client() as client:
            for first in range(0, 500, 10):
                client.script_flush()
                await asyncio.gather(*(job.schedule(number) for number in range(first, first + 10)))
            await until(lambda: heard.count("job_finished") == 500)
            await engine.stop_workers()
    assert ran == Counter(dict.fromkeys(range(500), 1))


async def test_a_shared_call_without_an_answer_is_stored_once_by_any_retry(
    namespace: str, proxy: Proxy, heard: Heard
) -> None:
    ran: Counter[int] = Counter()
    async with Engine(RedisBroker(proxy.url, enqueue_timeout=0.3), namespace) as engine:

        @engine.task
        async def job(number: int) -> None:
            ran[number] += 1

        await engine.cancel(await job.options(id="taken").schedule(0))
        proxy.lose_answers(lambda name, count: name == b"enqueue", SCRIPTS)
        uncertain = await asyncio.gather(
            job.options(id="taken").schedule(1), job.schedule(2), job.schedule(3), return_exceptions=True
        )
        errors = [error for error in uncertain if isinstance(error, EnqueueUncertain)]
        assert len(errors) == 3
        proxy.lose_answers(None)
        await engine.start_workers(3, block=False)
        assert (await errors[1].retry()).status is JobStatus.QUEUED
        await until(lambda: ran[1] and ran[2] and ran[3])
        for error in errors:
            assert (await error.retry()).status is JobStatus.QUEUED
        await engine.schedule(job, 4)
        await until(lambda: ran[4])
        await engine.stop_workers()
    assert ran == Counter({1: 1, 2: 1, 3: 1, 4: 1})


async def test_a_cancelled_call_with_a_token_is_stored_once_by_its_repeat(
    namespace: str, proxy: Proxy, plain: redis.Redis
) -> None:
    broker = RedisBroker(proxy.url)
    await broker.open(namespace)
    proxy.delay = 0.05
    jobs = [Envelope(f"job-{number}", "job", b"[[],{}]") for number in range(3)]
    call = asyncio.create_task(broker.enqueue("default", jobs, token="mine"))
    await until(lambda: live(plain, namespace) == 3)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await broker.enqueue("default", jobs, token="mine") == [True] * 3
    assert plain.llen(key(namespace, "ready")) == 3
    await broker.aclose()


async def test_a_shared_call_cancelled_after_sending_is_uncertain(
    namespace: str, proxy: Proxy, plain: redis.Redis
) -> None:
    """Code that cancels all tasks also cancels the task of the batcher."""
    async with Engine(RedisBroker(proxy.url), namespace) as engine:

        @engine.task
        async def job(number: int) -> None:
            pass

        await job.schedule(1)
        proxy.delay = 0.5
        calls = [asyncio.create_task(job.schedule(number)) for number in (2, 3)]
        await until(lambda: live(plain, namespace) == 3)
        batcher = engine._broker._calls.here().batchers["default"]  # type: ignore[attr-defined]
        batcher._task.cancel()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        proxy.delay = 0
        for error in errors:
            assert isinstance(error, EnqueueUncertain)
            assert (await error.retry()).status is JobStatus.QUEUED
        assert live(plain, namespace) == 3
