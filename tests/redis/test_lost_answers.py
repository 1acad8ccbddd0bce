"""Lost answers: every call can be repeated, without losing a job or running one twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
import redis

from aiospinach import (
    Batch,
    BatchPartlyStored,
    BrokerUnavailable,
    Engine,
    EnqueueUncertain,
    Job,
    JobStatus,
    RedisBroker,
)
from aiospinach.brokers.records import Envelope, Settlement
from aiospinach.brokers.redis.transports import DirectTransport
from aiospinach.outcome import Action

from ..asking import cancel
from ..brokers.raw_keys import OF_SESSIONS
from ..conftest import Heard
from ..servers import Server
from ..waiting import until
from .conftest import every, key, keys_of, live, names_in
from .proxy import Proxy

KINDS = ["enqueue", "exchange", "tick", "sweep", "renew", "fire", "register"]
SETTLED = {"control", "looked", "workers", "reports", "periodic", "wake"}
"""Keys that remain of a drained queue without ids of users, besides those of sessions."""


@pytest.mark.large
@pytest.mark.parametrize("kinds", [*([kind] for kind in KINDS), KINDS], ids="-".join)
async def test_no_job_is_lost_or_run_twice_when_answers_are_lost(
    namespace: str, heard: Heard, proxy: Proxy, plain: redis.Redis, kinds: list[str]
) -> None:
    ran: Counter[int] = Counter()
    broker = RedisBroker(proxy.url, lease=3, enqueue_timeout=20)
    end = asyncio.Event()
    async with Engine(broker, namespace) as engine:

        @engine.task
        async def job(number: int) -> None:
            ran[number] += 1
            if number == 0:  # runs until its lease was renewed
                await end.wait()

        @engine.task(name="beat", periodicity=timedelta(seconds=1))
        async def beat() -> None:
            pass

        await engine.start_workers(20, block=False)
        proxy.lose_answers(every(3, *kinds))
        if "register" in kinds:
            proxy.lose_answers(every(1, "register"))
            engine._workers.pool.register_again()  # type: ignore[union-attr]
            await until(lambda: proxy.lost[b"register"] >= 1)
            proxy.lose_answers(every(3, *kinds))
        jobs: list[Job] = []
        for first in range(0, 500, 25):
            jobs += await asyncio.gather(*(job.schedule(number) for number in range(first, first + 25)))
        assert all(job.status is JobStatus.QUEUED for job in jobs)
        await until(lambda: len(ran) == 500 and proxy.lost, timeout=30)
        for kind in kinds:
            await until(lambda: proxy.lost[kind.encode()] >= 1, kind, timeout=30)  # noqa: B023
        end.set()
        proxy.lose_answers(None)
        await engine.stop_workers()
        beats = [kwargs["job"].id for name, kwargs in heard if name == "job_started"]
        beats = [job_id for job_id in beats if job_id.startswith("beat@")]
    assert ran == Counter(dict.fromkeys(range(500), 1))
    assert len(beats) == len(set(beats))
    assert plain.zcard(key(namespace, "leases")) == 0
    assert plain.zcard(key(namespace, "dead")) == 0
    scheduled = [kwargs["job"].id for name, kwargs in heard if name == "job_scheduled"]
    assert Counter(job_id for job_id in scheduled if not job_id.startswith("beat@")) == Counter(
        job.id for job in jobs
    )
    left = {name for name in keys_of(plain, namespace) if not name.startswith(OF_SESSIONS)}
    assert left <= SETTLED | {"jobs", "ready"}
    waiting = set(names_in(plain.hkeys(key(namespace, "jobs"))))
    assert all(job_id.startswith("beat@") for job_id in waiting), "only last beats may wait"
    assert waiting.isdisjoint(beats)


# Callers without an answer.


async def test_an_unanswered_schedule_is_uncertain_and_its_retry_stores_the_job_once(
    namespace: str, heard: Heard, proxy: Proxy, plain: redis.Redis
) -> None:
    async with Engine(RedisBroker(proxy.url, enqueue_timeout=3.0), namespace) as engine:

        @engine.task
        async def job(number: int) -> None:
            pass

        proxy.lose_answers(every(1, "enqueue"))
        with pytest.raises(EnqueueUncertain, match="retry") as caught:
            await job.schedule(1)
        assert live(plain, namespace) == 1
        assert heard.count("job_scheduled") == 0
        with pytest.raises(EnqueueUncertain) as again:
            await caught.value.retry()
        proxy.lose_answers(None)
        stored = await again.value.retry()
        assert isinstance(stored, Job)
        assert (stored.status, stored.args, stored.task_name) == (JobStatus.QUEUED, (1,), job.name)
        assert plain.hkeys(key(namespace, "jobs")) == [stored.id.encode()]
        assert plain.lrange(key(namespace, "ready"), 0, -1) == [stored.id.encode()]
        assert [kwargs["job"] for _, kwargs in heard] == [stored]


async def test_a_blocking_call_whose_answer_was_lost_is_retried_by_its_twin(
    namespace: str, heard: Heard, proxy: Proxy, plain: redis.Redis
) -> None:
    engine = Engine(RedisBroker(proxy.url, enqueue_timeout=1.0), namespace)
    engine.task(name="job")(lambda number: None)

    def call() -> Job:
        with engine.blocking:
            engine.blocking.schedule("job", 1)
            proxy.lose_answers(every(1, "enqueue"))
            with pytest.raises(EnqueueUncertain) as caught:
                engine.blocking.schedule("job", 2)
            proxy.lose_answers(None)
            job: Job = engine.blocking.retry(caught.value)
            return job

    stored = await asyncio.to_thread(call)
    assert (stored.status, stored.args) == (JobStatus.QUEUED, (2,))
    assert plain.hexists(key(namespace, "jobs"), stored.id)
    assert live(plain, namespace) == heard.count("job_scheduled") == 2


async def test_a_call_that_never_reached_the_server_is_stored_by_its_retry(
    namespace: str, heard: Heard, proxy: Proxy, plain: redis.Redis
) -> None:
    async with Engine(RedisBroker(proxy.url, enqueue_timeout=3.0), namespace) as engine:

        @engine.task
        async def job() -> None:
            pass

        proxy.is_black_hole = True
        with pytest.raises(EnqueueUncertain) as caught:
            await job.schedule()
        proxy.is_black_hole = False
        assert live(plain, namespace) == 0
        stored = await caught.value.retry()
        assert plain.hkeys(key(namespace, "jobs")) == [stored.id.encode()]
        assert heard.count("job_scheduled") == 1


async def test_the_retry_for_a_duplicate_returns_not_set(
    namespace: str, heard: Heard, proxy: Proxy, plain: redis.Redis
) -> None:
    async with Engine(RedisBroker(proxy.url, enqueue_timeout=2.0), namespace) as engine:

        @engine.task
        async def job() -> None:
            pass

        await job.options(id="mine").schedule()
        proxy.lose_answers(every(1, "enqueue"))
        with pytest.raises(EnqueueUncertain) as caught:
            await job.options(id="mine").schedule()
        proxy.lose_answers(None)
        assert (await caught.value.retry()).status is JobStatus.NOT_SET
        assert heard.count("job_scheduled") == 1
        assert live(plain, namespace) == 1


async def test_each_caller_of_a_shared_round_trip_can_retry(
    namespace: str, heard: Heard, proxy: Proxy, plain: redis.Redis
) -> None:
    async with Engine(RedisBroker(proxy.url, enqueue_timeout=5.0), namespace) as engine:

        @engine.task
        async def job(number: int) -> None:
            pass

        await engine._broker.open(namespace)
        proxy.lose_answers(every(1, "enqueue"))
        errors = await asyncio.gather(*(job.schedule(n) for n in range(30)), return_exceptions=True)
        proxy.lose_answers(None)
        retries = []
        for error in errors:
            assert isinstance(error, EnqueueUncertain)
            retries.append(error.retry())
        jobs: list[Job] = await asyncio.gather(*retries)
        assert [job.args for job in jobs] == [(number,) for number in range(30)]
        assert {job.status for job in jobs} == {JobStatus.QUEUED}
        assert set(plain.hkeys(key(namespace, "jobs"))) == {job.id.encode() for job in jobs}
        assert heard.count("job_scheduled") == 30


async def test_the_retry_of_a_batch_stores_its_remaining_jobs(
    namespace: str, heard: Heard, proxy: Proxy, plain: redis.Redis
) -> None:
    async with Engine(RedisBroker(proxy.url, enqueue_timeout=3.0), namespace) as engine:
        for queue in "abc":

            @engine.task(name=queue, queue=queue)
            async def job(number: int) -> None:
                pass

        batch = Batch()
        for number in range(9):
            batch.schedule("abc"[number % 3], number)
        await engine._broker.open(namespace)
        proxy.lose_answers(lambda name, count: name == b"enqueue" and count >= 2)
        await engine.schedule("c", 100)
        with pytest.raises(EnqueueUncertain) as first:
            await engine.schedule_batch(batch)
        proxy.lose_answers(lambda name, count: name == b"enqueue" and count > proxy_count + 1)
        proxy_count = proxy.calls[b"enqueue"]
        with pytest.raises(BatchPartlyStored) as partly:
            await first.value.retry()
        assert [job.queue for job in partly.value.stored] == ["a"] * 3
        cause = partly.value.__cause__
        assert isinstance(cause, EnqueueUncertain)
        proxy.lose_answers(None)
        jobs = await cause.retry()
        assert [job.args for job in jobs] == [(number,) for number in range(9)]
        assert [live(plain, namespace, queue) for queue in "abc"] == [3, 3, 4]
        signalled = Counter(kwargs["job"].id for _, kwargs in heard)
        assert len(signalled) == 10
        assert set(signalled.values()) == {1}


async def test_a_failure_to_connect_is_not_uncertain(
    namespace: str, proxy: Proxy, plain: redis.Redis
) -> None:
    async with Engine(RedisBroker(proxy.url, enqueue_timeout=3.0), namespace) as engine:

        @engine.task
        async def job() -> None:
            pass

        proxy.refuse()
        with pytest.raises(BrokerUnavailable):  # never connected
            await RedisBroker(proxy.url).open(namespace)
        with pytest.raises(BrokerUnavailable):  # the existing connection was closed
            await engine.cancel("any")
        with pytest.raises(BrokerUnavailable):
            await job.schedule()
        await proxy.accept()
        await job.schedule()
        assert live(plain, namespace) == 1


async def test_a_call_refused_after_a_lost_answer_remains_uncertain(
    namespace: str, proxy: Proxy, plain: redis.Redis
) -> None:
    async with Engine(RedisBroker(proxy.url, enqueue_timeout=20), namespace) as engine:

        @engine.task
        async def job() -> None:
            pass

        plain.acl_setuser(namespace, enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"])
        endpoint = engine._broker._calls.endpoint  # type: ignore[attr-defined]
        endpoint._settings |= {"username": namespace, "password": "pw"}

        def lose_and_deny(name: bytes, number: int) -> bool:
            return name == b"enqueue" and number == 1

        await engine._broker.aclose()
        proxy.lose_answers(lose_and_deny)
        scheduling = asyncio.create_task(job.schedule())
        await until(lambda: proxy.lost[b"enqueue"])
        await until(lambda: live(plain, namespace) == 1)
        plain.acl_setuser(namespace, enabled=True, commands=["-evalsha"])
        with pytest.raises(EnqueueUncertain) as caught:
            await scheduling
        plain.acl_setuser(namespace, enabled=True, commands=["+evalsha"])
        await caught.value.retry()
        assert live(plain, namespace) == 1
        plain.acl_deluser(namespace)


async def test_an_unanswered_exchange_is_repeated_after_closing_the_broker(
    namespace: str, own_server: Server
) -> None:
    broker = RedisBroker(own_server.url)
    await broker.open(namespace)
    await broker.enqueue("default", [Envelope(f"job-{number}", "job", b"[[],{}]") for number in range(2)])
    [lease] = (await broker.exchange("default", [], 1)).leases
    done = [Settlement(lease, Action.DONE)]
    own_server.pause()
    call = asyncio.create_task(broker.exchange("default", done, 1))
    transport = broker._calls.here().transport
    assert isinstance(transport, DirectTransport)
    await until(lambda: transport._work._protocol is not None and not transport._work._protocol.is_idle)
    await broker.aclose()
    own_server.resume()
    with pytest.raises(BrokerUnavailable):
        await call
    exchanged = await broker.exchange("default", done, 1)
    assert [lease.job.id for lease in exchanged.leases] == ["job-1"]
    assert list(exchanged.fenced) == []
    await broker.aclose()


async def test_loading_a_script_does_not_extend_the_timeout(namespace: str, own_server: Server) -> None:
    async with Proxy(own_server.port) as slow:
        broker = RedisBroker(slow.url, enqueue_timeout=0.6)
        await broker.open(namespace)
        await cancel(broker, "default", "none")  # connected
        slow.delay = 0.4
        with pytest.raises(EnqueueUncertain):
            await broker.enqueue("default", [Envelope("job", "job", b"[[],{}]")])
        slow.delay = 0
        await broker.aclose()


@pytest.mark.parametrize("lease", [2.0, 3600.0])
async def test_a_repeated_exchange_is_recognized_after_a_long_outage(
    namespace: str, proxy: Proxy, plain: redis.Redis, lease: float
) -> None:
    away = max(1.9 * lease, 3500)
    broker = RedisBroker(proxy.url, lease=lease)
    await broker.open(namespace)
    await broker.exchange("default", [], 0)  # loads the script
    await broker.enqueue("default", [Envelope("a", "job", b"[[],{}]")])
    proxy.lose_answers(every(1, "exchange"))
    asked: list[Settlement] = []
    with pytest.raises(BrokerUnavailable):
        await broker.exchange("default", asked, 1)
    proxy.lose_answers(None)
    assert plain.zcard(key(namespace, "leases")) == 1
    [session] = [name for name in keys_of(plain, namespace) if name.startswith("sess:")]
    left = plain.pttl(key(namespace, session)) - int(away * 1000)
    plain.pexpire(
        key(namespace, session), left
    )  # as if this time had passed; a negative time deletes the key
    plain.zincrby(key(namespace, "leases"), -away * 1000, *plain.zrange(key(namespace, "leases"), 0, 0))
    [leased] = (await broker.exchange("default", asked, 1)).leases
    assert leased.job.id == "a"
    await broker.aclose()
