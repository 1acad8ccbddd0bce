"""SIGTERM: no job starts after the first one, a second one cancels bodies, and no lease is left."""

from __future__ import annotations

import time

from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger


async def test_one_sigterm_drains_and_a_second_interrupts(
    schedule_all: ScheduleAll, fleet: Fleet, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    quarter = size(25, 50)
    quick = await schedule_all("again", quarter, 3.0, name="quick")
    quick += await schedule_all("once", quarter, 3.0, name="quick-once")
    again = await schedule_all("again", quarter, 60.0)
    once = await schedule_all("once", quarter, 60.0)
    [worker] = await fleet.started(1, "--lease", "10", "--number", str(4 * quarter))
    await until(lambda: len(ledger.of("start")) == 4 * quarter, "all run", show=fleet.logs)
    waiting = await schedule_all("again", 100, 0.0, name="waiting")
    worker.terminate()
    # Slots become free while jobs are queued.
    await until(lambda: len(ledger.of("finished")) == 2 * quarter, "half of them ended", show=fleet.logs)
    assert worker.is_alive
    worker.terminate()
    second = time.monotonic()
    await until(lambda: not worker.is_alive, "it has left", show=fleet.logs)
    took = time.monotonic() - second

    started, ends, dead = ledger.counted("start"), ledger.counted("end"), store.dead()
    report(
        running=4 * quarter,
        started_after_the_first=len(started.keys() & {*waiting}),
        ended=len(ends),
        released=store.ready - len(waiting),
        dead=store.reasons(),
        leases=store.leases,
        left_within=f"{took:.2f} s",
    )
    assert worker.process.returncode == 0, fleet.logs()
    assert started == dict.fromkeys([*quick, *again, *once], 1)
    assert ends == dict.fromkeys(quick, 1)
    assert ledger.counted("cancelled") == dict.fromkeys([*again, *once], 1)
    assert dead == dict.fromkeys(once, ("once", "interrupted"))
    assert (store.leases, store.slots, store.ready) == (0, 0, len(waiting) + len(again))
    assert took < 2.0 + 2.0
    assert len(ledger.of("down")) == 1


async def test_bodies_are_interrupted_after_the_shutdown_timeout(
    schedule_all: ScheduleAll, fleet: Fleet, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    half, timeout = size(50, 100), 1.0
    again = await schedule_all("again", half, 60.0)
    once = await schedule_all("once", half, 60.0)
    [worker] = await fleet.started(
        1, "--lease", "10", "--number", str(2 * half), "--shutdown-timeout", str(timeout)
    )
    await until(lambda: len(ledger.of("start")) == 2 * half, "all run", show=fleet.logs)
    waiting = await schedule_all("again", half, 0.0, name="waiting")
    worker.terminate()
    first = time.monotonic()
    await until(lambda: not worker.is_alive, "it has left", show=fleet.logs)
    took = time.monotonic() - first

    report(
        running=2 * half,
        released=store.ready - len(waiting),
        dead=store.reasons(),
        leases=store.leases,
        left_within=f"{took:.2f} s",
    )
    assert worker.process.returncode == 0, fleet.logs()
    assert ledger.counted("start") == dict.fromkeys([*again, *once], 1)
    assert store.dead() == dict.fromkeys(once, ("once", "interrupted"))
    assert (store.leases, store.slots, store.ready) == (0, 0, len(waiting) + len(again))
    assert timeout <= took < timeout + 2.0
