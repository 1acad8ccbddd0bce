"""The events of each job equal what its bodies did: none is missing, and none comes twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from aiospinach import Batch, Engine, Event, EventsLost, RedisBroker

from ..redis.conftest import SCRIPTS, every
from ..redis.proxy import Proxy
from ..servers import Server
from ..waiting import until
from .conftest import Report, Size
from .fleet import Fleet, Store, Worker
from .ledger import Ledger
from .worker import faulty_tasks

ROWS = 100_000


async def read_all(engine: Engine, *, cut_after: int) -> list[Event]:
    """Every event that is kept. The reading is cut after so many events, again and again."""
    seen: list[Event] = []
    cursor = "oldest"
    while True:
        stream = engine.events(after=cursor)
        try:
            for _ in range(cut_after):
                async with asyncio.timeout(2):
                    seen.append(await anext(stream))
        except TimeoutError:
            return seen
        except EventsLost:
            raise AssertionError("the stream keeps all events of this test") from None
        cursor = seen[-1].cursor


def counted(events: list[Event], name: str) -> Counter[str]:
    return Counter(event.job_id for event in events if event.name == name)


async def test_the_events_equal_the_ledger_when_workers_are_killed(
    server: Server, namespace: str, fleet: Fleet, store: Store, ledger: Ledger, size: Size, report: Report
) -> None:
    count = size(300, 1500)
    options = ("--lease", "1", "--number", "5", "--events", str(ROWS))
    async with Engine(RedisBroker(server.url, events=ROWS), namespace) as engine:
        engine.attach_tasks(faulty_tasks(ledger))
        await fleet.started(3, *options)
        key_of: dict[str, str] = {}
        for task, share in (("once", 2), ("again", 3)):
            batch = Batch()
            for number in range(count * share // 5):
                batch.schedule(task, f"{task}-{number}", 0.1)
            for job in await engine.schedule_batch(batch):
                key_of[job.id] = str(job.args[0])

        def serving() -> list[Worker]:
            up = {entry.pid for entry in ledger.of("up")}
            return [worker for worker in fleet.alive if worker.pid in up]

        kills = 0
        while len(ledger.of("end")) < count * 0.6:
            await asyncio.sleep(0.5)
            await until(serving, "one serves", timeout=20, show=fleet.logs)
            random.choice(serving()).kill()
            kills += 1
            fleet.start(*options)
        await store.drained(fleet, timeout=60)
        events = await read_all(engine, cut_after=17)

    starts, ends, dead = ledger.counted("start"), ledger.counted("end"), store.dead()
    finished, failed = counted(events, "job_finished"), counted(events, "job_failed")
    report(jobs=len(key_of), kills=kills, events=len(events), dead=len(dead))
    assert kills >= 2
    assert len({event.cursor for event in events}) == len(events)
    assert counted(events, "job_scheduled") == dict.fromkeys(key_of, 1)
    for job_id, key in key_of.items():
        # A body that was killed has begun; a job that was leased may not have.
        taken = counted(events, "job_started")[job_id]
        assert starts[key] <= taken, key
        # The worker may be killed between the end of a body and its settlement: then it runs once more.
        assert finished[job_id] == (0 if key in dead else 1), key
        assert failed[job_id] == (1 if key in dead else 0), key
        assert finished[job_id] <= ends[key], key
    retried = counted(events, "job_schedule_retry")
    assert all(retried[job_id] >= starts[key] - 1 for job_id, key in key_of.items())


async def test_the_events_are_right_when_replies_are_dropped(
    server: Server, namespace: str, store: Store, size: Size, report: Report
) -> None:
    count = size(300, 3000)
    ran: Counter[int] = Counter()
    kinds = ["enqueue", "exchange", "tick"]
    async with (
        Proxy(server.port) as proxy,
        Engine(RedisBroker(proxy.url, lease=4, enqueue_timeout=30, events=ROWS), namespace) as engine,
    ):
        proxy.lose_answers(every(4, *kinds), SCRIPTS)

        @engine.task(max_retries=1, backoff=lambda attempt: 0.0)
        async def job(number: int) -> None:
            ran[number] += 1
            if ran[number] == 1 and number % 10 == 0:
                raise ValueError

        await engine.start_workers(20, block=False)
        jobs = []
        for first in range(0, count, 10):
            jobs += await asyncio.gather(*(job.schedule(number) for number in range(first, first + 10)))
        await until(lambda: ran.total() == count + count // 10, "all ran", timeout=120)
        await engine.stop_workers()
        lost = {kind: proxy.lost[kind.encode()] for kind in kinds}
        proxy.lose_answers(None)
        events = await read_all(engine, cut_after=100)

    report(jobs=count, events=len(events), lost=lost)
    assert min(lost["enqueue"], lost["exchange"]) >= 3
    assert counted(events, "job_scheduled") == {each.id: 1 for each in jobs}
    for number, each in enumerate(jobs):
        names = [event.name for event in events if event.job_id == each.id]
        retry = ["job_schedule_retry", "job_finished", "job_started"] if number % 10 == 0 else []
        assert names == ["job_scheduled", "job_started", *retry, "job_finished"], number
