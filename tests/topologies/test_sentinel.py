"""A master that Sentinels name: jobs run, and go on when another server becomes the master."""

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
from .working import Work

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


async def test_a_planned_failover_under_load_loses_and_doubles_nothing(
    watched: Watched, namespace: str
) -> None:
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
    """Make the replica the master, when it has all that the master has acknowledged."""
    with watched.master.client() as master:
        master.client_pause(20_000, all=False)  # of writes; it ends when the master is demoted
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
            # It may take what was under way with it; but what is scheduled now returns, and runs.
            async with asyncio.timeout(15):
                await work.schedule_all(range(20, 40))
                await until(lambda: not work.missing(), "every job ran", timeout=15, show=work.missing)
            assert watched.master is not victim
        finally:
            victim.start()
    assert work.runs == work.scheduled


async def test_workers_go_on_when_all_sentinels_hang(watched: Watched, namespace: str) -> None:
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
def asker(watched: Watched) -> Iterator[Watched]:
    """The Sentinels know a user of a password of its own."""
    for sentinel in watched.sentinels:
        raw(sentinel.port, "ACL", "SETUSER", "asker", "on", ">secret", "allcommands")
    yield watched
    for sentinel in watched.sentinels:
        raw(sentinel.port, "ACL", "DELUSER", "asker")


def asking_by_url(watched: Watched, password: str) -> RedisBroker:
    return RedisBroker(f"{watched.url}?sentinel_username=asker&sentinel_password={password}")


def asking_by_client(watched: Watched, password: str) -> RedisBroker:
    user = {"username": "asker", "password": password}
    hosts = [("127.0.0.1", sentinel.port) for sentinel in watched.sentinels]
    return RedisBroker(Client(hosts, sentinel_kwargs=user).master_for(SERVICE))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("make", [asking_by_url, asking_by_client])
async def test_sentinels_are_asked_with_the_password_that_is_theirs(
    asker: Watched, namespace: str, make: Callable[[Watched, str], RedisBroker]
) -> None:
    async with Work(make(asker, "secret"), namespace, QUEUES).engine:
        pass
    wrong = make(asker, "canary")
    with pytest.raises(BrokerError) as caught:
        await wrong.open(namespace)
    assert "canary" not in f"{caught.value} {wrong!r}"
    await wrong.aclose()
