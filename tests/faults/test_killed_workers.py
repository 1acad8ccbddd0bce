"""No job is lost when workers are killed, and at-most-once jobs do not run twice."""

from __future__ import annotations

import asyncio
import random
import time

from aiospinach import Engine
from aiospinach.backoff import jitter
from aiospinach.outcome import RESCUE_JITTER

from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Fleet, Store, Worker
from .ledger import Ledger, most_at_once
from .worker import LIMIT


async def test_no_job_is_lost_when_random_workers_are_killed_repeatedly(
    schedule_all: ScheduleAll, fleet: Fleet, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    jobs = size(400, 2000)
    pause, seconds = size(5, 20) / 10, size(10, 30) / 100
    options = ("--lease", "1", "--number", "5")
    await fleet.started(3, *options)
    limited = await schedule_all("limited", jobs // 10, seconds * 1.5)
    once = await schedule_all("once", jobs // 2, seconds)
    again = await schedule_all("again", jobs * 2 // 5, seconds)
    stopped_at: dict[int, float] = {}

    def serving() -> list[Worker]:
        up = {entry.pid for entry in ledger.of("up")}
        return [worker for worker in fleet.alive if worker.pid in up]

    # Recovered jobs go to the end of the queue, so that none is hit twice while most jobs have not run.
    while len(ledger.of("end")) < jobs * 0.6:
        await asyncio.sleep(pause)
        await until(serving, "one serves", timeout=20, show=fleet.logs)
        worker = random.choice(serving())
        worker.kill()
        stopped_at[worker.pid] = time.monotonic()
        fleet.start(*options)
    await store.drained(fleet, timeout=60)

    starts, ends, dead = ledger.counted("start"), ledger.counted("end"), store.dead()
    at_once = most_at_once(ledger.of_task("limited"), stopped_at=stopped_at)
    report(
        jobs=jobs,
        kills=len(stopped_at),
        lost=len({*once, *again, *limited} - ends.keys() - dead.keys()),
        once_dead=len(dead),
        once_starts_at_most=max(starts[key] for key in once),
        repeated=sum(starts[key] - 1 for key in again),
        limited_repeated=sum(starts[key] - 1 for key in limited),
        limited_at_most=at_once,
        slots=store.slots,
    )
    assert len(stopped_at) >= size(2, 8)
    assert at_once <= LIMIT
    assert max(starts[key] for key in once) == 1
    assert {*once, *again, *limited} - ends.keys() == dead.keys() - ends.keys()
    assert set(dead.values()) <= {("once", "lost")}
    assert dead.keys() <= {*once}
    assert ends.keys() >= {*again, *limited}


async def test_no_job_is_lost_when_a_drain_is_killed_three_times(
    schedule_all: ScheduleAll, fleet: Fleet, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    jobs = size(1200, 20_000)
    once = await schedule_all("once", jobs // 2, 0.02)
    again = await schedule_all("again", jobs // 2, 0.02)
    options = ("--lease", "1", "--number", "20", "--until-empty")

    async def ended(count: int) -> None:
        await until(lambda: len(ledger.of("end")) >= count, "a part", timeout=60, show=fleet.logs)

    for part in (1, 2, 3):
        worker = fleet.start(*options)
        await ended(jobs * part // 5)
        worker.kill()
    last = fleet.start(*options)
    await until(lambda: not last.is_alive, "the last run has ended", timeout=120, show=fleet.logs)

    starts, ends, dead = ledger.counted("start"), ledger.counted("end"), store.dead()
    report(
        jobs=jobs,
        ended=len(ends),
        dead=store.reasons(),
        once_starts_at_most=max(starts[key] for key in once),
        recovered=fleet.logs(whole=True).count("raised WorkerLost and is tried again"),
        left=store.live,
    )
    assert last.process.returncode == 0, fleet.logs()
    assert (store.live, store.leases, store.slots) == (0, 0, 0)
    assert max(starts[key] for key in once) == 1
    assert {*once, *again} - ends.keys() == dead.keys() - ends.keys()
    assert set(dead.values()) <= {("once", "lost")}
    assert ends.keys() >= {*again}


async def test_a_job_that_exits_its_process_is_poison_after_three_workers(
    engine: Engine,
    schedule_all: ScheduleAll,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    await fleet.started(4, "--lease", "1", "--number", "5")
    # The ids decide when jobs that were lost together are retried.
    await engine.schedule(engine._tasks.find("exits").options(id="killer"), "poison")
    again = engine._tasks.find("again")
    companions = [f"again-{number}" for number in range(8)]
    apart = jitter(RESCUE_JITTER, "killer")
    assert min(abs(jitter(RESCUE_JITTER, key) - apart) for key in companions) > 0.4
    for key in companions:
        await engine.schedule(again.options(id=key), key, 0.05)
    good = [*companions, *await schedule_all("again", size(40, 400), 0.05, name="more")]
    began = time.monotonic()
    await store.drained(fleet, timeout=30)

    ends, starts = ledger.counted("end"), ledger.counted("start", "poison")
    report(
        starts=starts["poison"],
        reasons=store.reasons(),
        good=len(ends),
        exited=4 - len(fleet.alive),
        seconds=f"{time.monotonic() - began:.1f}",
    )
    assert starts == {"poison": 3}
    assert store.dead() == {"poison": ("exits", "poison")}
    assert ends.keys() == {*good}
    assert sorted(worker.process.poll() or 0 for worker in fleet.workers) == [0, 9, 9, 9]
    assert len(fleet.alive) == 1
