"""A reader of events that sleeps costs the workers no command and no byte, and its process no memory."""

from __future__ import annotations

from collections import Counter

import pytest

from aiospinach import Batch, Engine, EventsLost, RedisBroker
from aiospinach.engine.event_feed import ROWS_KEPT

from ..conftest import Heard
from ..servers import Server
from ..test_events import take
from ..waiting import until
from .conftest import SCRIPTS
from .proxy import Proxy

JOBS, NUMBER = 3000, 8
ROWS = 100


def engine_on(url: str, namespace: str) -> Engine:
    engine = Engine(RedisBroker(url, events=ROWS), namespace)

    @engine.task(name="job")
    async def job() -> None: ...

    return engine


async def drain(server: Server, namespace: str, heard: Heard) -> tuple[Counter[bytes], int]:
    """Drain some thousands of jobs. Returns the calls of the workers, and how many bytes these were."""
    done = heard.count("job_finished")
    async with Proxy(server.port) as proxy, engine_on(proxy.url, namespace) as engine:
        proxy.lose_answers(None, SCRIPTS)
        batch = Batch()
        for _ in range(JOBS):
            batch.schedule("job")
        await engine.schedule_batch(batch)
        proxy.calls.clear()
        before = proxy.bytes_sent
        await engine.start_workers(NUMBER, stop_when_queue_empty=True)
        assert heard.count("job_finished") >= done + JOBS
        return proxy.calls, proxy.bytes_sent - before


@pytest.mark.large
async def test_a_reader_that_sleeps_costs_the_workers_nothing(
    own_server: Server, namespace: str, heard: Heard
) -> None:
    calls, bytes_sent = await drain(own_server, namespace, heard)
    assert calls[b"exchange"] >= JOBS / NUMBER
    async with engine_on(own_server.unix_url, namespace) as engine, engine.events() as stream:
        first = await engine.schedule("job")
        assert [event.job_id for event in await take(stream, 1)] == [first.id]
        with_reader, bytes_with_reader = await drain(own_server, namespace, heard)  # the stream sleeps
        # When a worker is idle depends on time: so few calls may be more or less.
        assert set(with_reader) <= set(calls) | {b"BLPOP", b"nudge"}
        for name, count in with_reader.items():
            assert count <= 1.1 * calls[name] + 10, name
        assert bytes_with_reader <= 1.1 * bytes_sent

        assert len(stream._found) == 0
        hub = stream._hub
        assert hub is not None
        feed = hub.feed("default")
        assert feed is not None
        await until(lambda: feed.next > ROWS_KEPT, "the events were read for all readers")
        assert not feed.has(feed.next - ROWS_KEPT - 1)

        with pytest.raises(EventsLost, match="later ones came"):
            await take(stream, 1)
        last = await engine.schedule("job")
        while (await take(stream, 1))[0].job_id != last.id:
            pass
