"""``enqueue_timeout`` applies to each caller of a batcher, and to the first call of a process."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from aiospinach import (
    Batch,
    BrokerUnavailable,
    Engine,
    EnqueueUncertain,
    InvalidValue,
    JobStatus,
    RedisBroker,
)
from aiospinach.brokers.records import Envelope
from aiospinach.brokers.redis.batching import EnqueueBatcher, RoundTrip
from aiospinach.brokers.redis.call_numbers import CallNumbers
from aiospinach.brokers.redis.errors import Unanswered

from ..servers import free_port
from ..waiting import until
from .conftest import live
from .proxy import Proxy

LONG = 4.0
"""In seconds, of a caller with a long timeout."""


class FakeServer:
    """Receives round trips: fails, delays or answers them, and records the ids of each one."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.answers = asyncio.Semaphore(0)
        self.received: list[list[str]] = []
        self.batcher = EnqueueBatcher("mail", self.send, CallNumbers(), within=5)

    async def send(self, round_trip: RoundTrip) -> list[Any]:
        self.received.append([part for part in round_trip.arguments(0) if str(part).startswith("job")])
        if self.error is not None:
            raise self.error
        async with asyncio.timeout(round_trip.until - time.monotonic()):
            await self.answers.acquire()
        return [0, b"stored", []]

    def store(self, name: str, seconds: float) -> asyncio.Task[list[bool]]:
        until = time.monotonic() + seconds
        return asyncio.create_task(self.batcher.store([Envelope(name, "send", b"")], None, until=until))


async def test_a_caller_times_out_while_the_round_trip_that_it_shares_is_under_way() -> None:
    server = FakeServer()
    first = server.store("job-0", LONG)
    await until(lambda: server.received)
    short, long = server.store("job-1", 0.1), server.store("job-2", LONG)
    await asyncio.sleep(0)
    server.answers.release()
    await first
    await until(lambda: server.received[-1] == ["job-1", "job-2"])
    with pytest.raises(EnqueueUncertain) as caught:  # the call was sent, and may be stored
        await short
    assert not long.done()
    again = asyncio.create_task(caught.value.retry())
    await until(lambda: len(server.received) == 3)
    assert server.received[1] == server.received[2] == ["job-1", "job-2"], "a repeated call is identical"
    server.answers.release()
    server.answers.release()
    assert [await long, await again] == [[True], [True]]
    assert await caught.value.retry() == [True]
    assert len(server.received) == 3, "the answer is known"
    await server.batcher.aclose()


async def test_a_timed_out_entry_is_not_sent_with_those_of_other_callers() -> None:
    server = FakeServer()
    first = server.store("job-0", LONG)
    await until(lambda: server.received)
    short, long = server.store("job-1", 0.2), server.store("job-2", LONG)
    await asyncio.sleep(0)
    server.error = BrokerUnavailable("away")
    server.answers.release()
    await first
    with pytest.raises(BrokerUnavailable) as caught:
        await short
    assert not isinstance(caught.value, EnqueueUncertain)
    server.error = None
    server.answers.release()
    assert await long == [True]
    assert server.received[-1] == ["job-2"]
    await server.batcher.aclose()


async def test_an_entry_that_may_have_arrived_is_repeated_with_its_round_trip() -> None:
    server = FakeServer()
    first = server.store("job-0", LONG)
    await until(lambda: server.received)
    short, long = server.store("job-1", 0.2), server.store("job-2", LONG)
    await asyncio.sleep(0)
    server.error = Unanswered("lost")
    server.answers.release()
    await first
    with pytest.raises(EnqueueUncertain):
        await short
    server.error = None
    server.answers.release()
    assert await long == [True]
    assert server.received[-1] == ["job-1", "job-2"]
    await server.batcher.aclose()


async def test_a_caller_times_out_while_it_waits_for_an_earlier_round_trip() -> None:
    server = FakeServer()
    first = server.store("job-0", LONG)
    await until(lambda: server.received)
    waiting = [server.store(f"job-{number}", 0.1) for number in range(1, 4)]
    for call in waiting:
        with pytest.raises(BrokerUnavailable) as caught:
            await call
        assert not isinstance(caught.value, EnqueueUncertain)
    last = server.store("job-4", LONG)
    await asyncio.sleep(0)
    server.answers.release()
    server.answers.release()
    assert [await first, await last] == [[True], [True]]
    assert server.received == [["job-0"], ["job-4"]]
    await server.batcher.aclose()


@pytest.mark.parametrize("harm", ["refuses", "is silent"])
async def test_batches_that_wait_for_each_other_all_time_out_in_time(
    namespace: str, proxy: Proxy, harm: str
) -> None:
    batches, within = 20, 0.5
    async with Engine(RedisBroker(proxy.url, enqueue_timeout=within), namespace) as engine:
        job = engine.task(name="job")(lambda: None)
        if harm == "refuses":
            proxy.refuse()
        else:
            proxy.is_black_hole = True

        async def schedule() -> float:
            batch, began = Batch(), time.monotonic()
            for _ in range(1000):
                batch.schedule(job)
            with pytest.raises((BrokerUnavailable, EnqueueUncertain)):
                await engine.schedule_batch(batch)
            return time.monotonic() - began

        took = await asyncio.gather(*(schedule() for _ in range(batches)))
        assert max(took) < batches * within / 2  # in sequence they would take twice as long
        proxy.is_black_hole = False


@pytest.mark.parametrize("harm", ["refuses", "is silent"])
async def test_the_first_schedule_of_a_process_waits_for_redis_like_later_ones(
    namespace: str, proxy: Proxy, plain: redis.Redis, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiospinach.brokers.redis.transports.ANSWER_WITHIN", 0.3)
    engine = Engine(RedisBroker(proxy.url), namespace)
    job = engine.task(name="job")(lambda: None)
    if harm == "refuses":
        proxy.refuse()
    else:
        proxy.is_black_hole = True
    calls = [asyncio.create_task(job.schedule()) for _ in range(50)]
    await asyncio.wait(calls, timeout=0.2)
    assert not any(call.done() for call in calls)
    before = proxy.calls[b"HELLO"]
    if harm == "refuses":
        await proxy.accept()
    else:
        proxy.is_black_hole = False
    assert {job.status for job in await asyncio.gather(*calls)} == {JobStatus.QUEUED}
    assert live(plain, namespace) == 50
    assert proxy.calls[b"HELLO"] - before <= 3, "one handshake for all callers, and those of connections"
    async with engine:
        pass


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}/0", "redis+cluster://127.0.0.1:{}"])
async def test_the_first_schedule_of_a_process_times_out_in_time(namespace: str, url: str) -> None:
    engine = Engine(RedisBroker(url.format(free_port()), enqueue_timeout=0.3), namespace)
    job = engine.task(name="job")(lambda: None)
    calls = await asyncio.wait_for(
        asyncio.gather(*(job.schedule() for _ in range(30)), return_exceptions=True), 5
    )
    assert {type(call) for call in calls} <= {BrokerUnavailable, Unanswered}
    async with asyncio.timeout(5):
        with pytest.raises(BrokerUnavailable):  # entering an engine does not wait
            await engine.__aenter__()


async def test_cancelling_the_first_schedule_does_not_end_concurrent_ones(
    namespace: str, proxy: Proxy, plain: redis.Redis
) -> None:
    engine = Engine(RedisBroker(proxy.url), namespace)
    job = engine.task(name="job")(lambda: None)
    proxy.refuse()
    first, second = (asyncio.create_task(job.schedule()) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.wait([first])
    await proxy.accept()
    await second
    assert live(plain, namespace) == 1
    async with engine:
        pass


# The limit of an engine, and of a call.


def test_the_default_enqueue_timeout_is_three_seconds_at_most() -> None:
    assert RedisBroker().enqueue_timeout <= 3
    assert RedisBroker(enqueue_timeout=timedelta(seconds=7)).enqueue_timeout == 7


@pytest.mark.parametrize("what", ["now", "at", "batch"])
async def test_a_call_can_have_its_own_timeout(namespace: str, what: str) -> None:
    engine = Engine(RedisBroker(f"redis://127.0.0.1:{free_port()}/0", enqueue_timeout=600), namespace)
    job = engine.task(name="job")(lambda: None)
    impatient = job.options(enqueue_timeout=0.1)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "now": impatient.schedule,
        "at": lambda: impatient.schedule_at(datetime.now(UTC)),
        "batch": lambda: engine.schedule_batch(Batch().schedule(job), enqueue_timeout=timedelta(seconds=0.1)),
    }
    async with asyncio.timeout(20):
        with pytest.raises(BrokerUnavailable):
            await calls[what]()


async def test_the_timeout_of_a_call_can_be_longer_than_that_of_its_broker(
    namespace: str, proxy: Proxy
) -> None:
    engine = Engine(RedisBroker(proxy.url, enqueue_timeout=0.01), namespace)
    job = engine.task(name="job")(lambda: None)
    proxy.refuse()
    with pytest.raises(BrokerUnavailable):
        await job.schedule()
    call = asyncio.create_task(job.options(enqueue_timeout=60).schedule())
    await asyncio.sleep(0)
    await proxy.accept()
    assert (await call).status is JobStatus.QUEUED
    async with engine:
        pass


@pytest.mark.parametrize("limit", [0, -1, float("nan"), "3", True])
async def test_an_invalid_timeout_of_a_call_is_refused(engine: Engine, limit: Any) -> None:
    job = engine.task(name="job")(lambda: None)
    with pytest.raises(InvalidValue, match=r"options\(enqueue_timeout=\)"):
        job.options(enqueue_timeout=limit)
    with pytest.raises(InvalidValue, match=r"schedule_batch\(enqueue_timeout=\)"):
        await engine.schedule_batch(Batch().schedule(job), enqueue_timeout=limit)


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("what", ["cancel", "requeue", "discard", "dead_jobs"])
async def test_calls_to_cancel_requeue_discard_and_list_time_out_in_time(
    namespace: str, proxy: Proxy, what: str, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiospinach.brokers.redis.transports.ANSWER_WITHIN", 600)
    engine = Engine(RedisBroker(proxy.url, enqueue_timeout=1.0), namespace)
    engine.task(name="job")(lambda: None)
    if is_open:
        await engine.cancel("any")
    proxy.is_black_hole = True
    calls: dict[str, Callable[[str], Awaitable[Any]]] = {
        "cancel": engine.cancel,
        "requeue": engine.requeue,
        "discard": engine.discard,
        "dead_jobs": lambda _: anext(engine.dead_jobs()),
    }
    async with asyncio.timeout(20):
        with pytest.raises(BrokerUnavailable):
            await calls[what]("any")
    proxy.is_black_hole = False
    async with engine:
        pass


# Eager tasks, which may be done when they are created.


def eager_before_python_3_12(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any
) -> Any:
    """Stands in for an eager task factory, for round trips that do not wait."""
    if "EnqueueBatcher." not in repr(coro):
        return asyncio.Task(coro, loop=loop, **kwargs)
    with pytest.raises(StopIteration):
        coro.send(None)
    done = loop.create_future()
    done.set_result(None)
    return done


async def test_round_trips_that_end_at_once_are_followed_by_others() -> None:
    server = FakeServer()
    eager = getattr(asyncio, "eager_task_factory", eager_before_python_3_12)  # new in Python 3.12
    asyncio.get_running_loop().set_task_factory(eager)  # type: ignore[arg-type]
    for number in range(3):
        server.error = ValueError("at once")
        with pytest.raises(ValueError, match="at once"):
            async with asyncio.timeout(3):
                await server.batcher.store([Envelope("job", "send", b"")], None, until=time.monotonic() + 5)
        assert len(server.received) == number + 1
    asyncio.get_running_loop().set_task_factory(None)
    await server.batcher.aclose()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
async def test_schedule_works_under_the_eager_task_factory(namespace: str, proxy: Proxy) -> None:
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    async with Engine(RedisBroker(proxy.url, enqueue_timeout=0.3), namespace) as engine:
        job = engine.task(name="job")(lambda: None)
        await job.schedule()
        proxy.is_black_hole = True
        for _ in range(3):
            with pytest.raises((BrokerUnavailable, EnqueueUncertain)):
                await asyncio.wait_for(job.schedule(), 5)
        proxy.is_black_hole = False
        jobs: Sequence[Any] = await asyncio.gather(*(job.schedule() for _ in range(30)))
        assert {job.status for job in jobs} == {JobStatus.QUEUED}
