"""The latest events, page by page: each is there once, whatever their rows and queues are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiospinach import Batch, Engine, Event, InvalidValue, LatestEvents, MemoryBroker, UnknownQueue
from aiospinach.engine import latest_events
from aiospinach.engine.latest_events import ROWS_AT_ONCE

from .brokers_under_test import BROKERS, MakeBroker

ROWS = 100


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    """An engine with two queues on a broker that keeps 100 rows of events."""
    make: MakeBroker = request.param
    async with Engine(make(events=ROWS), namespace) as engine:

        @engine.task(name="add", queue="sums")
        async def add(a: int) -> None: ...

        @engine.task(name="idle", queue="other")
        async def idle() -> None: ...

        yield engine
        for queue in ("sums", "other"):
            await engine._broker.flush(queue)


async def fill(engine: Engine) -> list[Event]:
    """Run jobs of both queues, in rows of one and of many events. Returns the events of each queue, which a
    stream has read."""
    batch = Batch()
    for number in range(30):
        batch.schedule("add", number)
    await engine.schedule_batch(batch)
    await engine.schedule("idle")
    for number in range(3):
        await engine.schedule("add", number)
    await engine.start_workers(stop_when_queue_empty=True)
    async with engine.events(after="oldest") as stream:
        return [await anext(stream) for _ in range(34 * 3)]


def name_of(event: Event) -> tuple[str, str]:
    return event.job_id, event.name


async def pages_of(engine: Engine, limit: int, **filters: Any) -> list[LatestEvents]:
    """All pages, the latest first."""
    pages = [await engine.latest_events(limit=limit, **filters)]
    while (cursor := pages[-1].cursor) is not None:
        pages.append(await engine.latest_events(limit=limit, before=cursor, **filters))
    return pages


async def test_the_latest_events_come_first(engine: Engine) -> None:
    assert await engine.latest_events() == LatestEvents(
        events=[], cursor=None, is_truncated=False, dropped_before=None
    )
    events = await fill(engine)
    for queue in ("sums", "other"):
        of_queue = [name_of(event) for event in reversed(events) if event.queue == queue]
        page = await engine.latest_events(queue=queue)
        assert [name_of(event) for event in page.events] == of_queue[:100]
    page = await engine.latest_events(limit=1000)
    assert sorted(map(name_of, page.events)) == sorted(map(name_of, events))
    moments = [event.at for event in page.events]
    assert moments == sorted(moments, reverse=True)
    assert (page.cursor, page.is_truncated, page.dropped_before) == (None, False, None)
    [finished] = [
        event for event in page.events if name_of(event)[1] == "job_finished" and event.task == "idle"
    ]
    assert (finished.queue, finished.worker is not None) == ("other", True)
    assert finished.data["duration"] >= 0


@pytest.mark.parametrize("limit", [1, 7, 50])
async def test_pages_have_each_event_once(engine: Engine, limit: int) -> None:
    events = await fill(engine)
    pages = await pages_of(engine, limit)
    assert [len(page.events) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    found = [event for page in pages for event in page.events]
    for queue in ("sums", "other"):
        of_queue = [name_of(event) for event in reversed(events) if event.queue == queue]
        assert [name_of(event) for event in found if event.queue == queue] == of_queue


async def test_pages_stay_while_events_come(engine: Engine) -> None:
    await fill(engine)
    first = await engine.latest_events(limit=10)
    before = await engine.latest_events(limit=10, before=first.cursor)
    await engine.schedule("add", 5)
    assert await engine.latest_events(limit=10, before=first.cursor) == before


async def test_a_stream_goes_on_behind_any_of_them(engine: Engine) -> None:
    await fill(engine)
    found = (await engine.latest_events(limit=1000)).events
    for place in (1, 20, 60, 101):
        async with engine.events(after=found[place].cursor) as stream:
            read = [await anext(stream) for _ in range(place)]
        assert sorted(map(name_of, read)) == sorted(map(name_of, found[:place]))


async def test_events_are_chosen_by_task_and_by_job(engine: Engine) -> None:
    await fill(engine)
    page = await engine.latest_events(task="idle")
    assert [event.name for event in page.events] == ["job_finished", "job_started", "job_scheduled"]
    job_id = page.events[0].job_id
    of_job = await engine.latest_events(job=job_id, queue="other")
    assert list(map(name_of, of_job.events)) == list(map(name_of, page.events))
    assert (await engine.latest_events(job=job_id, queue="sums")).events == []
    assert [len(page.events) for page in await pages_of(engine, 2, task="idle")] == [2, 1]


async def test_a_page_looks_at_a_limited_number_of_events(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(engine)
    monkeypatch.setattr(latest_events, "LOOKS_AT_MOST", 40)
    pages = await pages_of(engine, 10, task="idle")
    assert [page.is_truncated for page in pages] == [True, True, False]
    assert sum(len(page.events) for page in pages) == 3


async def test_the_end_shows_that_earlier_events_were_dropped(engine: Engine) -> None:
    for number in range(3 * ROWS):
        await engine.schedule("add", number)
    pages = await pages_of(engine, ROWS_AT_ONCE)
    assert [page.dropped_before is None for page in pages] == [True] * (len(pages) - 1) + [False]
    assert pages[-1].dropped_before == pages[-1].events[-1].at
    for number in range(3 * ROWS):
        await engine.schedule("add", number)
    late = await engine.latest_events(before=pages[0].cursor)
    assert (late.events, late.cursor) == ([], None)
    assert late.dropped_before is not None
    assert late.dropped_before > pages[0].events[-1].at


async def test_a_queue_that_a_cursor_does_not_know_is_new(engine: Engine) -> None:
    await engine.schedule("add", 1)
    await engine.schedule("add", 2)
    page = await engine.latest_events(limit=1, queue="sums")
    await engine.schedule("idle")
    rest = await engine.latest_events(before=page.cursor)
    assert [event.task for event in rest.events] == ["add"]


@pytest.mark.parametrize("before", ["", "new", 7, "YQ"])
async def test_a_wrong_cursor_is_refused(engine: Engine, before: Any) -> None:
    with pytest.raises(InvalidValue, match="before="):
        await engine.latest_events(before=before)


async def test_wrong_arguments_are_refused(engine: Engine) -> None:
    with pytest.raises(UnknownQueue):
        await engine.latest_events(queue="nowhere")
    for limit in (0, 1001, True, "many"):
        with pytest.raises(InvalidValue, match="limit="):
            await engine.latest_events(limit=limit)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="task name"):
        await engine.latest_events(task="two words")


async def test_a_broker_that_keeps_no_events_is_refused(namespace: str) -> None:
    engine = Engine(MemoryBroker(), namespace)
    assert not engine.keeps_events
    with pytest.raises(InvalidValue, match=r"MemoryBroker\(events=10_000\)"):
        await engine.latest_events()
    assert Engine(MemoryBroker(events=1), namespace).keeps_events
