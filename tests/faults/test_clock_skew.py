"""Ticks and retries follow the clock of Redis, also with killed workers and wrong clocks."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from aiospinach import Engine

from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger

DAY = 24 * 3600
PERIOD = 1.0


def due(key: str) -> float:
    """The moment of a tick, in wall-clock time."""
    return int(key.partition("@")[2]) / 1000


async def test_each_tick_fires_once_while_workers_are_killed_and_after_an_outage(
    fleet: Fleet, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    offset = time.time() - time.monotonic()
    number, seconds = size(4, 8), size(2, 60)
    options = ("--lease", "1", "--period", str(PERIOD))
    await fleet.started(number, *options)
    began = time.monotonic()
    kills = 0
    while time.monotonic() < began + seconds:
        random.choice(fleet.alive[:-1]).kill()
        fleet.start(*options)
        kills += 1
        await asyncio.sleep(0.7)
    for worker in fleet.alive:
        worker.kill()
    away = time.monotonic()
    await asyncio.sleep(size(3, 10) * PERIOD / 2)
    await fleet.started(2, *options)
    back = time.monotonic()
    await until(
        lambda: len([e for e in ledger.of("start") if e.at > back]) >= 2, "more ticks", show=fleet.logs
    )
    await until(lambda: not store.live, "all have ended", show=fleet.logs)

    starts = ledger.of("start", "ticks@")
    fired = {*ledger.counted("start"), *store.dead()}
    moments = sorted(due(key) for key in fired)
    while_up = [m for m in moments if began <= m - offset <= away]
    missed = [m for m in moments if away < m - offset < back - PERIOD / 2]
    early = [e for e in starts if e.at + offset < due(e.key) - 0.05]
    report(
        workers=number,
        kills=kills,
        seconds=f"{away - began:.1f}",
        fired=len(while_up),
        doubled=len(starts) - len({e.key for e in starts}),
        of_the_outage=len(missed),
        early=len(early),
        dead=store.reasons(),
    )
    assert max(ledger.counted("start").values()) == 1
    assert len(while_up) >= int(away - began) - 1
    assert all(b - a >= PERIOD - 0.01 for a, b in pairwise(moments))
    assert len(missed) <= 1
    assert early == []
    assert set(store.dead().values()) <= {("ticks", "lost")}


@pytest.mark.parametrize("off", [DAY, -DAY], ids=["fast", "slow"])
async def test_a_worker_whose_clock_is_a_day_off_works_correctly(
    off: int,
    engine: Engine,
    schedule_all: ScheduleAll,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    count, seconds = size(10, 100), size(2, 10)
    offset = time.time() - time.monotonic()
    # One worker has not enough slots for all long jobs, both together have more than enough.
    options = ("--lease", "2", "--number", str(count * 7 // 10), "--period", str(PERIOD))
    wrong, _ = await asyncio.gather(
        fleet.started(1, *options, "--clock", str(off)), fleet.started(1, *options)
    )
    began = time.monotonic()
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    moment = at.timestamp() - offset
    for number in range(count):
        await engine.schedule_at("again", at, f"later-{number}", 0.01)
    retried = await schedule_all("fails_first", count)
    # They run longer than a lease, which is renewed several times.
    long_ones = await schedule_all("again", count, 2.5, name="long")
    await until(lambda: len(ledger.of("end")) == 3 * count, "all ended", timeout=60, show=fleet.logs)
    await until(lambda: len(ledger.of("start", "ticks@")) >= 2, "ticks", show=fleet.logs)
    ended = time.monotonic()

    starts = ledger.of("start")
    later = [entry.at - moment for entry in starts if entry.key.startswith("later")]
    by_key: dict[str, list[float]] = {}
    for entry in starts:
        by_key.setdefault(entry.key, []).append(entry.at)
    waits = [by_key[key][1] - by_key[key][0] for key in retried]
    ticks = {key: len(times) for key, times in by_key.items() if key.startswith("ticks@")}
    false = sum(len(by_key[key]) - 1 for key in long_ones)
    report(
        by_the_wrong_one=len(ledger.of("start", pid=wrong[0].pid)),
        early=sum(lateness < 0 for lateness in later),
        late_at_most=f"{max(later):.2f} s",
        retries_after=f"{min(waits):.2f} to {max(waits):.2f} s",
        false_recoveries=false,
        ticks=len(ticks),
        seconds=f"{ended - began:.1f}",
    )
    assert ledger.of("start", pid=wrong[0].pid)
    assert len(later) == count
    assert 0 <= min(later) <= max(later) < 2
    assert {len(by_key[key]) for key in retried} == {2}
    assert 0.45 <= min(waits) <= max(waits) < 2.5
    assert false == 0
    assert set(ticks.values()) == {1}
    assert len(ticks) <= ended - began + 3
    assert all(abs(due(key) - offset - by_key[key][0]) < 2 for key in ticks)
    assert store.dead() == {}
