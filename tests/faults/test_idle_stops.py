"""Idle workers that are stopped do not wait for an unavailable server."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from ..servers import Server
from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger

HARMS = [pytest.param(Server.kill, id="killed"), pytest.param(Server.pause, id="hung")]


@pytest.mark.parametrize("harm", HARMS)
async def test_idle_workers_exit_within_two_seconds_of_a_sigterm(
    schedule_all: ScheduleAll,
    server: Server,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
    harm: Callable[[Server], object],
) -> None:
    count = size(2, 4)
    workers = await fleet.started(count, "--lease", "12")
    keys = await schedule_all("again", 10 * count, 0.0)
    await store.drained(fleet)
    await until(lambda: len(ledger.of("finished")) == len(keys), "all runs have finished", show=fleet.logs)
    harm(server)
    began = time.monotonic()
    for worker in workers:
        worker.terminate()
    await until(lambda: not fleet.alive, "they exit", timeout=40, show=fleet.logs)
    took = max(entry.at for entry in ledger.of("down")) - began
    report(workers=count, stopped_within=f"{took:.2f} s")
    assert {worker.process.returncode for worker in workers} == {0}, fleet.logs()
    assert len(ledger.of("down")) == count
    assert took < 3.0
