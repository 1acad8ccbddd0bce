"""A worker that was suspended for three leases is fenced from its former jobs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Fleet, Store, Worker
from .ledger import Ledger, most_at_once
from .worker import LIMIT


def lost_jobs_in_log(worker: Worker) -> set[str]:
    """The ids of jobs whose leases the log of a worker reports as lost."""
    lines = worker.log.read_text().splitlines()
    return {line.partition(" id=")[2].split(" ")[0] for line in lines if "lost its lease" in line}


async def test_a_zombie_is_fenced_and_limits_hold(
    schedule_all: ScheduleAll, fleet: Fleet, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    each, lease = size(6, 40), size(2, 4)
    limited = await schedule_all("limited", size(9, 40), 1.0)
    once = await schedule_all("once", each, 1.0)
    again = await schedule_all("again", each, 1.0)
    options = ("--lease", str(lease), "--number", str(2 * each + LIMIT))
    [zombie] = await fleet.started(1, *options)
    held = 2 * each + LIMIT
    await until(lambda: len(ledger.of("start")) == held, "all slots are taken", show=fleet.logs)
    zombie.suspend()
    stopped_at = {zombie.pid: time.monotonic()}
    assert not ledger.of("end")

    slots_at_most, until_then = 0, time.monotonic() + 3 * lease
    await fleet.started(1, *options)
    is_stopped = True
    while store.live or is_stopped:
        slots_at_most = max(slots_at_most, store.slots)
        if is_stopped and time.monotonic() >= until_then:
            is_stopped = False
            zombie.resume()
        await asyncio.sleep(0.01)
    await until(lambda: len(ledger.of("finished", pid=zombie.pid)) >= held, "it hears of it")
    await store.drained(fleet)

    # It may lease other jobs after it was resumed, which succeed.
    fenced = Counter(entry.note for entry in ledger.of("finished", pid=zombie.pid))
    starts, dead = ledger.counted("start"), store.dead()
    ended_elsewhere = {e.key for e in ledger.of("end") if e.pid != zombie.pid}
    at_once = most_at_once(ledger.of_task("limited"), stopped_at=stopped_at)
    report(
        held=held,
        fenced=fenced["LeaseLost"],
        once_starts_at_most=max(starts[key] for key in once),
        once_dead=store.reasons(),
        slots_at_most=slots_at_most,
        limited_at_most=at_once,
    )
    assert fenced["LeaseLost"] == held
    assert {key: starts[key] for key in once} == dict.fromkeys(once, 1)
    assert dead == dict.fromkeys(once, ("once", "lost"))
    assert ended_elsewhere >= {*again}
    assert ledger.counted("end").keys() >= {*again, *limited}
    assert slots_at_most == LIMIT
    assert at_once == LIMIT


async def test_a_body_that_blocks_the_loop_for_two_leases_is_fenced(
    schedule_all: ScheduleAll, fleet: Fleet, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    each, lease = size(5, 40), size(2, 4)
    once = await schedule_all("once", each, 60.0)
    again = await schedule_all("again", each, 3.0 * lease)
    [blocked] = await fleet.started(1, "--lease", str(lease), "--number", str(2 * each + 1))
    await until(lambda: len(ledger.of("start")) == 2 * each, "these run", show=fleet.logs)
    [other] = await fleet.started(1, "--lease", str(lease), "--number", str(2 * each + 1))
    other.suspend()  # so that the first worker gets the job
    await schedule_all("blocks", 1, 2.2 * lease)
    await until(lambda: len(ledger.of("start", "blocks")) == 1, "it blocks", show=fleet.logs)
    other.resume()
    await store.drained(fleet)
    held = 2 * each + 1
    await until(lambda: len(ledger.of("finished", pid=blocked.pid)) >= held, "it hears of it")

    notes = Counter(entry.note for entry in ledger.of("finished", pid=blocked.pid))
    starts, ends = ledger.counted("start"), ledger.counted("end", pid=other.pid)
    named = lost_jobs_in_log(blocked)
    report(
        held=held,
        fenced=notes["LeaseLost"],
        once_starts_at_most=max(starts[key] for key in once),
        dead=store.reasons(),
        run_by_the_other=len(ends),
        named_in_the_log=len(named),
    )
    assert notes == {"LeaseLost": held}
    assert store.dead() == dict.fromkeys(once, ("once", "lost"))
    assert {key: starts[key] for key in once} == dict.fromkeys(once, 1)
    assert ends.keys() == {*again, "blocks-0"}
    assert len(named) == held


async def test_a_body_that_ignores_its_cancellation_is_fenced_and_logged(
    schedule_all: ScheduleAll, fleet: Fleet, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    lease, count = size(2, 4), size(3, 20)
    keys = await schedule_all("ignores", count, 2.5 * lease)
    options = ("--lease", str(lease), "--number", str(count))
    [first] = await fleet.started(1, *options)
    await until(lambda: len(ledger.of("start")) == count, "they run", show=fleet.logs)
    first.suspend()
    [other] = await fleet.started(1, *options)
    await until(lambda: len(ledger.of("start")) == 2 * count, "the other has them", show=fleet.logs)
    first.resume()
    await store.drained(fleet)
    await until(lambda: len(ledger.of("finished")) == 2 * count, "both hear of it")

    notes = Counter((entry.pid == first.pid, entry.note) for entry in ledger.of("finished"))
    ignored = ledger.counted("ignored", pid=first.pid)
    named = lost_jobs_in_log(first)
    report(jobs=count, ignored=len(ignored), fenced=notes[True, "LeaseLost"], named_in_the_log=len(named))
    assert notes == {(True, "LeaseLost"): count, (False, "NoneType"): count}
    assert ignored == dict.fromkeys(keys, 1)
    assert ledger.counted("end", pid=other.pid) == dict.fromkeys(keys, 1)
    assert len(named) == count
