"""A Redis that loses all its data, or its scripts: workers survive, and later jobs run correctly."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest

from aiospinach import Engine

from ..servers import Server
from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger, most_at_once
from .worker import LIMIT


def restart_empty(server: Server) -> None:
    server.kill()
    server.start()


def command(*words: str) -> Callable[[Server], None]:
    def run(server: Server) -> None:
        with server.client() as client:
            client.execute_command(*words)

    return run


FORGETS = [
    pytest.param(restart_empty, True, id="restart"),
    pytest.param(command("FLUSHALL"), True, id="FLUSHALL"),
    pytest.param(command("SCRIPT", "FLUSH"), False, id="SCRIPT-FLUSH"),
]


@pytest.mark.parametrize(("harm", "loses_jobs"), FORGETS)
async def test_workers_survive_and_later_jobs_run(
    harm: Callable[[Server], None],
    loses_jobs: bool,
    engine: Engine,
    schedule_all: ScheduleAll,
    server: Server,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    count = size(8, 80)
    await fleet.started(2, "--lease", "2", "--number", str(count), "--period", "1")
    task = engine._tasks.find("again")
    for number in range(count):
        await task.options(id=f"job-{number}").schedule(f"again-{number}", 1.0)
    await until(lambda: len(ledger.of("start", "again")) == count, "they run", show=fleet.logs)
    await until(lambda: ledger.of("start", "ticks@"), "a tick", show=fleet.logs)
    harm(server)
    harmed = max(entry.at for entry in ledger.read())
    # The same ids again: the settlements of the first jobs must not affect these.
    for number in range(count):
        await task.options(id=f"job-{number}").schedule(f"again-{number}", 1.0)
    limited = await schedule_all("limited", 4 * LIMIT, 0.1)
    later = await schedule_all("once", count, 0.01)
    await store.drained(fleet)
    runs = 2 * count if loses_jobs else count
    await until(
        lambda: len(ledger.of("finished", "again")) == runs, "all runs have finished", show=fleet.logs
    )
    # An idle worker may wait for so long.
    deadline = time.monotonic() + 5
    while not (ticks_after := [e for e in ledger.of("start", "ticks@") if e.at > harmed + 1]):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.05)

    notes = Counter(entry.note for entry in ledger.of("finished", "again"))
    at_once = most_at_once([e for e in ledger.read() if e.key.startswith("limited")], stopped_at={})
    ticks = ledger.counted("start", "ticks@")
    report(
        fenced=notes["LeaseLost"],
        succeeded=notes["NoneType"],
        later=len(ledger.counted("end", "once")),
        limited_at_most=at_once,
        ticks=len(ticks),
        ticks_after=len(ticks_after),
        alive=len(fleet.alive),
    )
    assert notes == ({"LeaseLost": count, "NoneType": count} if loses_jobs else {"NoneType": count})
    assert ledger.counted("end", "once") == dict.fromkeys(later, 1)
    assert ledger.counted("end", "limited") == dict.fromkeys(limited, 1)
    assert at_once == LIMIT
    assert ticks_after
    assert set(ticks.values()) == {1}
    assert store.dead() == {}
    assert len(fleet.alive) == 2
    assert not any("CRITICAL" in worker.log.read_text() for worker in fleet.workers)


async def test_workers_survive_a_redis_that_is_down_for_two_leases(
    schedule_all: ScheduleAll,
    server: Server,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    count = size(5, 50)
    await fleet.started(2, "--lease", "2", "--number", str(count))
    await schedule_all("again", count, 60.0)
    await until(lambda: len(ledger.of("start")) == count, "they run", show=fleet.logs)
    server.kill()
    await until(lambda: len(ledger.of("cancelled")) == count, "they are cancelled", show=fleet.logs)
    await asyncio.sleep(2)
    server.start()
    later = await schedule_all("once", count, 0.01, name="later")
    await until(lambda: len(ledger.of("end")) == count, "these run", show=fleet.logs)
    await until(
        lambda: len(ledger.of("finished", "again")) == count, "they notice their loss", show=fleet.logs
    )

    notes = Counter(entry.note for entry in ledger.of("finished", "again"))
    report(cancelled=notes["LeaseLost"], later=len(ledger.of("end")), alive=len(fleet.alive))
    assert notes == {"LeaseLost": count}
    assert ledger.counted("end") == dict.fromkeys(later, 1)
    assert len(fleet.alive) == 2
