"""Channels on a Cluster and behind Sentinels: a moved slot and a new master are followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from anyio import to_thread

from aiospinach import Broker, BrokerError, RedisBroker
from aiospinach.brokers.reports import WorkerReport
from aiospinach.brokers.subscriptions import Message, Subscription

from ..waiting import until
from .conftest import Cluster, Watched, raw, slot_of, spread, wait_for
from .test_cluster import move
from .test_sentinel import fail_over

pytestmark = pytest.mark.large

PATIENCE = 20.0


@pytest.fixture
async def broker(cluster: Cluster, namespace: str) -> AsyncIterator[Broker]:
    broker = RedisBroker(cluster.url)
    await broker.open(namespace)
    yield broker
    await broker.aclose()


async def subscribed(broker: Broker, queues: Sequence[str]) -> dict[str, Subscription]:
    found = {queue: broker.subscribe(queue) for queue in queues}
    await asyncio.gather(*(subscription.add(["a", "b"]) for subscription in found.values()))
    return found


def subscribers(cluster: Cluster) -> list[int]:
    """How many connections of each server are subscribed."""
    return [
        sum(" ssub=" in line and " ssub=0" not in line for line in clients.splitlines())
        for server in cluster.servers
        if (clients := cluster.ask(server, "CLIENT", "LIST"))
    ]


async def arrives(publisher: Broker, queue: str, subscription: Subscription) -> None:
    """Publish until a message arrives: what is published while a server changes may be lost."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await publisher.publish(queue, "b", b"here")
            except BrokerError:
                await asyncio.sleep(0.1)
                continue
            if await subscription.next(0.2) == Message("b", b"here"):
                break
    while await subscription.next(0.05) is not None:
        pass


async def test_there_is_one_connection_to_each_master_that_has_a_queue(
    cluster: Cluster, broker: Broker, namespace: str
) -> None:
    queues = spread(cluster, namespace, 12)
    by_queue = await subscribed(broker, queues)
    assert subscribers(cluster) == [1, 1, 1]
    for queue, subscription in by_queue.items():
        await broker.publish(queue, "b", queue.encode())
        assert await subscription.next(PATIENCE) == Message("b", queue.encode())
        await subscription.aclose()
    await until(lambda: subscribers(cluster) == [0, 0, 0])


async def test_many_channels_of_a_queue_are_added_on_a_cluster(
    cluster: Cluster, broker: Broker, namespace: str
) -> None:
    async with broker.subscribe("mail") as subscription:
        channels = [f"done:{number}" for number in range(3000)]
        await subscription.add(channels)
        await broker.publish("mail", channels[-1], b"")
        assert await subscription.next(PATIENCE) == Message(channels[-1], b"")


async def test_a_moved_slot_is_followed(cluster: Cluster, broker: Broker, namespace: str) -> None:
    moved, *others = spread(cluster, namespace, 3)
    by_queue = await subscribed(broker, [moved, *others])
    with_keys = RedisBroker(cluster.url)
    await with_keys.open(namespace)
    await with_keys.register(moved, {"task": 1}, {})
    await with_keys.sweep([moved], WorkerReport("worker"))
    slot = slot_of(cluster, namespace, moved)
    await move(cluster, slot)
    assert await by_queue[moved].next(PATIENCE) is None
    for queue, subscription in by_queue.items():
        await arrives(with_keys, queue, subscription)
    async with broker.subscribe(moved) as later:
        await later.add(["c"])
        await broker.publish(moved, "c", b"")
        assert await later.next(PATIENCE) == Message("c", b"")
    for subscription in by_queue.values():
        await subscription.aclose()
    await with_keys.flush(moved)
    await with_keys.aclose()


async def test_a_master_that_is_replaced_or_restarted_is_followed(
    cluster: Cluster, broker: Broker, namespace: str
) -> None:
    queues = spread(cluster, namespace, 3)
    by_queue = await subscribed(broker, queues)
    victim = cluster.owner(slot_of(cluster, namespace, queues[0]))
    victim.kill()
    victim.start()
    for queue, subscription in by_queue.items():
        await arrives(broker, queue, subscription)
        await subscription.aclose()


async def test_another_master_is_found_through_sentinels(watched: Watched, namespace: str) -> None:
    before = watched.master
    broker = RedisBroker(watched.url, enqueue_timeout=20)
    await broker.open(namespace)
    async with broker.subscribe("mail") as subscription:
        await subscription.add(["a", "b"])
        await arrives(broker, "mail", subscription)
        await to_thread.run_sync(fail_over, watched)
        await until(lambda: watched.master is not before, "the other is the master", timeout=20)
        await arrives(broker, "mail", subscription)
    await broker.aclose()
    wait_for(watched.is_whole, "the old master follows the new one")


async def test_a_crashed_master_is_left_for_the_one_that_sentinels_name(
    watched: Watched, namespace: str
) -> None:
    victim = watched.master
    broker = RedisBroker(watched.url, enqueue_timeout=20)
    await broker.open(namespace)
    try:
        async with broker.subscribe("mail") as subscription:
            await subscription.add(["a", "b"])
            victim.kill()
            await arrives(broker, "mail", subscription)
            assert watched.master is not victim
            replies = raw(watched.master.port, "PUBSUB", "SHARDNUMSUB", f"ais2:{{{namespace}:mail}}:a")
            assert replies[1] == 1
    finally:
        victim.start()
        await broker.aclose()
