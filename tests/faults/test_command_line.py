"""Supervised worker processes are killed and reloaded under load, and no job is lost or starts twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..cli.processes import WorkerCommand
from ..servers import Server
from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Store
from .ledger import Ledger


@pytest.fixture
def worker(tmp_path: Path, server: Server, namespace: str, ledger: Ledger) -> Iterator[WorkerCommand]:
    folder = tmp_path / "program"
    folder.mkdir()
    worker = WorkerCommand(folder, ledger, server.url, namespace)
    yield worker
    worker.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


async def drained(store: Store, worker: WorkerCommand) -> None:
    await until(lambda: not store.live, "all jobs have ended", timeout=60, show=lambda: worker.log[-3000:])


async def test_killed_processes_are_back_and_no_job_is_lost(
    schedule_all: ScheduleAll, worker: WorkerCommand, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    kills = size(2, 12)
    worker.start("--processes", "4", "-n", "5")
    await worker.up(4)
    once = await schedule_all("once", size(150, 1500), 0.05)
    again = await schedule_all("again", size(150, 1500), 0.05)
    for number in range(kills):
        await until(
            lambda: len(ledger.of("end")) > (number + 1) * 10,  # noqa: B023
            "jobs run",
            timeout=30,
            show=lambda: worker.log,
        )
        alive = [pid for pid in worker.pids if is_alive(pid)]
        os.kill(random.choice(alive), signal.SIGKILL)
        await worker.up(5 + number)
    await drained(store, worker)
    starts, ends, dead = ledger.counted("start"), ledger.counted("end"), store.dead()
    report(
        kills=kills,
        jobs=len(once) + len(again),
        lost=len({*once, *again} - ends.keys() - dead.keys()),
        once_dead=len(dead),
        once_starts_at_most=max(starts[key] for key in once),
        repeated=sum(starts[key] - 1 for key in again),
    )
    assert len(worker.pids) == len(set(worker.pids)) == 4 + kills
    assert ends.keys() >= {*again}
    assert max(starts[key] for key in once) == 1
    assert {*once} - ends.keys() == dead.keys() - ends.keys()
    assert set(dead.values()) <= {("once", "lost")}
    assert worker.log.count("ended by SIGKILL: another one is started") == kills

    await schedule_all("again", 4, 300, name="long")
    await until(lambda: len(ledger.of("start", "long")) == 4, "four long jobs run", timeout=20)
    began = time.monotonic()
    assert worker.process is not None
    worker.process.send_signal(signal.SIGTERM)
    await worker.logs("once more cancels them")
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ended() == 0, worker.log
    assert time.monotonic() - began < 5
    assert not any(map(is_alive, worker.pids))


@pytest.mark.timeout(900)  # each of the 200 processes takes a second to start
async def test_no_job_starts_twice_or_is_lost_when_workers_are_reloaded_under_load(
    schedule_all: ScheduleAll, worker: WorkerCommand, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    reloads = size(8, 200)
    worker.start("--reload", "-n", "5")
    keys: list[str] = []
    began = time.monotonic()
    for number in range(reloads):
        keys += await schedule_all("once", 20, 0.02, name=f"once-{number}")
        await asyncio.sleep(random.uniform(0, 0.2))
        before = len(worker.pids)
        worker.program.write_text(f"{worker.text}\n# {number}\n")
        # Else the next change comes while the process before starts or drains.
        if number % 4 == 0 or random.random() < 0.5:
            await worker.up(before + 1)
    await drained(store, worker)
    starts, ends = ledger.counted("start"), ledger.counted("end")
    report(
        reloads=reloads,
        processes=len(worker.pids),
        jobs=len(keys),
        lost=len({*keys} - ends.keys()),
        starts_at_most=max(starts.values()),
        seconds=f"{time.monotonic() - began:.0f}",
    )
    assert ends.keys() == {*keys}
    assert set(starts.values()) == {1}
    assert store.dead() == {}
    assert len(worker.pids) > reloads // 4
    assert await worker.stop() == 0, worker.log
