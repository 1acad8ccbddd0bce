"""Single jobs, iterations over jobs and pages of them, on every broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import Batch, Engine, InvalidValue, Job, JobStatus, Page, Task, UnknownQueue
from aiospinach.brokers.places import LookPlace, Place
from aiospinach.engine import listing

from .brokers_under_test import BROKERS, MakeBroker

LATER = datetime.now(UTC) + timedelta(hours=5)


class Shop:
    """An engine with two queues, and jobs in all states."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.release = asyncio.Event()
        self.order: list[str] = []
        """The ids of all jobs of both queues, in the order of a listing."""

        @engine.task(queue="mail", name="hold", max_concurrency=1)
        async def hold(number: int = 0) -> None:
            await self.release.wait()

        @engine.task(queue="mail", name="fail")
        async def fail(number: int = 0) -> None:
            raise KeyError("a secret")

        @engine.task(queue="mail", name="retry", max_retries=2, backoff=lambda attempt: 600.0)
        async def retry(number: int = 0) -> None:
            raise ValueError("a secret")

        @engine.task(queue="web", name="idle")
        async def idle(number: int = 0) -> None: ...

        self.hold, self.fail, self.retry, self.idle = hold, fail, retry, idle

    async def open(self) -> None:
        """Bring jobs to all states."""
        engine = self.engine
        dead = [await self.store(self.fail, f"dead-{number}") for number in range(3)]
        retried = await self.store(self.retry, "retried")
        await engine.start_workers(1, "mail", block=False)
        await self.until("retried", JobStatus.WAITING)
        running = await self.store(self.hold, "running")
        await self.until("running", JobStatus.RUNNING)
        held = [await self.store(self.hold, f"held-{number}") for number in range(3)]
        at = LATER
        waiting = [
            (await self.hold.options(id=f"waiting-{number}").schedule_at(at, number)).id
            for number in range(3)
        ]
        web = [await self.store(self.idle, f"web-{number}") for number in range(3)]
        self.order = [*held, retried, *waiting, running, *reversed(dead), *web]

    async def store(self, task: Task[..., Any], job_id: str) -> str:
        return (await task.options(id=job_id, key=job_id.partition("-")[0]).schedule(7)).id

    async def until(self, job_id: str, status: JobStatus) -> None:
        async with asyncio.timeout(10):
            while (job := await self.engine.job(job_id)) is None or job.status is not status:
                await asyncio.sleep(0.005)


@pytest.fixture(params=BROKERS)
async def shop(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Shop]:
    make: MakeBroker = request.param
    async with Engine(make(), namespace) as engine:
        shop = Shop(engine)
        await shop.open()
        yield shop
        shop.release.set()


def ids(jobs: list[Job] | Page) -> list[str]:
    return [job.id for job in (jobs.jobs if isinstance(jobs, Page) else jobs)]


async def all_pages(engine: Engine, limit: int, **which: Any) -> list[str]:
    found: list[str] = []
    page = await engine.page(limit=limit, **which)
    while True:
        assert len(page.jobs) <= limit
        assert page.is_truncated is False
        found += ids(page)
        if page.cursor is None:
            return found
        page = await engine.page(limit=limit, after=page.cursor, **which)


async def test_a_job_is_looked_up_in_each_state(shop: Shop) -> None:
    states = {
        "held-1": JobStatus.QUEUED,
        "waiting-1": JobStatus.WAITING,
        "retried": JobStatus.WAITING,
        "running": JobStatus.RUNNING,
        "dead-1": JobStatus.FAILED,
        "web-1": JobStatus.QUEUED,
    }
    for job_id, status in states.items():
        job = await shop.engine.job(job_id)
        assert job is not None
        assert (job.id, job.status) == (job_id, status)
        assert (job.args, job.kwargs) == ((1 if job_id == "waiting-1" else 7,), {})
        assert (job.worker is not None) == (job.started_at is not None) == (status is JobStatus.RUNNING)
        assert await shop.engine.job(job) == job
        assert await shop.engine.job(job, queue="mail") == job, "a job knows its queue"
    assert await shop.engine.job("nothing") is None
    assert await shop.engine.job("web-1", queue="mail") is None


async def test_a_job_that_failed_has_the_class_of_its_last_error(shop: Shop) -> None:
    errors = {"retried": "builtins.ValueError", "dead-1": "builtins.KeyError", "held-1": None}
    for job_id, error in errors.items():
        job = await shop.engine.job(job_id)
        assert job is not None
        assert job.error == error
        assert "secret" not in repr(job)


async def test_all_jobs_are_iterated_over(shop: Shop) -> None:
    found = [job async for job in shop.engine.jobs()]
    assert ids(found) == shop.order
    looked_up = [await shop.engine.job(job) for job in found]
    assert [job.status for job in looked_up if job] == [job.status for job in found]
    assert [job.args for job in looked_up if job] == [job.args for job in found]


async def test_jobs_of_a_queue_a_status_or_a_task_are_iterated_over(shop: Shop) -> None:
    engine = shop.engine

    async def listed(**which: Any) -> list[str]:
        return ids([job async for job in engine.jobs(**which)])

    assert await listed(queue="web") == ["web-0", "web-1", "web-2"]
    assert await listed(status=JobStatus.QUEUED) == [*(f"held-{n}" for n in range(3)), *shop.order[-3:]]
    assert await listed(status=JobStatus.WAITING, queue="mail") == [
        "retried",
        *(f"waiting-{n}" for n in range(3)),
    ]
    assert await listed(status=JobStatus.RUNNING) == ["running"]
    assert await listed(status=JobStatus.FAILED) == ["dead-2", "dead-1", "dead-0"]
    expected = [job_id for job_id in shop.order if job_id.partition("-")[0] in ("held", "waiting", "running")]
    assert await listed(task=shop.hold) == await listed(task="hold") == expected
    assert await listed(task="nobodys") == []


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
async def test_pages_have_all_jobs(shop: Shop, limit: int) -> None:
    assert await all_pages(shop.engine, limit) == shop.order
    assert await all_pages(shop.engine, limit, queue="web") == shop.order[-3:]
    assert await all_pages(shop.engine, limit, status=JobStatus.FAILED) == ["dead-2", "dead-1", "dead-0"]
    held = [f"held-{number}" for number in range(3)]
    assert await all_pages(shop.engine, limit, task=shop.hold, status=JobStatus.QUEUED) == held


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_pages_are_filtered_by_key_and_by_error(shop: Shop, limit: int) -> None:
    engine = shop.engine
    assert await all_pages(engine, limit, key="held") == ["held-0", "held-1", "held-2"]
    assert await all_pages(engine, limit, key="dead", error=KeyError) == ["dead-2", "dead-1", "dead-0"]
    for error in (ValueError, "ValueError", "builtins.ValueError"):
        assert await all_pages(engine, limit, error=error) == ["retried"]
    assert await all_pages(engine, limit, error="Error") == []
    assert await all_pages(engine, limit, key="nobody") == []


async def test_a_page_looks_at_a_limited_number_of_jobs_and_says_so(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LOOKS_AT_MOST", 250)
    monkeypatch.setattr(listing, "LOOKS_AT_ONCE", 100)
    batch = Batch()
    for number in range(600):
        batch.schedule(shop.idle.options(id=f"many-{number}", key="many" if number % 400 else "few"), number)
    await shop.engine.schedule_batch(batch)
    page = await shop.engine.page(queue="web", key="few", limit=5)
    assert (ids(page), page.is_truncated) == (["many-0"], True)
    page = await shop.engine.page(queue="web", key="few", limit=5, after=page.cursor)
    assert (ids(page), page.is_truncated) == (["many-400"], True)
    page = await shop.engine.page(queue="web", key="few", limit=5, after=page.cursor)
    assert (ids(page), page.is_truncated, page.cursor) == ([], False, None)


async def test_an_iteration_shows_no_job_twice_while_jobs_move(shop: Shop) -> None:
    batch = Batch()
    for number in range(1000):
        batch.schedule(shop.idle, number)
    stored = {job.id for job in await shop.engine.schedule_batch(batch)} | set(shop.order)
    found: list[str] = []
    async for job in shop.engine.jobs():
        found.append(job.id)
        if len(found) % 90 == 0:
            await shop.engine.cancel(job)
            taken = await shop.engine._broker.exchange("web", [], 40)
            for lease in taken.leases:
                stored.add(lease.job.id)
    assert len(found) == len(set(found))
    assert set(found) <= stored
    assert {*shop.order} - {"web-0", "web-1", "web-2"} <= set(found)
    assert len(found) > 600


async def test_a_page_shows_no_job_twice_that_moves_while_it_is_read(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = shop.engine._broker
    look = broker.look

    async def look_and_start(queue: str, question: Any) -> Any:
        answer = await look(queue, question)
        if isinstance(question, LookPlace) and question.place is Place.READY:
            assert len((await broker.exchange(queue, [], 2)).leases) == 2
        return answer

    monkeypatch.setattr(broker, "look", look_and_start)
    page = await shop.engine.page(queue="web")
    assert ids(page) == ["web-0", "web-1", "web-2"]
    assert page.cursor is None


async def test_a_cursor_is_text_of_its_listing_alone(shop: Shop) -> None:
    engine = shop.engine
    page = await engine.page(limit=3)
    assert page.cursor is not None
    assert page.cursor.isascii()
    assert page.cursor.replace("-", "").replace("_", "").isalnum()
    middle = len(page.cursor) // 2
    changed = page.cursor[:middle] + ("A" if page.cursor[middle] != "A" else "B") + page.cursor[middle + 1 :]
    for wrong in (changed, page.cursor[:-2], "", "x", "\u2603", "a" * 1000, 7):
        with pytest.raises(InvalidValue, match="cursor of a page"):
            await engine.page(limit=3, after=wrong)  # type: ignore[arg-type]
    for other in (
        {"queue": "mail"},
        {"status": JobStatus.QUEUED},
        {"key": "a"},
        {"error": "a"},
        {"task": "a"},
    ):
        with pytest.raises(InvalidValue, match="same queue, status and filters"):
            await engine.page(limit=3, after=page.cursor, **other)
    assert ids(await engine.page(limit=2, after=page.cursor)) == shop.order[3:5], "limit may differ"


async def test_wrong_arguments_are_refused(shop: Shop) -> None:
    engine = shop.engine
    wrong: list[dict[str, Any]] = [
        {"limit": 0},
        {"limit": 1001},
        {"limit": True},
        {"status": JobStatus.SUCCEEDED},
        {"status": "queued"},
        {"task": 7},
        {"task": "a b"},
        {"key": ""},
        {"key": 7},
        {"error": 7},
        {"error": int},
    ]
    for arguments in wrong:
        with pytest.raises(InvalidValue):
            await engine.page(**arguments)
    with pytest.raises(UnknownQueue):
        await engine.page(queue="nobodys")
    with pytest.raises(UnknownQueue):
        engine.jobs(queue="nobodys")
    with pytest.raises(InvalidValue):
        engine.jobs(status="queued")  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        await engine.job(7)  # type: ignore[arg-type]
