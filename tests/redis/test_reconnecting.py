"""Connections that are closed, or no longer answer, are replaced."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from aiospinach import BrokerUnavailable, Engine, RedisBroker

from ..conftest import Heard
from ..waiting import until
from .proxy import Proxy


@pytest.mark.parametrize("harm", ["cut", "half_close", "black_hole", "delay"])
async def test_workers_survive_broken_connections(
    namespace: str, heard: Heard, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr("aiospinach.brokers.redis.transports.ANSWER_WITHIN", 0.3)
    monkeypatch.setattr("aiospinach.brokers.redis.transports.WATCHDOG", 0.2)
    monkeypatch.setattr("aiospinach.workers.listener.LISTEN_FOR", 0.2)
    ran: Counter[int] = Counter()
    async with Engine(RedisBroker(proxy.url, lease=10), namespace) as engine:

        @engine.task
        async def job(number: int) -> None:
            ran[number] += 1

        async def broker_down() -> None:
            with pytest.raises(BrokerUnavailable):
                await engine.cancel("any")

        await engine.start_workers(4, block=False)
        for round_ in range(3):
            scheduling = [asyncio.create_task(job.schedule(round_ * 10 + n)) for n in range(10)]
            await until(lambda: ran)
            if harm == "black_hole":
                proxy.is_black_hole = True
                await asyncio.gather(*(broker_down() for _ in range(2)))
                proxy.is_black_hole = False
            elif harm == "delay":
                proxy.delay = 0.05
            else:
                getattr(proxy, harm)()
            await asyncio.gather(*scheduling)
        await until(lambda: heard.count("job_finished") == 30, show=lambda: heard.count("job_finished"))
        proxy.delay = 0
        await engine.stop_workers()
    assert ran == Counter(dict.fromkeys(range(30), 1))
