"""A Redis at its maxmemory refuses new jobs, while stored jobs run, are renewed, and drain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aiospinach import Batch, Engine, RedisBroker
from aiospinach.exceptions import BrokerError

from ..conftest import Heard
from ..servers import Server
from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger

BATCH = 20
PADDING = "x" * 50_000


def big_jobs(store: Store) -> int:
    """How many jobs of the batches are stored; periodic jobs come and go meanwhile."""
    return sum(b'"big-' in envelope for envelope in store("HVALS", "jobs"))


async def test_stored_jobs_run_when_the_memory_is_full(
    engine: Engine,
    schedule_all: ScheduleAll,
    server: Server,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    running = await schedule_all("again", size(10, 100), 3.0, name="running")
    options = ("--lease", "2", "--number", str(len(running)), "--period", "1")
    [worker] = await fleet.started(1, *options)
    await until(lambda: len(ledger.of("start", "running")) == len(running), "they run", show=fleet.logs)
    with server.client() as client:
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", used + size(10, 100) * 1024 * 1024)

    def stored_ids() -> tuple[list[str], list[str]]:
        """The jobs and the line, without those of a tick, which may come meanwhile."""
        ids = map(str, store("HKEYS", "jobs")), map(str, store("LRANGE", "ready", 0, -1))
        jobs, ready = ([each for each in some if "ticks@" not in each] for some in ids)
        return sorted(jobs), ready

    stored: list[str] = []
    refused = 0
    while refused < 3:
        batch = Batch()
        keys = [f"big-{len(stored) + number}" for number in range(BATCH)]
        for key in keys:
            batch.schedule("again", key, 0.0, PADDING)
        before = stored_ids()
        try:
            await engine.schedule_batch(batch)
        except BrokerError:
            refused += 1
            assert stored_ids() == before
        else:
            stored += keys
    with server.client() as client:
        # No memory is left for leasing, renewing and settling either.
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - 1_000_000)
    with pytest.raises(BrokerError):
        await engine.schedule("again", "refused", 0.0)
    assert not ledger.of("end", "running")
    await store.drained(fleet)
    await until(lambda: len(ledger.of("finished", "running")) == len(running), "they ended")
    with server.client() as client:
        client.config_set("maxmemory", 0)
    await engine.schedule("again", "after", 0.0)
    ticks = len(ledger.of("start", "ticks@"))
    await until(lambda: len(ledger.of("start", "ticks@")) > ticks, "a tick", show=fleet.logs)
    await until(lambda: len(ledger.of("end", "after")) == 1, "it runs", show=fleet.logs)

    starts, ends = ledger.counted("start"), ledger.counted("end")
    expected = dict.fromkeys([*running, *stored, "after"], 1)
    report(
        running=len(running),
        stored=len(stored),
        refused=refused * BATCH + 1,
        ended=len(ends),
        repeated=sum(starts[key] - 1 for key in expected),
        dead=len(store.dead()),
    )
    assert len(stored) >= 5 * BATCH
    assert ends == expected
    assert {key: starts[key] for key in expected} == expected
    assert {entry.note for entry in ledger.of("finished")} == {"NoneType"}
    assert store.dead() == {}
    assert worker.is_alive


async def test_a_queue_drains_when_the_memory_is_full_and_an_earlier_queue_has_ticks(
    server: Server, namespace: str, heard: Heard, size: Size, report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    """The later queue drains, although its own jobs fill the memory."""
    count = size(20, 200)
    async with Engine(RedisBroker(server.url, lease=6), namespace) as engine:

        @engine.task(queue="first", periodicity=timedelta(milliseconds=100))
        async def ticks() -> None:
            pass

        @engine.task(queue="second")
        async def job(padding: str) -> None:
            pass

        at = datetime.now(UTC) + timedelta(seconds=1)
        for _ in range(count // 20):
            batch = Batch()
            for _ in range(20):
                batch.schedule_at(job, at, PADDING)
            await engine.schedule_batch(batch)
        with server.client() as client:
            client.config_set("maxmemory", "1mb")
            assert client.info("memory")["used_memory"] > 1024 * 1024
        await engine.start_workers(5, ["first", "second"], block=False)

        def done() -> int:
            return sum(kwargs["job"].queue == "second" for name, kwargs in heard if name == "job_finished")

        await until(lambda: done() == count, "the second queue drains", show=done)
        refused = caplog.text.count("the store is full")
        with server.client() as client:
            client.config_set("maxmemory", "0")
        before = heard.count("job_scheduled")
        await until(lambda: heard.count("job_scheduled") > before, "the first queue ticks again")
        await engine.stop_workers()
    report(jobs=count, done=done(), ticks_skipped=refused)
    assert refused
    assert f"task {ticks.name}: the store is full" in caplog.text
