"""Calls whose replies are dropped are repeated, and no job is lost or run twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

from aiospinach import Engine, Job, JobStatus, RedisBroker

from ..conftest import Heard
from ..redis.conftest import SCRIPTS, every
from ..redis.proxy import Proxy
from ..servers import Server
from ..waiting import until
from .conftest import Report, Size
from .fleet import Store

KINDS = ["enqueue", "exchange", "tick", "sweep", "renew", "fire", "register"]
BEATS = 20


async def test_no_job_is_lost_or_run_twice_when_replies_of_all_kinds_are_dropped(
    server: Server, namespace: str, store: Store, heard: Heard, size: Size, report: Report
) -> None:
    count, one_in = size(500, 5000), size(4, 20)
    ran: Counter[int] = Counter()
    end = asyncio.Event()
    async with (
        Proxy(server.port) as proxy,
        Engine(RedisBroker(proxy.url, lease=4, enqueue_timeout=30), namespace) as engine,
    ):
        proxy.lose_answers(every(one_in, *KINDS), SCRIPTS)

        @engine.task
        async def job(number: int) -> None:
            ran[number] += 1
            if number == 0:  # runs until its lease was renewed
                await end.wait()

        for beat in range(BEATS):

            @engine.task(name=f"beat-{beat}", periodicity=timedelta(seconds=1))
            async def beats() -> None:
                pass

        def has_lost(kind: str) -> bool:
            return proxy.lost[kind.encode()] >= 1

        def lost_a_registration() -> bool:
            engine._workers.pool.register_again()  # type: ignore[union-attr]
            return has_lost("register")

        async def scheduled(number: int) -> Job:
            if number % 4:
                return await job.schedule(number)
            return await job.schedule_at(datetime.now(UTC) + timedelta(seconds=0.2), number)

        await engine.start_workers(20, block=False)
        jobs: list[Job] = []
        for first in range(0, count, 10):
            jobs += await asyncio.gather(*(scheduled(number) for number in range(first, first + 10)))
        await until(lambda: len(ran) == count, "all ran", timeout=120, show=lambda: len(ran))
        await until(lost_a_registration, "a reply to register is lost", timeout=30)
        await until(
            lambda: all(map(has_lost, KINDS)), "each kind lost one", timeout=60, show=lambda: proxy.lost
        )
        end.set()
        lost = {kind: proxy.lost[kind.encode()] for kind in KINDS}
        proxy.lose_answers(None)
        await engine.stop_workers()

    fired = Counter(kw["job"].id for name, kw in heard if name == "job_started")
    fired = Counter({job_id: times for job_id, times in fired.items() if job_id.startswith("beat-")})
    report(
        jobs=count,
        runs=ran.total(),
        lost=count - len(ran),
        doubled=sum(times > 1 for times in ran.values()),
        ticks=len(fired),
        ticks_doubled=sum(times > 1 for times in fired.values()),
        replies_dropped=lost,
    )
    assert {job.status for job in jobs} <= {JobStatus.QUEUED, JobStatus.WAITING}
    assert ran == Counter(dict.fromkeys(range(count), 1))
    assert fired
    assert set(fired.values()) == {1}
    assert (store.leases, store.slots, store.dead()) == (0, 0, {})
    waiting = {job_id.decode() for job_id in store("HKEYS", "jobs")}
    assert all(job_id.startswith("beat-") for job_id in waiting), "only last beats may wait"
    assert waiting.isdisjoint(fired)
