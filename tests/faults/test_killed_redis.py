"""A Redis that crashes and restarts with its data, and one that is paused and closes its connections."""

from __future__ import annotations

import asyncio
import time

import pytest

from aiospinach import Engine
from aiospinach.exceptions import BrokerUnavailable, EnqueueUncertain

from ..servers import Server
from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger

RESUMED_WITHIN = 5.0


@pytest.fixture
def server_options() -> list[str]:
    return ["--appendonly", "yes", "--appendfsync", "always"]


async def test_no_job_is_lost_when_redis_is_killed_under_load(
    engine: Engine,
    server: Server,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    kills, uncertain = size(3, 5), 0
    stored: list[str] = []
    is_ending = False

    async def produce(task: str) -> None:
        nonlocal uncertain
        number = 0
        while not is_ending:
            key = f"{task}-{number}"
            number += 1
            try:
                await engine.schedule(task, key, 0.02)
            except EnqueueUncertain as error:
                uncertain += 1
                await error.retry()
            except BrokerUnavailable:
                continue  # Redis was away for as long as a call tries, and nothing was stored
            stored.append(key)
            await asyncio.sleep(0.005)

    async def ended(count: int) -> None:
        await until(lambda: len(ledger.of("end")) >= count, "load", timeout=20, show=fleet.logs)

    async def work_since(moment: float) -> None:
        await until(lambda: any(entry.at > moment for entry in ledger.of("start")), "work", show=fleet.logs)

    await fleet.started(3, "--lease", "2", "--number", "5")
    producers = [asyncio.create_task(produce(task)) for task in ("once", "again", "limited")]
    resumed: list[float] = []
    for _ in range(kills):
        await ended(len(ledger.of("end")) + 60)
        server.kill()
        await asyncio.sleep(size(3, 30) / 10)
        server.start()
        back = time.monotonic()
        await work_since(back)
        resumed.append(time.monotonic() - back)
    is_ending = True
    await asyncio.gather(*producers)
    await store.drained(fleet)

    starts, ends, dead = ledger.counted("start"), ledger.counted("end"), store.dead()
    doubled = sum(count > 1 for key, count in starts.items() if key.startswith("once"))
    report(
        jobs=len(stored),
        kills=kills,
        lost=len({*stored} - ends.keys() - dead.keys()),
        once_doubled=doubled,
        dead=len(dead),
        repeated=sum(count - 1 for count in starts.values()),
        resumed_within=f"{max(resumed):.2f} s",
        uncertain=uncertain,
        alive=len(fleet.alive),
    )
    assert len(stored) == len(set(stored)) >= kills * 60
    assert {*stored} - ends.keys() - dead.keys() == set()
    assert ends.keys() | dead.keys() <= {*stored}
    assert doubled == 0
    assert set(dead.values()) <= {("once", "lost")}
    assert max(resumed) < RESUMED_WITHIN
    assert len(fleet.alive) == 3


async def test_no_job_is_lost_when_all_connections_are_killed_repeatedly(
    engine: Engine,
    schedule_all: ScheduleAll,
    server: Server,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    jobs, kills = size(600, 6000), 0
    lease, pause = size(4, 16), size(800, 3000)
    await fleet.started(3, "--lease", str(lease), "--number", "5")
    keys = await schedule_all("once", jobs // 2, 0.04)
    keys += await schedule_all("again", jobs // 2, 0.04)
    with server.client() as client:
        paused = False
        while store.live:
            killed = client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            kills += int(killed)
            if not paused and len(ledger.of("end")) > jobs / 3:
                client.execute_command("CLIENT", "PAUSE", pause, "ALL")
                paused = True
            await asyncio.sleep(0.1)
        clients = [c for c in client.client_list() if c["cmd"] not in ("client|list", "NULL")]
    await store.drained(fleet)
    await until(lambda: len(ledger.of("finished")) == jobs, "all runs have finished")

    starts, ends = ledger.counted("start"), ledger.counted("end")
    report(
        jobs=jobs,
        connections_killed=kills,
        lost=len({*keys} - ends.keys()),
        doubled=sum(count - 1 for count in starts.values()),
        dead=len(store.dead()),
        connections=len(clients),
    )
    assert paused
    assert kills >= 3 * 3
    assert starts == dict.fromkeys(keys, 1)
    assert ends == dict.fromkeys(keys, 1)
    assert store.dead() == {}
    assert {entry.note for entry in ledger.of("finished")} == {"NoneType"}
    assert len(clients) <= 3 * 3 + 3
    assert len(fleet.alive) == 3
