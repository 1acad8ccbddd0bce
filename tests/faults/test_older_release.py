"""An older release and this one work on one queue, and no job is lost, run twice or damaged."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

from aiospinach import Engine, JobStatus

from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import ROOT, Fleet, Store, Worker
from .ledger import Ledger, most_at_once
from .worker import LIMIT

[OLDER] = (Path(__file__).parent / "releases").glob("*.whl")
"""The last release. There is none yet: it is the first state of the present stored format."""


async def test_an_older_release_and_this_one_work_together_while_both_are_killed(
    engine: Engine,
    schedule_all: ScheduleAll,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    each, kills = size(60, 400), size(4, 20)
    options = {OLDER: ("--without", "added"), ROOT: ("--without", "removed")}
    stopped_at: dict[int, float] = {}
    workers: dict[Path, Worker] = {}

    async def start(release: Path) -> None:
        common = ("--lease", "2", "--number", "8")
        [workers[release]] = await fleet.started(1, *common, *options[release], release=release)

    for release in options:
        await start(release)
    for release, worker in workers.items():
        assert f"aiospinach is {release}" in worker.log.read_text()

    once = await schedule_all("once", each, 0.4)
    again = await schedule_all("again", each * 2, 0.1)
    limited = await schedule_all("limited", each, 0.05)
    straight = [*await schedule_all("added", each), *await schedule_all("removed", each)]
    for release in itertools.islice(itertools.cycle(options), kills):
        await asyncio.sleep(0.3)
        workers[release].kill()
        stopped_at[workers[release].pid] = time.monotonic()
        await start(release)
    late = await engine.schedule("again", "late-1", 0.0)
    assert await engine.cancel(late) in (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.NOT_SET)
    await store.drained(fleet, timeout=60)
    await until(lambda: store.slots == 0, "no slot is left", show=fleet.logs)

    starts, ends, dead = ledger.counted("start"), ledger.counted("end"), store.dead()
    at_once = most_at_once(ledger.of_task("limited"), stopped_at=stopped_at)
    everything = {*once, *again, *limited, *straight}
    report(
        jobs=len(everything),
        kills=len(stopped_at),
        lost=len(everything - ends.keys() - dead.keys()),
        dead=len(dead),
        once_starts_at_most=max(starts[key] for key in once),
        limited_at_most=at_once,
    )
    assert everything - ends.keys() <= dead.keys()
    assert {reason for _, reason in dead.values()} <= {"lost"}
    assert dead.keys() <= {*once, *straight}, "jobs with retries run in the end"
    assert max(starts[key] for key in [*once, *straight]) == 1
    assert at_once <= LIMIT
    assert store("EXISTS", "lanes") == store("EXISTS", "future") == store("EXISTS", "cancels") == 0
