"""Events behind Sentinels: a reader goes on with the new master, also if it has read what is lost there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from anyio import to_thread

from aiospinach import BrokerUnavailable, Engine, Event, EventsLost, RedisBroker
from aiospinach.engine.event_cursor import Place, decode_cursor, encode_cursor

from ..test_events import take
from ..waiting import until
from .conftest import Watched, wait_for
from .test_sentinel import fail_over

pytestmark = pytest.mark.large

QUEUE = "default"
HOUR = 3_600_000


@pytest.fixture
async def engine(watched: Watched, namespace: str) -> AsyncIterator[Engine]:
    engine = Engine(RedisBroker(watched.url, enqueue_timeout=30, events=10_000), namespace)

    @engine.task(name="work")
    async def work(number: int) -> None: ...

    async with engine:
        yield engine
        await engine._broker.flush(QUEUE)


async def put(engine: Engine, numbers: range) -> list[str]:
    """Schedule jobs one by one, so that each has a row. Returns their ids."""
    return [(await engine.schedule("work", number)).id for number in numbers]


def ids(events: Sequence[Event]) -> list[str]:
    return [event.job_id for event in events]


def moved(cursor: str, milliseconds: int) -> str:
    """The cursor of an event that was written so much later, and that the store does not have."""
    [(queue, place)] = decode_cursor(cursor).items()
    assert place.position is not None
    return encode_cursor({queue: Place((place.position[0] + milliseconds, 0))})


async def to_the_other(watched: Watched, engine: Engine) -> None:
    """Make the replica the master, and wait until the engine has found it."""
    before = watched.master
    await to_thread.run_sync(fail_over, watched)
    await until(lambda: watched.master is not before, "the other is the master", timeout=20)
    wait_for(watched.is_whole, "the old master follows the new one")
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(BrokerUnavailable):
                await engine.counts()
                break
            await asyncio.sleep(0.05)


async def test_each_event_is_read_once_over_a_failover(watched: Watched, engine: Engine) -> None:
    async with engine.events() as waiting, engine.events() as late:
        before = await put(engine, range(10))
        assert ids(await take(waiting, 10)) == before
        cursor = (await take(late, 4))[-1].cursor
        await to_the_other(watched, engine)
        after = await put(engine, range(10, 20))
        assert ids(await take(waiting, 10)) == after
        assert ids(await take(late, 16)) == before[4:] + after
    assert ids(await take(engine.events(after=cursor), 16)) == before[4:] + after


async def test_a_cursor_of_a_lost_event_leaves_none_of_the_next_ones_out(
    watched: Watched, engine: Engine
) -> None:
    [_, known] = await put(engine, range(2))
    cursor = (await take(engine.events(after="oldest"), 2))[-1].cursor
    await to_the_other(watched, engine)
    ahead = moved(cursor, HOUR)  # the clock of the lost master was an hour ahead
    stream = engine.events(after=ahead)
    with pytest.raises(EventsLost, match="gone back") as lost:
        await take(stream, 1)
    after = await put(engine, range(2, 7))
    assert known not in after
    assert ids(await take(stream, 5)) == after
    assert ids(await take(engine.events(after=lost.value.oldest), 5)) == after
    await stream.aclose()


async def test_a_cursor_of_a_lost_event_is_found_out_after_the_new_master_has_gone_on(
    watched: Watched, engine: Engine
) -> None:
    await put(engine, range(2))
    cursor = (await take(engine.events(after="oldest"), 2))[-1].cursor
    await to_the_other(watched, engine)
    after = await put(engine, range(2, 7))
    stream = engine.events(after=moved(cursor, 1))  # written before the failover, and not copied
    with pytest.raises(EventsLost, match="gone back"):
        await take(stream, 1)
    assert ids(await take(stream, 5)) == after
    await stream.aclose()


async def test_what_a_crash_has_lost_is_no_event_and_hides_none(watched: Watched, engine: Engine) -> None:
    victim, replica = watched.master, watched.replica
    async with engine.events() as stream:
        kept = await put(engine, range(5))
        assert ids(await take(stream, 5)) == kept
        with victim.client() as master:
            assert master.wait(1, 10_000) == 1
            replica.pause()
            master.execute_command("CLIENT", "KILL", "TYPE", "replica")  # what comes now is not copied
        lost = await put(engine, range(5, 8))
        assert ids(await take(stream, 3)) == lost
        try:
            victim.kill()
            replica.resume()
            await until(lambda: watched.master is replica, "the other is the master", timeout=20)
            after = await put(engine, range(8, 12))
            with pytest.raises(EventsLost, match="gone back"):
                await take(stream, 1)
            assert ids(await take(stream, 4)) == after
            assert ids(await take(engine.events(after="oldest"), 9)) == kept + after
        finally:
            victim.start()
