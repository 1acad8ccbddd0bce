"""``enqueue_timeout`` holds for each caller, wherever its jobs wait, and for the first call of a process."""

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
"""Seconds that a patient caller waits."""


class Road:
    """Where trips go: it fails, holds them up or answers, and notes the ids that each carried."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.answers = asyncio.Semaphore(0)
        self.carried: list[list[str]] = []
        self.trips = EnqueueBatcher("mail", self.send, CallNumbers(), within=5)

    async def send(self, trip: RoundTrip) -> list[Any]:
        self.carried.append([part for part in trip.arguments if str(part).startswith("job")])
        if self.error is not None:
            raise self.error
        async with asyncio.timeout(trip.until - time.monotonic()):
            await self.answers.acquire()
        return [0, b"stored", []]

    def store(self, name: str, seconds: float) -> asyncio.Task[list[bool]]:
        until = time.monotonic() + seconds
        return asyncio.create_task(self.trips.store([Envelope(name, "send", b"")], None, until=until))


async def test_a_caller_whose_time_is_over_waits_no_longer_for_others_on_its_trip() -> None:
    road = Road()
    first = road.store("job-0", LONG)
    await until(lambda: road.carried)
    short, long = road.store("job-1", 0.1), road.store("job-2", LONG)
    await asyncio.sleep(0)
    road.answers.release()
    await first
    await until(lambda: road.carried[-1] == ["job-1", "job-2"])
    with pytest.raises(EnqueueUncertain) as caught:  # it is under way, and may arrive
        await short
    assert not long.done()
    again = asyncio.create_task(caught.value.retry())
    await until(lambda: len(road.carried) == 3)
    assert road.carried[1] == road.carried[2] == ["job-1", "job-2"], "a repeat is identical"
    road.answers.release()
    road.answers.release()
    assert [await long, await again] == [[True], [True]]
    assert await caught.value.retry() == [True]
    assert len(road.carried) == 3, "the answer is known"
    await road.trips.aclose()


async def test_what_was_not_sent_in_time_is_not_sent_with_others_who_have_time() -> None:
    road = Road()
    first = road.store("job-0", LONG)
    await until(lambda: road.carried)
    short, long = road.store("job-1", 0.2), road.store("job-2", LONG)
    await asyncio.sleep(0)
    road.error = BrokerUnavailable("away")
    road.answers.release()
    await first
    with pytest.raises(BrokerUnavailable) as caught:
        await short
    assert not isinstance(caught.value, EnqueueUncertain)
    road.error = None
    road.answers.release()
    assert await long == [True]
    assert road.carried[-1] == ["job-2"]
    await road.trips.aclose()


async def test_what_may_have_arrived_stays_on_its_trip() -> None:
    road = Road()
    first = road.store("job-0", LONG)
    await until(lambda: road.carried)
    short, long = road.store("job-1", 0.2), road.store("job-2", LONG)
    await asyncio.sleep(0)
    road.error = Unanswered("lost")
    road.answers.release()
    await first
    with pytest.raises(EnqueueUncertain):
        await short
    road.error = None
    road.answers.release()
    assert await long == [True]
    assert road.carried[-1] == ["job-1", "job-2"]
    await road.trips.aclose()


async def test_a_caller_whose_time_is_over_waits_no_longer_behind_others() -> None:
    road = Road()
    first = road.store("job-0", LONG)
    await until(lambda: road.carried)
    waiting = [road.store(f"job-{number}", 0.1) for number in range(1, 4)]
    for call in waiting:
        with pytest.raises(BrokerUnavailable) as caught:
            await call
        assert not isinstance(caught.value, EnqueueUncertain)
    last = road.store("job-4", LONG)
    await asyncio.sleep(0)
    road.answers.release()
    road.answers.release()
    assert [await first, await last] == [[True], [True]]
    assert road.carried == [["job-0"], ["job-4"]]
    await road.trips.aclose()


@pytest.mark.parametrize("harm", ["refuses", "is silent"])
async def test_batches_that_wait_for_each_other_all_give_up_in_time(
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
        assert max(took) < batches * within / 2  # one after the other would take twice as long
        proxy.is_black_hole = False


@pytest.mark.parametrize("harm", ["refuses", "is silent"])
async def test_the_first_schedule_of_a_process_waits_for_redis_as_later_ones_do(
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
    assert proxy.calls[b"HELLO"] - before <= 3, "one of the callers asks for all, and connecting asks as well"
    async with engine:
        pass


@pytest.mark.parametrize("place", ["redis://127.0.0.1:{}/0", "redis+cluster://127.0.0.1:{}"])
async def test_the_first_schedule_of_a_process_gives_up_in_time(namespace: str, place: str) -> None:
    engine = Engine(RedisBroker(place.format(free_port()), enqueue_timeout=0.3), namespace)
    job = engine.task(name="job")(lambda: None)
    calls = await asyncio.wait_for(
        asyncio.gather(*(job.schedule() for _ in range(30)), return_exceptions=True), 5
    )
    assert {type(call) for call in calls} <= {BrokerUnavailable, Unanswered}
    async with asyncio.timeout(5):
        with pytest.raises(BrokerUnavailable):  # who enters or starts workers hears at once
            await engine.__aenter__()


async def test_a_first_schedule_that_is_cancelled_leaves_the_others_trying(
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


def test_a_web_request_waits_three_seconds_at_most_unless_somebody_says_otherwise() -> None:
    assert RedisBroker().enqueue_timeout <= 3
    assert RedisBroker(enqueue_timeout=timedelta(seconds=7)).enqueue_timeout == 7


@pytest.mark.parametrize("what", ["now", "at", "batch"])
async def test_a_call_may_have_a_limit_of_its_own(namespace: str, what: str) -> None:
    engine = Engine(RedisBroker(f"redis://127.0.0.1:{free_port()}/0", enqueue_timeout=600), namespace)
    job = engine.task(name="job")(lambda: None)
    hasty = job.options(enqueue_timeout=0.1)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "now": hasty.schedule,
        "at": lambda: hasty.schedule_at(datetime.now(UTC)),
        "batch": lambda: engine.schedule_batch(Batch().schedule(job), enqueue_timeout=timedelta(seconds=0.1)),
    }
    async with asyncio.timeout(20):
        with pytest.raises(BrokerUnavailable):
            await calls[what]()


async def test_a_call_may_be_more_patient_than_its_engine(namespace: str, proxy: Proxy) -> None:
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
async def test_an_impossible_limit_of_a_call_is_refused(engine: Engine, limit: Any) -> None:
    job = engine.task(name="job")(lambda: None)
    with pytest.raises(InvalidValue, match=r"options\(enqueue_timeout=\)"):
        job.options(enqueue_timeout=limit)
    with pytest.raises(InvalidValue, match=r"schedule_batch\(enqueue_timeout=\)"):
        await engine.schedule_batch(Batch().schedule(job), enqueue_timeout=limit)


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("what", ["cancel", "requeue", "discard", "dead_jobs"])
async def test_what_people_ask_and_order_gives_up_in_time(
    namespace: str, proxy: Proxy, what: str, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiospinach.brokers.redis.transports.ANSWER_WITHIN", 600)
    engine = Engine(RedisBroker(proxy.url, enqueue_timeout=0.2), namespace)
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


# Tasks that are done before they are known.


def eager_before_there_was_one(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any
) -> Any:
    """What an eager task factory does with trips that wait for nothing."""
    if "EnqueueBatcher." not in repr(coro):
        return asyncio.Task(coro, loop=loop, **kwargs)
    with pytest.raises(StopIteration):
        coro.send(None)
    done = loop.create_future()
    done.set_result(None)
    return done


async def test_trips_that_ended_at_once_are_followed_by_others() -> None:
    road = Road()
    eager = getattr(asyncio, "eager_task_factory", eager_before_there_was_one)  # new in Python 3.12
    asyncio.get_running_loop().set_task_factory(eager)  # type: ignore[arg-type]
    for number in range(3):
        road.error = ValueError("at once")
        with pytest.raises(ValueError, match="at once"):
            async with asyncio.timeout(3):
                await road.trips.store([Envelope("job", "send", b"")], None, until=time.monotonic() + 5)
        assert len(road.carried) == number + 1
    asyncio.get_running_loop().set_task_factory(None)
    await road.trips.aclose()


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
