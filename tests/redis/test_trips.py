"""Trips that callers share: neither a caller nor the server does harm to the others on it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
import redis

from aiospinach import Engine, Job, JobStatus, RedisBroker
from aiospinach.brokers.base import Envelope
from aiospinach.exceptions import JobIdInUse

from ..brokers_under_test import shared_server
from ..conftest import Heard
from ..waiting import until
from .conftest import key, live, names_in
from .proxy import Proxy


async def test_a_server_that_forgets_the_scripts_under_load_loses_nothing(
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


async def test_an_id_in_use_refuses_no_other_caller_of_the_trip(
    namespace: str, proxy: Proxy, plain: redis.Redis
) -> None:
    async with Engine(RedisBroker(proxy.url), namespace) as engine:

        @engine.task
        async def job(number: int) -> None:
            pass

        await engine.cancel(await job.options(id="taken").schedule(0))
        before = proxy.calls[b"enqueue"]
        answers = await asyncio.gather(
            *(job.options(id="taken" if n == 7 else f"id-{n}").schedule(n) for n in range(20)),
            return_exceptions=True,
        )
        assert proxy.calls[b"enqueue"] - before >= 2
        assert isinstance(answers.pop(7), JobIdInUse)
        assert all(isinstance(answer, Job) for answer in answers)
        assert plain.llen(key(namespace, "ready")) == 20  # and the tombstone


@pytest.mark.parametrize("company", [1, 4])
async def test_a_cancelled_schedule_is_stored_once_at_most_and_a_returned_one_once(
    namespace: str, plain: redis.Redis, company: int
) -> None:
    async with Engine(RedisBroker(shared_server().unix_url), namespace) as engine:

        @engine.task
        async def job(number: int) -> None:
            pass

        await job.options(id="first").schedule(0)
        connected = len(plain.client_list())
        returned, cancelled = {"first"}, set()
        for number in range(500 // company):
            names = [f"{number}-{mine}" for mine in range(company)]
            calls = [asyncio.create_task(job.options(id=name).schedule(0)) for name in names]
            for _ in range(number % 25):
                await asyncio.sleep(0)
            calls[0].cancel()
            for name, result in zip(names, await asyncio.gather(*calls, return_exceptions=True), strict=True):
                if isinstance(result, asyncio.CancelledError):
                    cancelled.add(name)
                else:
                    assert isinstance(result, Job)
                    assert (result.id, result.status) == (name, JobStatus.QUEUED)
                    returned.add(name)
        await job.options(id="last").schedule(0)  # travels after all the others
        returned.add("last")
        assert len(plain.client_list()) == connected
        stored = names_in(plain.lrange(key(namespace, "ready"), 0, -1))
        assert cancelled
        assert set(Counter(stored).values()) == {1}
        assert returned <= set(stored) <= returned | cancelled
        assert set(names_in(plain.hkeys(key(namespace, "jobs")))) == set(stored)


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
