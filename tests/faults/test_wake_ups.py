"""Wake-ups of an idle worker with two queues, whose jobs are scheduled one by one and concurrently."""

from __future__ import annotations

import asyncio
import random

import pytest

from aiospinach import Engine, RedisBroker

from ..servers import Server
from ..waiting import until
from .conftest import Report, Size

LATE = 1.0
"""Seconds after which a job has been found by a look, and not by a wake-up: the next look may be 5 s away."""


@pytest.mark.timeout(300)
async def test_no_wake_up_is_lost(server: Server, namespace: str, size: Size, report: Report) -> None:
    worker = Engine(RedisBroker(server.url), namespace)
    producer = Engine(RedisBroker(server.url), namespace)
    loop, chance = asyncio.get_running_loop(), random.Random(7)
    waited: list[float] = []
    rounds = size(500, 15_000)
    for engine in (worker, producer):
        for queue in ("a", "b"):

            @engine.task(name=queue, queue=queue)
            async def job(since: float) -> None:
                waited.append(loop.time() - since)

    scheduled = 0
    async with worker, producer:
        await worker.start_workers(4, ["a", "b"], block=False)
        for _ in range(rounds):
            queues = chance.choice(["ab", "ab", "a", "b"])
            scheduled += len(queues)
            await asyncio.gather(*(producer.schedule(queue, loop.time()) for queue in queues))
            await until(lambda: len(waited) == scheduled, "its jobs run")  # noqa: B023
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003]))
        await worker.stop_workers()
    late = sum(seconds > LATE for seconds in waited)
    report(jobs=scheduled, late=late, longest_ms=round(1000 * max(waited)))
    assert late == 0
