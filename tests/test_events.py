"""Events of an engine's queues: every reader gets each once, in order, and no reader costs memory."""

from __future__ import annotations

import asyncio
import base64
import gc
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiospinach import (
    Batch,
    BrokerUnavailable,
    Engine,
    Event,
    EventsLost,
    EventStream,
    InvalidValue,
    MemoryBroker,
    UnknownQueue,
    testing,
)
from aiospinach.brokers.events import LookEvents
from aiospinach.engine.event_cursor import Place, decode_cursor, encode_cursor
from aiospinach.engine.event_feed import ROWS_KEPT

from .brokers_under_test import BROKERS, MakeBroker
from .waiting import until

ROWS = 100


@pytest.fixture(params=BROKERS)
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    make: MakeBroker = request.param
    return make


@pytest.fixture
async def engine(make_broker: MakeBroker, namespace: str) -> AsyncIterator[Engine]:
    """An engine with two queues on a broker that keeps 100 rows of events."""
    async with Engine(make_broker(events=ROWS), namespace) as engine:

        @engine.task(name="add", queue="sums")
        async def add(a: int) -> None: ...

        @engine.task(name="fail", queue="sums", max_retries=1, backoff=lambda attempt: 0.0)
        async def fail() -> None:
            raise ValueError("a secret")

        @engine.task(name="idle", queue="other")
        async def idle() -> None: ...

        yield engine
        for queue in ("sums", "other"):
            await engine._broker.flush(queue)


async def take(stream: EventStream, count: int) -> list[Event]:
    async with asyncio.timeout(20):
        return [await anext(stream) for _ in range(count)]


async def drain(engine: Engine) -> None:
    await engine.start_workers(10, stop_when_queue_empty=True)


async def put(engine: Engine, number: int, task: str = "add") -> list[str]:
    """Schedule jobs one by one, so that each has a row."""
    return [(await engine.schedule(task, each)).id for each in range(number)]


async def test_another_process_reads_what_becomes_of_a_job(engine: Engine, make_broker: MakeBroker) -> None:
    async with engine.events() as stream:
        job = await engine.schedule("add", 1)
        await drain(engine)
        scheduled, started, finished = await take(stream, 3)
    assert [event.name for event in (scheduled, started, finished)] == [
        *("job_scheduled", "job_started", "job_finished"),
    ]
    for event in (scheduled, started, finished):
        assert (event.job_id, event.task, event.queue) == (job.id, "add", "sums")
    assert scheduled.worker is None
    assert started.worker == finished.worker
    assert started.worker is not None
    assert 0 <= finished.data["duration"] < 10
    assert scheduled.at <= started.at <= finished.at


async def test_a_job_that_fails_tells_its_error_and_no_message(engine: Engine) -> None:
    async with engine.events() as stream:
        await engine.schedule("fail")
        await drain(engine)
        events = await take(stream, 7)
    assert [event.name for event in events] == [
        *("job_scheduled", "job_started", "job_schedule_retry", "job_finished"),
        *("job_started", "job_failed", "job_finished"),
    ]
    assert [event.data.get("error") for event in events[2:4]] == ["builtins.ValueError"] * 2
    assert events[6].data["error"] == "builtins.ValueError"
    assert "secret" not in repr(events)


async def test_streams_are_of_a_queue_a_task_or_a_job(engine: Engine) -> None:
    async with (
        engine.events(queue="other") as of_queue,
        engine.events(task="idle") as of_task,
        engine.events(queue="sums", task="fail") as of_fail,
    ):
        await engine.schedule("add", 1)
        fail = await engine.schedule("fail")
        idle = await engine.schedule("idle")
        for stream in (of_queue, of_task):
            assert [event.job_id for event in await take(stream, 1)] == [idle.id]
        assert [event.job_id for event in await take(of_fail, 1)] == [fail.id]
    for job in (idle, idle.id):
        assert [each.name for each in await take(engine.events(job=job, after="oldest"), 1)] == [
            "job_scheduled"
        ]


async def test_a_reader_that_is_cut_a_hundred_times_sees_each_event_once(engine: Engine) -> None:
    batch = Batch()
    for number in range(40):
        batch.schedule("add", number)
    for _ in range(5):
        await engine.schedule("idle")
    jobs = await engine.schedule_batch(batch)
    await drain(engine)
    seen: list[Event] = []
    cursor = "oldest"
    for _ in range(100):
        stream = engine.events(after=cursor)
        seen += await take(stream, 1)
        cursor = seen[-1].cursor
        assert stream.cursor == cursor
    rest = 45 * 3 - len(seen)
    seen += await take(engine.events(after=cursor), rest)
    assert set(Counter((event.job_id, event.name) for event in seen).values()) == {1}
    for job in jobs:
        names = [event.name for event in seen if event.job_id == job.id]
        assert names == ["job_scheduled", "job_started", "job_finished"]


async def test_a_stream_begins_with_the_first_event_after_it_was_entered(engine: Engine) -> None:
    await put(engine, 3)
    async with engine.events() as stream:
        [job_id] = await put(engine, 1)
        assert [event.job_id for event in await take(stream, 1)] == [job_id]
        cursor = stream.cursor
        later = await put(engine, 2)
    assert [event.job_id for event in await take(engine.events(after=cursor), 2)] == later


async def test_a_cursor_whose_next_events_are_not_kept_is_lost(engine: Engine) -> None:
    async with engine.events(queue="sums") as stream:
        cursor = stream.cursor
    ids = await put(engine, 3 * ROWS)
    stream = engine.events(after=cursor)
    with pytest.raises(EventsLost, match="'sums'") as lost:
        await anext(stream)
    last = await take(engine.events(after=lost.value.oldest), ROWS)
    again = await take(stream, ROWS)
    assert [event.job_id for event in last] == [event.job_id for event in again]
    assert last[0].job_id in ids


async def test_events_that_were_found_come_before_the_loss(engine: Engine) -> None:
    async with engine.events() as stream:
        first = (await engine.schedule("idle")).id
        await _nothing(stream)
        await put(engine, 5 * ROWS)
        assert (await anext(stream)).job_id == first
        with pytest.raises(EventsLost) as lost:
            await anext(stream)
        assert first not in [event.job_id for event in await take(engine.events(after=lost.value.oldest), 50)]


async def test_a_slow_reader_reads_from_the_store_and_keeps_no_events(
    make_broker: MakeBroker, namespace: str
) -> None:
    async with Engine(make_broker(events=10_000), namespace) as engine:

        @engine.task(name="add")
        async def add(a: int) -> None: ...

        async with engine.events() as slow, engine.events() as quick:
            ids = await put(engine, 2 * ROWS_KEPT)
            assert [event.job_id for event in await take(quick, len(ids))] == ids
            assert quick._hub is not None
            feed = quick._hub.feed("default")
            assert feed is not None
            await until(lambda: feed.next == len(ids), "all rows were read")
            assert len(feed.rows_from(feed.next - ROWS_KEPT)) == ROWS_KEPT
            assert not feed.has(feed.next - ROWS_KEPT - 1)
            assert not slow._found
            assert [event.job_id for event in await take(slow, len(ids))] == ids
        await engine._broker.flush("default")


async def test_readers_share_a_wait_and_reads(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    look = engine._broker.look

    async def counted(queue: str, question: Any) -> Any:
        nonlocal looks
        looks += isinstance(question, LookEvents) and question.limit > 0
        return await look(queue, question)

    streams = [engine.events(queue="sums") for _ in range(50)]
    for stream in streams:
        await stream.__aenter__()
    await asyncio.gather(*(asyncio.wait_for(_nothing(stream), 10) for stream in streams))
    monkeypatch.setattr(engine._broker, "look", counted)
    ids = await put(engine, 5)
    for stream in streams:
        assert [event.job_id for event in await take(stream, 5)] == ids
    assert looks <= 6
    hub = streams[0]._hub
    assert hub is not None
    assert len(hub._tasks) == 1
    for stream in streams:
        await stream.aclose()
    assert not hub._tasks
    assert not hub._feeds


async def test_a_reader_that_skips_learns_that_something_has_changed(engine: Engine) -> None:
    async with engine.events(queue="sums") as stream:
        waiting = asyncio.create_task(stream.skip())
        await engine.schedule("idle")
        assert not (await asyncio.wait([waiting], timeout=0.1))[0], "an event of another queue"
        await put(engine, 3)
        assert await asyncio.wait_for(waiting, 10)
        feed = stream._hub.feed("sums") if stream._hub is not None else None
        assert feed is not None
        await until(lambda: feed.next == 3, "all rows were read")
        if stream._numbers["sums"] != 3:
            assert await asyncio.wait_for(stream.skip(), 10)
        waiting = asyncio.create_task(stream.skip())
        assert not (await asyncio.wait([waiting], timeout=0.1))[0], "all were left out"
        waiting.cancel()
        await asyncio.wait([waiting])
        [job_id] = await put(engine, 1)
        assert [event.job_id for event in await take(stream, 1)] == [job_id]


async def test_a_reader_of_a_job_skips_the_events_of_others(engine: Engine) -> None:
    job = await engine.schedule("idle")
    async with engine.events(job=job) as stream:
        await engine.schedule("idle")
        waiting = asyncio.create_task(stream.skip())
        assert not (await asyncio.wait([waiting], timeout=0.1))[0]
        await engine.cancel(job)
        assert await asyncio.wait_for(waiting, 10)


async def test_a_reader_that_skips_reads_nothing_of_its_own(
    make_broker: MakeBroker, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Engine(make_broker(events=10_000), namespace) as engine:

        @engine.task(name="add")
        async def add(a: int) -> None: ...

        async with engine.events() as stream:
            await put(engine, 2 * ROWS_KEPT)
            feed = stream._hub.feed("default") if stream._hub is not None else None
            assert feed is not None
            await until(lambda: feed.next == 2 * ROWS_KEPT, "all rows were read")
            monkeypatch.setattr(stream, "_read_queue", None)
            monkeypatch.setattr(stream, "_event", None)
            assert await asyncio.wait_for(stream.skip(), 10)
            waiting = asyncio.create_task(stream.skip())
            assert not (await asyncio.wait([waiting], timeout=0.1))[0]
            await engine.schedule("add", 1)
            assert await asyncio.wait_for(waiting, 10)
        assert await asyncio.wait_for(stream.skip(), 10) is False
        await engine._broker.flush("default")


async def test_a_reader_that_skips_learns_of_a_loss_and_of_the_end(engine: Engine) -> None:
    stream = engine.events(queue="sums")
    await stream.__aenter__()
    await put(engine, 1)
    assert await asyncio.wait_for(stream.skip(), 10)
    await engine._broker.flush("sums")
    await asyncio.sleep(0.01)  # a row of the same millisecond would have the same place
    await put(engine, 1)
    assert await asyncio.wait_for(stream.skip(), 10)
    waiting = asyncio.create_task(stream.skip())
    await asyncio.sleep(0)
    await engine._event_hubs.aclose()
    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(waiting, 10)
    await stream.aclose()


async def _nothing(stream: EventStream) -> None:
    """Have a stream catch up with the store."""
    while await stream._read():
        pass


async def test_a_stream_that_is_forgotten_ends_its_reading(engine: Engine) -> None:
    stream = engine.events()
    await stream.__aenter__()
    hub = stream._hub
    assert hub is not None
    del stream
    gc.collect()
    await until(lambda: not hub._readers, "the reader has left")
    assert not hub._tasks


async def test_a_wait_that_is_cancelled_loses_no_event(engine: Engine) -> None:
    async with engine.events() as stream:
        for _ in range(20):
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        ids = await put(engine, 3)
        assert [event.job_id for event in await take(stream, 3)] == ids


async def test_a_closed_stream_ends(engine: Engine) -> None:
    async with engine.events() as stream:
        waiting = asyncio.ensure_future(anext(stream, None))
        await asyncio.sleep(0.01)
    assert await asyncio.wait_for(waiting, 10) is None
    assert [event async for event in stream] == []
    await stream.aclose()


async def test_a_reading_ends_with_its_engine(make_broker: MakeBroker, namespace: str) -> None:
    async with Engine(make_broker(events=1), namespace) as engine:

        @engine.task
        async def add() -> None: ...

        stream = engine.events()
        await stream.__aenter__()
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.01)
    with pytest.raises(BrokerUnavailable, match="left"):
        await asyncio.wait_for(waiting, 10)


async def test_a_queue_that_is_new_to_a_cursor_is_read_from_its_oldest_event(engine: Engine) -> None:
    async with engine.events(queue="sums") as stream:
        cursor = stream.cursor
    idle = await engine.schedule("idle")
    assert [event.job_id for event in await take(engine.events(after=cursor), 1)] == [idle.id]


async def test_a_store_without_its_events_is_a_loss(engine: Engine) -> None:
    async with engine.events(queue="sums") as stream:
        await put(engine, 1)
        await take(stream, 1)
        await engine._broker.flush("sums")
        with pytest.raises(EventsLost, match="gone back") as lost:
            await asyncio.wait_for(anext(stream), 10)
        ids = await put(engine, 2)
        assert [event.job_id for event in await take(stream, 2)] == ids
    assert [event.job_id for event in await take(engine.events(after=lost.value.oldest), 2)] == ids


async def test_a_broker_that_keeps_no_events_is_refused(namespace: str) -> None:
    engine = Engine(MemoryBroker(), namespace)
    with pytest.raises(InvalidValue, match=r"MemoryBroker\(events=10_000\)"):
        engine.events()


def _text(words: str) -> str:
    return base64.urlsafe_b64encode(words.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "after", ["", "new", 7, b"a", "é", _text("sums=1"), _text("sums=1-x"), _text(""), _text("=1-2"), "a"]
)
async def test_a_wrong_cursor_is_refused(engine: Engine, after: Any) -> None:
    with pytest.raises(InvalidValue, match="after="):
        engine.events(after=after)


async def test_wrong_filters_are_refused(engine: Engine) -> None:
    with pytest.raises(UnknownQueue):
        engine.events(queue="nowhere")
    with pytest.raises(InvalidValue):
        engine.events(task="two words")
    with pytest.raises(InvalidValue):
        engine.events(job="")


def test_a_cursor_is_read_as_it_was_written() -> None:
    places = {"a": Place(), "b:c.d@e-f": Place((1, 2)), "g": Place((3, 0), 4), "h": Place((5, 6), 0)}
    assert decode_cursor(encode_cursor(places)) == places


async def test_the_kit_keeps_events_as_the_broker_does(namespace: str) -> None:
    engine = Engine(MemoryBroker(events=10), namespace)

    @engine.task
    async def add() -> None: ...

    async with testing.memory(engine) as jobs, engine.events() as stream:
        await add.schedule()
        await jobs.drain()
        names = [event.name for event in await take(stream, 3)]
    assert names == ["job_scheduled", "job_started", "job_finished"]
