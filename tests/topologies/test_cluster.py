"""A Cluster of three masters: jobs of all queues run, also while slots move and masters fail."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import redis.asyncio
from anyio import to_thread
from redis.asyncio.cluster import ClusterNode

from aiospinach import BrokerUnavailable, JobStatus, RedisBroker
from aiospinach.brokers.records import Envelope

from ..asking import cancel
from ..redis.test_forks import USED_LOOP
from ..servers import Server
from ..waiting import until
from .conftest import Cluster, slot_of, spread
from .load import Work

pytestmark = pytest.mark.large


def by_url(cluster: Cluster) -> RedisBroker:
    return RedisBroker(cluster.url, lease=12, enqueue_timeout=30)


def by_client(cluster: Cluster) -> RedisBroker:
    nodes = [ClusterNode("127.0.0.1", server.port) for server in cluster.servers]
    return RedisBroker(redis.asyncio.RedisCluster(startup_nodes=nodes), lease=12, enqueue_timeout=30)


def keys_in(cluster: Cluster, server: Server, slot: int) -> list[str]:
    found: list[str] = cluster.ask(server, "CLUSTER GETKEYSINSLOT", slot, 1000)
    return found


async def move(cluster: Cluster, slot: int, *, halfway: Callable[[], object] = lambda: True) -> None:
    """Move a slot to the next master; wait for ``halfway`` when half of its keys have moved."""

    async def ask(server: Server, *command: object) -> object:
        return await to_thread.run_sync(cluster.ask, server, *command)

    source = cluster.owner(slot)
    target = cluster.servers[(cluster.servers.index(source) + 1) % len(cluster.servers)]
    await ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", cluster.id_of(source))
    await ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", cluster.id_of(target))
    keys = await to_thread.run_sync(keys_in, cluster, source, slot)
    assert len(keys) > 1
    for part in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
        await ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *part)
        await until(halfway, "halfway")
    while keys := await to_thread.run_sync(keys_in, cluster, source, slot):
        await ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    for server in (target, source, *cluster.servers):
        await ask(server, "CLUSTER SETSLOT", slot, "NODE", cluster.id_of(target))
    await until(lambda: cluster.owner(slot) is target, "the slot has moved")


@pytest.mark.parametrize("make", [by_url, by_client])
async def test_jobs_run_on_all_masters(
    cluster: Cluster, namespace: str, make: Callable[[Cluster], RedisBroker]
) -> None:
    work = Work(make(cluster), namespace, spread(cluster, namespace))
    assert {cluster.owner(slot_of(cluster, namespace, queue)) for queue in work.queues} == {*cluster.servers}
    async with work.engine:
        await work.schedule_all(range(20))
        await work.engine.start_workers(10, work.queues, block=False)
        await work.schedule_all(range(20, 40))
        await work.done()
        overview = await work.engine.overview()
    assert sum(work.runs.values()) == 40 * len(work.queues)
    assert {name: queue.slots for name, queue in overview.queues.items()} == dict.fromkeys(work.queues, 10)
    assert len(overview.workers) == 1


async def test_a_job_is_cancelled_while_many_run(cluster: Cluster, namespace: str) -> None:
    broker = by_url(cluster)
    await broker.open(namespace)
    await broker.enqueue("default", [Envelope(f"job-{number}", "job", b"[[],{}]") for number in range(1500)])
    leases = [lease for _ in range(15) for lease in (await broker.exchange("default", [], 100)).leases]
    await broker.enqueue("default", [Envelope("queued", "job", b"[[],{}]")])
    assert (await cancel(broker, "default", "queued")).status is JobStatus.QUEUED
    assert (await cancel(broker, "default", leases[700].job.id)).status is JobStatus.RUNNING
    assert (await broker.renew("default", [lease.id for lease in leases])).cancelled == [leases[700].id]
    await broker.flush("default")
    await broker.aclose()


async def test_an_idle_worker_is_woken_for_each_queue(cluster: Cluster, namespace: str) -> None:
    queues = spread(cluster, namespace)
    broker, producer = by_url(cluster), by_url(cluster)
    await broker.open(namespace)
    await producer.open(namespace)
    waits = {queue: asyncio.create_task(broker.wait([queue], 40)) for queue in queues}
    await until(lambda: blocked_clients(cluster) == len(queues), "it waits on every queue")
    for queue in queues:
        await producer.enqueue(queue, [Envelope(f"of {queue}", "task", b"[[],{}]")])
        assert await waits.pop(queue) == queue
        assert not any(wait.done() for wait in waits.values())
    for queue in queues:
        await broker.flush(queue)
    await broker.aclose()
    await producer.aclose()


async def test_no_wake_up_is_lost_when_two_queues_get_jobs_at_once(cluster: Cluster, namespace: str) -> None:
    queues = spread(cluster, namespace)
    broker, producer = by_url(cluster), by_url(cluster)
    await broker.open(namespace)
    await producer.open(namespace)
    assert broker.spans(queues) == [(queue,) for queue in queues], "no call spans two queues"
    for number in range(10):
        waits = [asyncio.create_task(broker.wait([queue], 40)) for queue in queues]
        await until(lambda: blocked_clients(cluster) == len(queues), "it waits on every queue")
        job = Envelope(f"job-{number}", "task", b"[[],{}]")
        await asyncio.gather(*(producer.enqueue(queue, [job]) for queue in queues))
        assert await asyncio.gather(*waits) == queues
        for queue in queues:
            await broker.flush(queue)
    await broker.aclose()
    await producer.aclose()


def blocked_clients(cluster: Cluster) -> int:
    total = 0
    for server in cluster.servers:
        with server.client() as client:
            total += client.info("clients")["blocked_clients"]
    return total


def connections_made(cluster: Cluster) -> int:
    total = 0
    for server in cluster.servers:
        with server.client() as client:
            total += client.info("stats")["total_connections_received"] - 1  # without this connection
    return total


@pytest.mark.parametrize("count", [1, 2, 10, 30])
async def test_a_worker_makes_no_new_connection_for_bursts_of_jobs(
    cluster: Cluster, namespace: str, count: int
) -> None:
    work = Work(by_url(cluster), namespace, [f"queue-{number}" for number in range(count)])
    async with work.engine:
        await work.engine.start_workers(32, work.queues, block=False)
        await work.schedule_all(range(10))  # all queues at once, so that all needed connections exist
        await work.done()
        await until(lambda: blocked_clients(cluster) == count, "it waits on every queue")
        before = connections_made(cluster)
        looks = 1
        for number in range(10, 40):
            await work.schedule(work.queues[number % count], number)
            await until(lambda: not work.missing(), "it runs")
        await work.schedule_all(range(40, 50))
        await work.done()
        made = connections_made(cluster) - before - looks * len(cluster.servers)
        # Calls that are concurrent for the first time need one more, but jobs do not.
        assert made <= 3, f"{made} connections for {30 + 10 * count} jobs"


async def test_no_job_is_lost_or_run_twice_when_a_slot_moves_under_load(
    cluster: Cluster, namespace: str
) -> None:
    work = Work(by_url(cluster), namespace, spread(cluster, namespace))
    moved = work.queues[0]
    slot = slot_of(cluster, namespace, moved)
    before = cluster.owner(slot)
    async with work.engine:
        await work.engine.start_workers(10, work.queues, block=False)
        load = asyncio.create_task(work.schedule_all(range(300)))
        await until(lambda: work.runs[f"{moved}/20"], "there is load")
        seen = sum(work.runs.values())
        await move(cluster, slot, halfway=lambda: sum(work.runs.values()) > seen)
        await load
        await work.done()
    assert cluster.owner(slot) is not before
    assert sum(work.runs.values()) == 300 * len(work.queues)


async def test_an_idle_worker_is_woken_after_its_slot_has_moved(cluster: Cluster, namespace: str) -> None:
    [queue, *_] = spread(cluster, namespace)
    work = Work(by_url(cluster), namespace, [queue])
    async with work.engine:
        await work.engine.start_workers(2, queue, block=False)
        await work.schedule_all(range(10))
        await work.done()
        await until(lambda: blocked_clients(cluster) == 1, "the worker waits")
        await move(cluster, slot_of(cluster, namespace, queue))
        await work.schedule_all(range(10, 20))
        await work.done()


async def test_a_crashed_master_stops_its_own_queues_only_and_no_job_is_lost(
    cluster: Cluster, namespace: str
) -> None:
    work = Work(by_url(cluster), namespace, spread(cluster, namespace))
    lost, *_ = work.queues
    victim = cluster.owner(slot_of(cluster, namespace, lost))
    others = [q for q in work.queues if cluster.owner(slot_of(cluster, namespace, q)) is not victim]
    async with work.engine:
        # The workers also consume queues of the victim, which must not delay the others.
        await work.engine.start_workers(5, work.queues, block=False)
        await work.schedule_all(range(20))
        await work.done()
        victim.kill()
        try:
            for number in range(20, 40):
                await asyncio.gather(*(work.schedule(queue, number) for queue in others))
            await work.schedule_soon(others[0], 40)
            await until(lambda: not work.missing(), "the others are served", timeout=30, show=work.missing)
        finally:
            victim.start()
        await work.schedule_all(range(50, 60))  # scheduling is retried until the master answers
        await work.done()


async def test_workers_resume_when_a_master_restarts_under_load(cluster: Cluster, namespace: str) -> None:
    work = Work(by_url(cluster), namespace, spread(cluster, namespace))
    victim = cluster.owner(slot_of(cluster, namespace, work.queues[0]))
    async with work.engine:
        await work.engine.start_workers(10, work.queues, block=False)
        load = asyncio.create_task(work.schedule_all(range(200)))
        await until(lambda: len(work.runs) > 100, "there is load")
        victim.kill()
        victim.start()
        await load
        await work.done()
    assert sum(work.runs.values()) == 200 * len(work.queues)


async def test_workers_survive_an_unreachable_cluster(
    cluster: Cluster, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(by_url(cluster), namespace, spread(cluster, namespace, 3))
    other_broker = by_url(cluster)
    async with work.engine:
        await work.engine.start_workers(5, work.queues, block=False)
        await work.schedule_all(range(10))
        await work.done()
        try:
            for server in cluster.servers:
                server.kill()
            with pytest.raises(BrokerUnavailable, match="is it running"):
                await other_broker.open(namespace)
            load = asyncio.create_task(work.schedule_all(range(10, 20)))
            await until(lambda: "trying on" in caplog.text, "the workers have noticed")
            assert not load.done()
        finally:
            for server in cluster.servers:
                if server.process is None:
                    server.start()
        await load
        await work.done()
    await other_broker.aclose()
    assert not [r for r in caplog.records if r.levelname == "CRITICAL"]


async def test_a_loop_used_before_a_fork_can_be_used_after_it(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    forks, jobs, path = 3, 20, tmp_path / "ran"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", USED_LOOP, cluster.url, namespace, str(path), str(forks), str(jobs)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert errors.decode() == ""
    assert int(out) == (forks + 3) * jobs
    ran = Counter(path.read_text().split())
    assert ran == Counter(f"{who}/{number}" for who in range(-2, 1 + forks) for number in range(jobs))
