"""Pauses, moves and purges while workers are busy."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from aiospinach import Engine, RedisBroker, RetryException
from aiospinach.brokers.bulk import CancelSome, Cursor
from aiospinach.brokers.records import Envelope, Settlement
from aiospinach.outcome import Action

from .. import asking
from ..servers import Server
from ..waiting import until
from .conftest import CHAOS, Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger
from .test_long_queues import HOUR, IN_A_ROW, Filled, Steps

HEARD_WITHIN = 0.1
"""Seconds after the end of ``pause()`` by which the last job has started, if the machine is not busy."""
SLOTS = 5


async def test_no_job_starts_after_a_pause_of_another_process(
    engine: Engine,
    schedule_all: ScheduleAll,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    keys = await schedule_all("once", size(3000, 30_000), 0.002)
    workers = await fleet.started(size(2, 4), "--number", str(SLOTS))
    await until(lambda: len(ledger.of("end", "once")) > 200, "jobs run", show=fleet.logs)
    await engine.pause("once", reason="a test")
    paused_at = time.monotonic()
    await until(lambda: store.leases == 0, "the running jobs have ended", show=fleet.logs)
    others = await schedule_all("again", 20, 0.0)
    await until(lambda: len(ledger.of("end", "again")) == 20, "other jobs run", show=fleet.logs)
    starts = ledger.of("start", "once")
    after = [entry for entry in starts if entry.at > paused_at]
    latest = max(entry.at for entry in starts) - paused_at
    for worker in workers:
        worker.terminate()
    await until(lambda: not fleet.alive, "the workers have stopped", show=fleet.logs)

    await fleet.started(1, "--number", "1")  # one job at a time shows the order
    [pause] = await engine.pauses()
    assert pause.task == "once"
    assert await engine.resume("once")
    await store.drained(fleet, timeout=size(60, 300))
    order = [entry.key for entry in ledger.of("start", "once")][len(starts) :]
    report(
        jobs=len(keys),
        started_before=len(starts),
        started_after=len(after),
        latest_after_the_pause=f"{latest * 1000:.1f} ms",
        lost=len({*keys, *others} - ledger.counted("end").keys()),
    )
    assert len(after) <= SLOTS * len(workers), "those that were on their way to the workers"
    assert latest <= HEARD_WITHIN or not CHAOS
    assert len(starts) < len(keys)
    assert order == [key for key in keys if key not in {entry.key for entry in starts}]
    assert ledger.counted("start") == dict.fromkeys([*keys, *others], 1)


async def test_a_provider_gets_few_calls_after_its_first_refusal(
    server: Server, namespace: str, size: Size, report: Report
) -> None:
    """Fifty slots, in several engines, run into a limit of the provider."""
    engines = [Engine(RedisBroker(server.unix_url), namespace) for _ in range(size(5, 25))]
    number = 50 // len(engines)
    refusals: list[float] = []
    answers: list[str] = []
    pause = 0.5

    async def ask(what: str) -> None:
        now = time.monotonic()
        if len(answers) > 100 and (not refusals or now < refusals[0] + pause):
            refusals.append(now)
            raise RetryException("429", at=timedelta(seconds=pause), pause=True)
        answers.append(what)

    for engine in engines:
        engine.task(name="ask", max_retries=5)(ask)
    try:
        jobs = [f"job-{place}" for place in range(400)]
        for job in jobs:
            await engines[0].schedule("ask", job)
        for engine in engines:
            await engine.start_workers(number, block=False)
        await until(lambda: len(answers) == len(jobs), "all jobs have an answer", timeout=30)
    finally:
        for engine in engines:
            await engine.stop_workers()
    report(slots=50, refusals=len(refusals))
    assert sorted(answers) == sorted(jobs)
    assert 1 <= len(refusals) <= 1 + 50


@pytest.mark.parametrize("task", ["", "job"])
async def test_a_purge_takes_short_calls(
    server: Server, namespace: str, store: Store, size: Size, report: Report, task: str
) -> None:
    count = size(20_000, 1_000_000)
    broker = RedisBroker(server.unix_url)
    await broker.open(namespace)
    assert await broker.enqueue("mail", [Envelope("other", "job", b"[[],{}]")]) == [True]
    with server.client() as client:
        filled = Filled(broker, client)
        await filled.add(count // 2)
        await filled.add(count - count // 2, due_in=HOUR)
        steps = Steps(client)
        cursor: Cursor | None = ()
        cancelled = 0
        while cursor is not None:
            order = CancelSome(task, cursor=cursor)
            result = await steps.take("purge", lambda: broker.steer("default", order))  # noqa: B023
            cancelled, cursor = cancelled + result.count, result.cursor
    report(
        cancelled=cancelled,
        calls=steps.taken["purge"],
        over_10_ms=steps.slow["purge"],
        in_a_row_at_most=steps.most_in_a_row,
    )
    assert cancelled == count
    assert store.live == 0
    assert steps.taken["purge"] <= count // 400 + 10
    assert [lease.job.id for lease in (await broker.exchange("mail", [], 10)).leases] == ["other"]
    await broker.aclose()
    if CHAOS:  # the suite asserts no durations
        assert steps.most_in_a_row < IN_A_ROW


@pytest.mark.parametrize("others", [0, 1001])
async def test_each_moved_job_starts_once_and_not_before_its_moment(
    server: Server, namespace: str, size: Size, report: Report, others: int
) -> None:
    """Jobs are moved while workers lease them; ``others`` run, so that their leases are searched in pages."""
    count = size(300, 10_000)
    workers = [RedisBroker(server.unix_url) for _ in range(3)]
    for broker in workers:
        await broker.open(namespace)
    mover = RedisBroker(server.unix_url)
    await mover.open(namespace)
    await mover.enqueue("mail", [Envelope(f"runs-{number}", "runs", b"") for number in range(others)])
    for _ in range(2):
        await mover.exchange("mail", [], max(1, others))
    names = [f"job-{number}" for number in range(count)]
    for first in range(0, count, 1000):
        some = names[first : first + 1000]
        await mover.enqueue("mail", [Envelope(name, "send", b"", max_retries=1) for name in some])
    started: dict[str, int] = {}
    moved: dict[str, int] = {}

    async def work(broker: RedisBroker) -> None:
        while len(started) < count:
            await broker.tick("mail")
            leases = (await broker.exchange("mail", [], 1)).leases
            now = broker.now()
            for lease in leases:
                assert lease.job.id not in started, "it starts once"
                started[lease.job.id] = now
            await broker.exchange("mail", [Settlement(lease, Action.DONE) for lease in leases], 0)

    async def move(some: list[str], delay: int) -> None:
        for name in some:
            at = mover.now() + delay
            status = await asking.reschedule(mover, "mail", name, at)
            if status.name in ("QUEUED", "WAITING"):
                moved[name] = at

    async with asyncio.timeout(size(60, 280)):
        moves = [move(names[first::8], delay) for first, delay in enumerate((20, 0, 40, 1, 80, 5, 160, 320))]
        await asyncio.gather(*map(work, workers), *moves)
    for broker in (*workers, mover):
        await broker.aclose()
    early = [
        name for name, at in moved.items() if started[name] < at - 2
    ]  # clocks differ by the way of an answer
    report(jobs=count, moved=len(moved), early=len(early))
    assert moved
    assert early == []
    assert set(started) == set(names)
