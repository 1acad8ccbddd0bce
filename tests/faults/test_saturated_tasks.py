"""Jobs of a task at its limit do not block others, and none of them is lost."""

from __future__ import annotations

from ..waiting import until
from .conftest import CHAOS, Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger, most_at_once
from .worker import LIMIT


async def test_jobs_behind_many_of_a_saturated_task_run(
    schedule_all: ScheduleAll, fleet: Fleet, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    many, free = size(5000, 100_000), size(50, 100)
    holding = await schedule_all("limited", LIMIT, size(3, 30), name="holding")
    blocked = await schedule_all("limited", many, 0.0, name="blocked")
    passing = await schedule_all("once", free, 0.01)
    await fleet.started(2, "--lease", "10", "--number", "10")
    if CHAOS:
        # A worker to which the task is unknown parks its jobs, and loses none.
        await fleet.started(1, "--lease", "10", "--number", "10", "--without", "limited")
    await until(
        lambda: len(ledger.of("end", "once")) == free, "the free ones ran", timeout=60, show=fleet.logs
    )
    entries = ledger.read()
    lane = store("ZRANGE", "lanes", 0, -1)
    ended_before = [e for e in entries if e.kind == "end" and not e.key.startswith("once")]
    slots = store.slots
    await store.drained(fleet, timeout=size(30, 500))

    ends = ledger.counted("end")
    at_once = most_at_once([e for e in ledger.read() if not e.key.startswith("once")], stopped_at={})
    report(
        blocked=many,
        passed=free,
        blocked_that_ended_first=len(ended_before),
        in_the_lane=len(lane),
        slots=slots,
        limited_at_most=at_once,
        lost=len({*holding, *blocked, *passing} - ends.keys()),
    )
    assert ended_before == []
    assert len(set(lane)) == len(lane)
    if not CHAOS:
        assert (len(lane), slots) == (many, LIMIT)
    assert at_once == LIMIT
    assert ends == dict.fromkeys([*holding, *blocked, *passing], 1)
    assert ledger.counted("start") == ends
    assert store("EXISTS", "lanes") == 0
