"""Listings, facts and reports in Redis: damaged entries, long lines, many leases, and counted work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis

from aiospinach import Batch, Engine, InvalidValue, JobStatus, RedisBroker, Verdict
from aiospinach.brokers.places import LookJobFacts, LookPlace, LookRows, Place
from aiospinach.brokers.questions import LookWorkers
from aiospinach.brokers.records import Envelope
from aiospinach.brokers.reports import HOUR, MINUTE, QueueReport, TaskRow, WorkerReport, WorkerRow
from aiospinach.engine.cursor import Cursor
from aiospinach.engine.listing import Filters

from ..brokers_under_test import shared_server
from ..servers import Server
from .conftest import Counts, key, keys_of

QUEUE = "default"


@pytest.fixture
async def broker(namespace: str) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    yield broker
    await broker.flush(QUEUE)
    await broker.aclose()


@pytest.fixture
async def engine(broker: RedisBroker, namespace: str) -> Engine:
    engine = Engine(broker, namespace)

    @engine.task(name="job")
    async def job() -> None: ...

    return engine


def envelopes(count: int, body: bytes = b"[[],{}]") -> list[Envelope]:
    return [Envelope(f"job-{number:05}", "job", body) for number in range(count)]


async def all_of(broker: RedisBroker, place: Place, position: str | None = "", limit: int = 100) -> list[str]:
    found: list[str] = []
    while position is not None:
        page = await broker.look(QUEUE, LookPlace(place, position, limit, limit))
        found += [seen.job.id for seen in page.jobs]
        position = page.position
    return found


async def test_jobs_that_cannot_be_read_are_listed_without_a_task(
    broker: RedisBroker, engine: Engine, namespace: str, plain: redis.Redis
) -> None:
    await broker.enqueue(QUEUE, envelopes(5))
    plain.hset(key(namespace, "jobs"), "job-00001", b"garbage")
    plain.hset(key(namespace, "jobs"), "job-00003", b"3 job of another release")
    plain.hset(key(namespace, "jobs"), b"\xff \xfe", b"garbage")
    plain.rpush(key(namespace, "ready"), b"\xff \xfe", b"missing")
    page = await engine.page(limit=2)
    tasks: dict[str, str] = {}
    while page.jobs or page.cursor:
        tasks |= {job.id: job.task_name for job in page.jobs}
        assert all(job.status is JobStatus.QUEUED for job in page.jobs)
        if page.cursor is None:
            break
        page = await engine.page(limit=2, after=page.cursor)
    readable = ("job-00000", "job-00002", "job-00004")
    assert tasks == {"job-00001": "", "job-00003": "", "\\xff \\xfe": "", **dict.fromkeys(readable, "job")}
    why = await engine.explain("job-00001")
    assert why.verdict is Verdict.UNREADABLE
    assert why.job is not None
    assert why.job.task_name == ""
    why = await engine.explain("job-00003")
    assert (why.verdict, "another release" in str(why)) == (Verdict.PARKED, True)
    assert [job.id for job in (await engine.page(task="job")).jobs] == list(readable)
    plain.delete(key(namespace, "control"))
    await broker.exchange(QUEUE, [], 10)  # the unreadable ones die or are parked
    dead = [job.id async for job in engine.jobs(status=JobStatus.FAILED)]
    assert sorted(dead) == ["\\xff \\xfe", "job-00001", "missing"]
    assert (await engine.explain("job-00001")).verdict is Verdict.DEAD
    assert await all_of(broker, Place.PARKED) == ["job-00003"]


async def test_a_listing_goes_on_in_a_line_that_has_moved_far(broker: RedisBroker) -> None:
    await broker.enqueue(QUEUE, envelopes(4000))
    page = await broker.look(QUEUE, LookPlace(Place.READY, "", 1000, 1000))
    for _ in range(3):
        assert page.position is not None
        page = await broker.look(QUEUE, LookPlace(Place.READY, page.position, 900, 900))
    assert page.jobs[-1].job.id == "job-03699"
    rest = [f"job-{number:05}" for number in range(3700, 4000)]
    for _ in range(3):  # the window around the old index does not reach the job any more
        await broker.exchange(QUEUE, [], 900)
        assert await all_of(broker, Place.READY, page.position) == rest
    await broker.exchange(QUEUE, [], 1100)  # the last job of the page has left, and others
    assert await all_of(broker, Place.READY, page.position) == rest[100:]


async def test_a_page_of_large_jobs_ends_early(broker: RedisBroker) -> None:
    await broker.enqueue(QUEUE, envelopes(10, b"x" * 100_000))
    page = await broker.look(QUEUE, LookPlace(Place.READY))
    assert len(page.jobs) == page.looks == 3
    assert page.position is not None
    assert await all_of(broker, Place.READY) == [f"job-{number:05}" for number in range(10)]


async def test_many_leases_are_searched_and_listed_in_pages(
    broker: RedisBroker, engine: Engine, namespace: str, plain: redis.Redis
) -> None:
    await broker.enqueue(QUEUE, envelopes(5401))
    for want in (1, 1, 900, 900, 900, 900, 900, 898):
        await broker.exchange(QUEUE, [], want)
        await asyncio.sleep(0.002)
    assert await all_of(broker, Place.LEASES, limit=700) == [f"job-{number:05}" for number in range(5400)]
    for job_id, status in (("job-01234", JobStatus.RUNNING), ("job-05400", JobStatus.QUEUED)):
        job = await engine.job(job_id)
        assert job is not None
        assert job.status is status
    assert (await engine.explain("job-02500")).verdict is Verdict.RUNNING
    plain.zadd(key(namespace, "leases"), {"job-05400:elsewhere.t7": time.time() * 1000 + 60_000})
    assert (await engine.explain("job-05400")).verdict is Verdict.LOST, "a lost job is being judged"


async def test_the_work_of_a_page_does_not_grow_with_the_queue(own_server: Server, namespace: str) -> None:
    work: list[list[int]] = []
    for count in (300, 30_000):
        async with Engine(RedisBroker(own_server.unix_url), f"{namespace}-{count}") as engine:

            @engine.task(name="job")
            async def job() -> None: ...

            for _ in range(count // 300):
                batch = Batch()
                for _ in range(300):
                    batch.schedule(job)
                jobs = await engine.schedule_batch(batch)
            with own_server.client() as client:
                counts, seen = Counts(client), []
                page = await engine.page()
                seen.append(sum(counts.by_name().values()))
                counts.start()
                page = await engine.page(after=page.cursor)
                seen.append(sum(counts.by_name().values()))
                counts.start()
                await engine.counts()
                seen.append(sum(counts.by_name().values()))
                counts.start()
                assert (await engine.job(jobs[-1])) is not None
                seen.append(sum(counts.by_name().values()))
                work.append(seen)
                counts.start()
                why = await engine.explain(jobs[-1])
                assert sum(counts.by_name().values()) < 60
                assert why.ahead == (None if count > 10_000 else count - 1)
    assert all(late <= early + 5 for early, late in zip(*work, strict=True)), work
    assert max(work[0]) < 130


async def test_positions_of_no_page_are_refused(broker: RedisBroker) -> None:
    await broker.enqueue(QUEUE, envelopes(1))
    for place, position in (
        (Place.READY, "x"),
        (Place.READY, "1"),
        (Place.FUTURE, "x y"),
        (Place.FUTURE, "1"),
        (Place.DEAD, "a b"),
    ):
        with pytest.raises(ValueError, match="position"):
            await broker.look(QUEUE, LookPlace(place, position))


async def test_damaged_reports_are_listed_and_damaged_rows_are_not(
    broker: RedisBroker, engine: Engine, namespace: str, plain: redis.Redis
) -> None:
    await broker.sweep([QUEUE], WorkerReport("web-1"))
    now = int(time.time() * 1000)
    for session, report in (
        ("missing", None),
        ("garbage", b"\xff\n"),
        ("number", b"7"),
        ("later", b'{"name":"web-9","level":7,"new":[{}],"started":-5}'),
        ("wrong", b'{"name":7}'),
    ):
        plain.zadd(key(namespace, "workers"), {session: now})
        if report is not None:
            plain.hset(key(namespace, "reports"), session, report)
    seen = {worker.name: worker.level for worker in await broker.look(QUEUE, LookWorkers())}
    unread = ("missing", "garbage", "number", "wrong")
    assert seen == {"web-1": 1, "web-9": 7, **dict.fromkeys(unread, 0)}
    workers = {worker.name: worker for worker in await engine.workers()}
    assert workers["web-9"].started_at is None
    assert (await engine.counts())[QUEUE].workers == 6
    job = (await broker.enqueue(QUEUE, envelopes(1)), "job-00000")[1]
    assert (await broker.look(QUEUE, LookJobFacts(job))).is_known, "a worker that cannot be read may know it"
    minutes = key(namespace, f"minutes:{now // HOUR}")
    plain.hset(minutes, mapping={"x:web-1": b"{}", f"{now // MINUTE}:web-1": b"[]", "7": b"{}", b"\xff": b""})
    plain.hset(minutes, f"{now // MINUTE}:web-2", b'{"job":[3,2,1,0.5]}')
    [row] = await engine.throughput()
    assert (row.done, row.failed, row.retried, row.seconds) == (3, 2, 1, 0.5)


async def test_rows_replace_earlier_ones_and_expire(
    broker: RedisBroker, namespace: str, plain: redis.Redis
) -> None:
    now = broker.now()
    this, before = now // MINUTE, now // MINUTE - 60

    async def report(*rows: tuple[int, int], name: str = "web-1") -> None:
        stored = [WorkerRow(minute, {"job": TaskRow(done)}) for minute, done in rows]
        await broker.sweep([QUEUE], WorkerReport(name), {QUEUE: QueueReport(rows=stored)})

    await report((before, 5), (this, 1))
    for done in (2, 3, 3):
        await report((this, done))
    await report((this, 10), name="web-2")
    rows = await broker.look(QUEUE, LookRows(before))
    assert sorted((row.minute, row.by_task["job"].done) for row in rows) == [
        (before, 5),
        (this, 3),
        (this, 10),
    ]
    assert [row.minute for row in await broker.look(QUEUE, LookRows(this))] == [this, this]
    for hour in (this // 60, before // 60):
        left = plain.pttl(key(namespace, f"minutes:{hour}"))
        assert 72 * HOUR < left <= 73 * HOUR
    await broker.flush(QUEUE)
    assert keys_of(plain, namespace) == set()


async def test_a_forged_cursor_is_refused(engine: Engine) -> None:
    await engine.schedule("job")
    listing = repr((engine.namespace, [QUEUE], Filters(None, "", "", "")))
    with pytest.raises(InvalidValue, match="position"):
        await engine.page(after=Cursor(QUEUE, Place.READY, "no position").encode(listing))


@pytest.mark.parametrize("gone", [3, 700, 8000])
async def test_a_listing_deep_in_the_line_goes_on_where_it_ended(
    broker: RedisBroker, namespace: str, plain: redis.Redis, gone: int
) -> None:
    """The line is longer than is searched from its head, and loses its first jobs between two pages."""
    first, count = 101_000, 10
    plain.rpush(key(namespace, "ready"), *(f"gone-{number}" for number in range(first)))
    await broker.enqueue(QUEUE, envelopes(2 * count))
    position = f"{first + count} job-{count - 1:05}"
    plain.ltrim(key(namespace, "ready"), gone, -1)
    assert await all_of(broker, Place.READY, position) == [f"job-{n:05}" for n in range(count, 2 * count)]
