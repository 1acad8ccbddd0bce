"""All jobs of a killed worker are recovered as soon as a single one would be."""

from __future__ import annotations

import time

from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger

SLACK = 3.0
"""Seconds that the test's own machine may take to judge the jobs."""


async def test_many_jobs_of_a_killed_worker_are_recovered_in_time(
    schedule_all: ScheduleAll, fleet: Fleet, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    count, lease = 1000, size(6, 12)
    once = await schedule_all("once", count, 3600.0)
    await schedule_all("again", 1, 3600.0)
    [killed] = await fleet.started(1, "--lease", str(lease), "--number", str(count + 1))
    await until(lambda: len(ledger.of("start")) == count + 1, "all run", timeout=60, show=fleet.logs)
    await fleet.started(1, "--lease", str(lease))
    killed.kill()
    killed_at = time.monotonic()

    def are_recovered() -> bool:
        return store("ZCARD", "dead") == count and len(ledger.of("start", "again")) == 2

    await until(are_recovered, "all are recovered", timeout=30 * lease, show=fleet.logs)
    seconds = time.monotonic() - killed_at
    promised = lease + lease / 6 + lease / 12
    report(lost=count + 1, back_within=f"{seconds:.1f} s", promised=f"{promised:.1f} s")
    assert seconds < promised + SLACK
    assert set(store.dead().values()) == {("once", "lost")}
    assert store.dead().keys() == {*once}
    assert max(ledger.counted("start", "once").values()) == 1
