"""Old and new versions of a program run concurrently: jobs unknown to one of them are not lost, and the limit
registered last applies."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from ..brokers.raw_keys import Header
from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Fleet, Store, Worker
from .ledger import Entry, Ledger, most_at_once
from .worker import LIMIT

COMMON = ["--lease", "10", "--number", "12"]


def most_since(entries: list[Entry], moment: float) -> int:
    """The maximum number of bodies that ran at the same time since a moment."""
    ended = {entry.key for entry in entries if entry.kind == "end" and entry.at < moment}
    return most_at_once(
        (e._replace(at=max(e.at, moment)) for e in entries if e.key not in ended),
        stopped_at={},
    )


@pytest.mark.parametrize("new_limit", [1, 5])
async def test_no_job_is_lost_when_workers_are_replaced_one_by_one_and_back(
    schedule_all: ScheduleAll,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
    new_limit: int,
) -> None:
    old = [*COMMON, "--without", "added"], LIMIT
    new = [*COMMON, "--without", "removed", "--limit", str(new_limit)], new_limit
    count, each = size(1, 2), size(30, 100)
    keys: list[str] = []
    most: list[tuple[int, int]] = []

    async def joined(version: tuple[list[str], int]) -> Worker:
        """Start another worker, and wait until the limit that it registers is reached, and not exceeded."""
        options, limit = version
        stage = len(most)
        for task, *arguments in (("once", 0.02), ("again", 0.02), ("added",), ("removed",)):
            keys.extend(await schedule_all(task, each, *arguments, name=f"{task}-{stage}"))
        [worker] = await fleet.started(1, *options)
        await until(lambda: store.slots <= limit, "the jobs leased before have ended", show=fleet.logs)
        settled = time.monotonic()
        load = await schedule_all("limited", each, 0.02, name=f"limited-{stage}")
        keys.extend(load)

        def is_used() -> bool:
            """Half of the jobs have ended, and the next change happens while others run."""
            seen = ledger.of_task("limited")
            ended = {entry.key for entry in seen if entry.kind == "end"}
            return most_since(seen, settled) >= limit and len(ended & {*load}) >= each / 2

        await until(is_used, "the limit is used", timeout=30, show=fleet.logs)
        most.append((most_since(ledger.of_task("limited"), settled), limit))
        return worker

    async def replaced(workers: list[Worker], version: tuple[list[str], int]) -> list[Worker]:
        others = []
        for worker in workers:
            others.append(await joined(version))
            worker.terminate()
        await until(
            lambda: not any(worker.is_alive for worker in workers), "they end", timeout=40, show=fleet.logs
        )
        return others

    async def parked(task: str) -> None:
        """Schedule jobs of an unknown task, and return when all are parked."""
        waiting = await schedule_all(task, each, name=f"{task}-parked-{len(most)}")
        keys.extend(waiting)

        def parked_jobs() -> int:
            headers = [Header.read(envelope) for envelope in store("HVALS", "jobs")]
            return sum(
                header is not None and header.parked_at > 0 and header.task == task for header in headers
            )

        await until(lambda: parked_jobs() >= len(waiting), f"jobs of {task} wait", show=fleet.logs)

    began = time.monotonic()
    workers = [await joined(old) for _ in range(count)]
    await parked("added")
    workers = await replaced(workers, new)
    await parked("removed")
    workers = await replaced(workers, old)
    workers += [await joined(new)]
    for worker in workers[1:-1]:
        worker.terminate()
        await until(lambda: not worker.is_alive, "it ends", timeout=40, show=fleet.logs)  # noqa: B023
    workers = [workers[0], workers[-1]]
    await store.drained(fleet, timeout=size(20, 400))

    starts, ends = ledger.counted("start"), ledger.counted("end")
    notes = {task: Counter(e.note for e in ledger.of("start", task)) for task in ("added", "removed")}
    limited = most_at_once(ledger.of_task("limited"), stopped_at={})
    report(
        jobs=len(keys),
        lost=len({*keys} - ends.keys()),
        doubled=sum(count - 1 for count in starts.values()),
        dead=len(store.dead()),
        were_parked={task: count["parked:0"] for task, count in notes.items()},
        limited_at_most=limited,
        at_most_and_limit_of_each_stage=most,
        workers=len(fleet.workers),
        took=f"{time.monotonic() - began:.1f} s",
    )
    assert starts == ends == dict.fromkeys(keys, 1)
    assert store.dead() == {}
    assert all(counts.keys() == {"straight:0", "parked:0"} for counts in notes.values())
    assert all(at_once == limit for at_once, limit in most)
    assert limited == max(LIMIT, new_limit)
    assert fleet.alive == workers
    assert {worker.process.poll() for worker in fleet.workers} == {None, 0}
