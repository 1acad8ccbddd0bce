"""A Redis that does not answer for longer than a lease: no job is lost or run twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ..servers import Server
from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger

Silence = Callable[[Server, float], Awaitable[None]]


async def stopped(server: Server, seconds: float) -> None:
    server.pause()
    await asyncio.sleep(seconds)
    server.resume()


async def paused(server: Server, seconds: float) -> None:
    with server.client() as client:
        client.execute_command("CLIENT", "PAUSE", int(seconds * 1000), "ALL")
    await asyncio.sleep(seconds)


async def killed(server: Server, seconds: float) -> None:
    server.kill()
    await asyncio.sleep(seconds)
    server.start()


@pytest.fixture
def server_options() -> list[str]:
    return ["--appendonly", "yes", "--appendfsync", "always"]


@pytest.mark.parametrize("silence", [stopped, paused, killed])
@pytest.mark.parametrize("workers", [1, 2])
async def test_jobs_that_end_while_redis_is_silent_are_settled(
    schedule_all: ScheduleAll,
    server: Server,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
    silence: Silence,
    workers: int,
) -> None:
    each, lease = size(10, 20), size(2, 6)
    silent_for = 1.5 * lease
    once = await schedule_all("once", each, lease / 2)
    again = await schedule_all("again", each, lease / 2)
    await fleet.started(workers, "--lease", str(lease), "--number", str(2 * each))
    await until(lambda: len(ledger.of("start")) == 2 * each, "all run", show=fleet.logs)
    await silence(server, silent_for)
    await store.drained(fleet)

    starts, ends, dead = ledger.counted("start"), ledger.counted("end"), store.dead()
    report(
        jobs=2 * each,
        silent_for=f"{silent_for:g} s",
        lost=len(dead),
        doubled=sum(count > 1 for count in starts.values()),
        workers_up=len(fleet.alive),
    )
    assert dead == {}
    assert starts == ends == dict.fromkeys([*once, *again], 1)
    assert len(fleet.alive) == workers
