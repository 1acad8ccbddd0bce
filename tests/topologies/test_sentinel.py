"""A master found through Sentinels: jobs run, also after another server becomes the master."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from anyio import to_thread
from redis.asyncio.sentinel import Sentinel as Client

from aiospinach import BrokerError, RedisBroker

from ..servers import free_port
from ..waiting import until
from .conftest import SERVICE, Watched, raw
from .load import Work

pytestmark = pytest.mark.large

QUEUES = ("one", "two", "three")


def by_url(watched: Watched) -> RedisBroker:
    return RedisBroker(watched.url, lease=12, enqueue_timeout=30)


def by_client(watched: Watched) -> RedisBroker:
    sentinels = Client([("127.0.0.1", sentinel.port) for sentinel in watched.sentinels])  # type: ignore[no-untyped-call]
    return RedisBroker(sentinels.master_for(SERVICE), lease=12, enqueue_timeout=30)


def with_dead_sentinels(watched: Watched) -> RedisBroker:
    dead = ",".join(f"127.0.0.1:{free_port()}" for _ in range(2))
    return RedisBroker(f"redis+sentinel://{dead},{watched.hosts}/{SERVICE}", lease=12, enqueue_timeout=30)


@pytest.mark.parametrize("make", [by_url, by_client, with_dead_sentinels])
async def test_jobs_of_several_queues_run_end_to_end(
    watched: Watched, namespace: str, make: Callable[[Watched], RedisBroker]
) -> None:
    work = Work(make(watched), namespace, QUEUES)
    async with work.engine:
        await work.schedule_all(range(20))
        await work.engine.start_workers(10, QUEUES, block=False)
        await work.schedule_all(range(20, 40))
        await work.done()
    assert sum(work.runs.values()) == 40 * len(QUEUES)


async def test_no_job_is_lost_or_run_twice_in_a_failover_under_load(watched: Watched, namespace: str) -> None:
    work = Work(by_url(watched), namespace, QUEUES)
    before = watched.master
    async with work.engine:
        await work.engine.start_workers(10, QUEUES, block=False)
        load = asyncio.create_task(work.schedule_all(range(300)))
        await until(lambda: len(work.runs) > 60, "there is load")
        await to_thread.run_sync(fail_over, watched)
        await until(lambda: watched.master is not before, "the other is the master", timeout=20)
        await load
        await work.done()
    assert sum(work.runs.values()) == 300 * len(QUEUES)


def fail_over(watched: Watched) -> None:
    """Promote the replica, once it has all acknowledged writes."""
    with watched.master.client() as master:
        master.client_pause(20_000, all=False)  # pauses writes, until the master is demoted
        assert master.wait(1, 10_000) == 1
    watched.sentinels[0].ask("FAILOVER", SERVICE)


async def test_workers_resume_when_the_master_crashes(watched: Watched, namespace: str) -> None:
    work = Work(by_url(watched), namespace, QUEUES)
    victim = watched.master
    async with work.engine:
        await work.engine.start_workers(10, QUEUES, block=False)
        await work.schedule_all(range(20))
        await work.done()
        try:
            victim.kill()
            # Calls under way may be lost with it; later jobs are scheduled and run.
            async with asyncio.timeout(15):
                await work.schedule_all(range(20, 40))
                await until(lambda: not work.missing(), "every job ran", timeout=15, show=work.missing)
            assert watched.master is not victim
        finally:
            victim.start()
    assert work.runs == work.scheduled


async def test_workers_keep_running_when_all_sentinels_hang(watched: Watched, namespace: str) -> None:
    work = Work(by_url(watched), namespace, QUEUES)
    async with work.engine:
        await work.engine.start_workers(10, QUEUES, block=False)
        await work.schedule_all(range(10))
        for sentinel in watched.sentinels:
            sentinel.server.pause()
        try:
            await work.schedule_all(range(10, 20))
            await work.done()
        finally:
            for sentinel in watched.sentinels:
                sentinel.server.resume()


@pytest.fixture
def sentinel_user(watched: Watched) -> Iterator[Watched]:
    """Sentinels with a user and password of their own."""
    for sentinel in watched.sentinels:
        raw(sentinel.port, "ACL", "SETUSER", "asker", "on", ">secret", "allcommands")
    yield watched
    for sentinel in watched.sentinels:
        raw(sentinel.port, "ACL", "DELUSER", "asker")


def with_user_by_url(watched: Watched, password: str) -> RedisBroker:
    return RedisBroker(f"{watched.url}?sentinel_username=asker&sentinel_password={password}")


def with_user_by_client(watched: Watched, password: str) -> RedisBroker:
    user = {"username": "asker", "password": password}
    hosts = [("127.0.0.1", sentinel.port) for sentinel in watched.sentinels]
    return RedisBroker(Client(hosts, sentinel_kwargs=user).master_for(SERVICE))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("make", [with_user_by_url, with_user_by_client])
async def test_sentinels_get_their_own_password(
    sentinel_user: Watched, namespace: str, make: Callable[[Watched, str], RedisBroker]
) -> None:
    async with Work(make(sentinel_user, "secret"), namespace, QUEUES).engine:
        pass
    wrong = make(sentinel_user, "canary")
    with pytest.raises(BrokerError) as caught:
        await wrong.open(namespace)
    assert "canary" not in f"{caught.value} {wrong!r}"
    await wrong.aclose()
