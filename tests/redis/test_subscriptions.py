"""Subscriptions over a network that fails: they reconnect by themselves, and have readers learn of losses."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator

import pytest
import redis

from aiospinach import BrokerError, BrokerUnavailable, RedisBroker
from aiospinach.brokers.redis import subscriber, subscriptions
from aiospinach.brokers.subscriptions import Message, Subscription

from ..brokers_under_test import shared_server
from ..faults.network import Network
from ..servers import Server
from ..waiting import until

PATIENCE = 10.0
QUEUE = "mail"


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes times short: of silence, of answers and of lingering."""
    monkeypatch.setattr(subscriber, "SILENT_FOR", 0.1)
    monkeypatch.setattr(subscriber, "ANSWER_WITHIN", 0.2)
    monkeypatch.setattr(subscriber, "LINGERS_FOR", 0.1)
    monkeypatch.setattr(subscriber, "LONGEST_PAUSE", 0.1)


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    async with Network(shared_server().port) as network:
        yield network


@pytest.fixture
async def broker(network: Network, namespace: str) -> AsyncIterator[RedisBroker]:
    """A broker whose subscriptions go through the network."""
    broker = RedisBroker(network.url)
    await broker.open(namespace)
    yield broker
    await broker.aclose()


@pytest.fixture
async def publisher(namespace: str) -> AsyncIterator[RedisBroker]:
    """A broker with a direct connection."""
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    yield broker
    await broker.aclose()


async def message_after_losses(subscription: Subscription) -> Message:
    """The next message; before it, messages may have been lost."""
    async with asyncio.timeout(PATIENCE):
        while (message := await subscription.next(PATIENCE)) is None:
            pass
    return message


def subscribers_of(client: redis.Redis, namespace: str, channel: str = "a") -> int:
    """How many connections are subscribed to a channel."""
    [(_, count)] = client.pubsub_shardnumsub(f"ais2:{{{namespace}:{QUEUE}}}:{channel}")
    return int(count)


def connections_subscribed(client: redis.Redis) -> int:
    """How many connections of the whole server are subscribed."""
    return sum(int(each["ssub"]) > 0 for each in client.client_list())


FAULTS = {
    "cut": lambda network: network.cut(),
    "half-open": lambda network: network.make_half_open(),
    "end-of-file": lambda network: network.half_close(),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("brief")
async def test_a_lost_connection_is_replaced_and_each_reader_learns_of_it_once(
    network: Network, broker: RedisBroker, publisher: RedisBroker, fault: str
) -> None:
    async with broker.subscribe(QUEUE) as one, broker.subscribe("other") as other:
        await one.add(["a", "b"])
        await other.add(["a"])
        made = network.connections_made
        FAULTS[fault](network)
        await until(lambda: network.connections_made > made, "it is replaced")
        async with asyncio.timeout(PATIENCE):
            assert await one.next(600) is None
            assert await other.next(600) is None
        for channel in ("a", "b"):
            await publisher.publish(QUEUE, channel, b"later")
            assert await one.next(PATIENCE) == Message(channel, b"later")
        await publisher.publish("other", "a", b"later")
        assert await other.next(PATIENCE) == Message("a", b"later")


def test_a_silently_dropped_connection_is_found_within_ten_seconds() -> None:
    assert subscriber.SILENT_FOR + subscriber.ANSWER_WITHIN < 10 - subscriber.SHORTEST_PAUSE


@pytest.mark.usefixtures("brief")
async def test_an_idle_connection_is_kept(
    network: Network, broker: RedisBroker, publisher: RedisBroker
) -> None:
    async with broker.subscribe(QUEUE) as subscription:
        await subscription.add(["a"])
        made = network.connections_made
        pings = network.calls[b"PING"]
        await until(lambda: network.calls[b"PING"] > pings + 3, "it is tested several times")
        assert network.connections_made == made
        await publisher.publish(QUEUE, "a", b"")
        assert await subscription.next(PATIENCE) == Message("a", b"")


@pytest.mark.usefixtures("brief")
async def test_a_server_that_is_away_is_waited_for_with_pauses(
    network: Network, broker: RedisBroker, publisher: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "ADD_WITHIN", 0.5)
    async with broker.subscribe(QUEUE) as subscription:
        await subscription.add(["a"])
        network.refuse()
        with pytest.raises(BrokerUnavailable, match="does not answer"):
            await subscription.add(["b"])
        await network.accept()
        assert await subscription.next(PATIENCE) is None
        for channel in ("a", "b"):  # it is still wanted
            await publisher.publish(QUEUE, channel, b"")
            assert await message_after_losses(subscription) == Message(channel, b"")


@pytest.mark.usefixtures("brief")
async def test_the_first_channels_are_wanted_while_the_server_is_away(
    network: Network, broker: RedisBroker, publisher: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "ADD_WITHIN", 0.3)
    network.partition()
    async with broker.subscribe(QUEUE) as subscription:
        with pytest.raises(BrokerUnavailable):
            await subscription.add(["a"])
        network.heal()
        assert await subscription.next(PATIENCE) is None
        await publisher.publish(QUEUE, "a", b"")
        assert await message_after_losses(subscription) == Message("a", b"")


@pytest.mark.usefixtures("brief")
async def test_a_confirmation_that_never_comes_ends_the_connection(
    network: Network, broker: RedisBroker, publisher: RedisBroker
) -> None:
    async with broker.subscribe(QUEUE) as subscription:
        await subscription.add(["a"])
        lost = iter([True])
        network.lose_answers(lambda name, _: name == b"SSUBSCRIBE" and next(lost, False))
        await subscription.add(["b"])
        await publisher.publish(QUEUE, "b", b"")
        assert await message_after_losses(subscription) == Message("b", b"")


async def test_all_subscriptions_of_a_loop_share_one_connection(
    network: Network, broker: RedisBroker, own_server: Server, namespace: str
) -> None:
    broker = RedisBroker(own_server.url)
    await broker.open(namespace)
    with own_server.client() as client:
        open_subscriptions = [broker.subscribe(f"queue-{number % 50}") for number in range(200)]
        await asyncio.gather(*(each.add(["a", "b"]) for each in open_subscriptions))
        assert connections_subscribed(client) == 1
        assert len(client.client_list()) <= 3
        for each in open_subscriptions:
            await each.aclose()
        await until(lambda: len(client.client_list()) <= 2, "it is closed a little later")
    await broker.aclose()


@pytest.mark.usefixtures("brief")
async def test_a_connection_without_channels_is_closed_and_made_again(
    broker: RedisBroker, network: Network, publisher: RedisBroker
) -> None:
    before = network.connections
    for _ in range(3):
        async with broker.subscribe(QUEUE) as subscription:
            await subscription.add(["a"])
            await publisher.publish(QUEUE, "a", b"")
            assert await subscription.next(PATIENCE) == Message("a", b"")
        await until(lambda: network.connections <= before, "it is closed", show=lambda: network.connections)


async def test_a_connection_is_used_again_soon_after_its_last_channel(
    broker: RedisBroker, network: Network
) -> None:
    async with broker.subscribe(QUEUE) as first:
        await first.add(["a"])
    made = network.connections_made
    for _ in range(20):
        async with broker.subscribe(QUEUE) as subscription:
            await subscription.add(["a"])
    assert network.connections_made == made


async def test_a_channel_that_is_added_while_the_connection_is_closed_gets_another(
    broker: RedisBroker, publisher: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "ADD_WITHIN", 2.0)
    async with broker.subscribe(QUEUE) as first:
        await first.add(["a"])
    [shared] = broker._calls.subscriptions()._subscribers.values()
    shared._check()  # the time without channels is over
    async with broker.subscribe(QUEUE) as subscription:
        await subscription.add(["a"])
        await publisher.publish(QUEUE, "a", b"")
        assert await message_after_losses(subscription) == Message("a", b"")


async def test_a_channel_is_left_when_its_last_reader_leaves(
    broker: RedisBroker, plain: redis.Redis, namespace: str
) -> None:
    async with broker.subscribe(QUEUE) as one, broker.subscribe(QUEUE) as another:
        await one.add(["a"])
        await another.add(["a"])
        await one.remove(["a"])
        assert subscribers_of(plain, namespace) == 1
        await another.remove(["a"])
        await until(lambda: subscribers_of(plain, namespace) == 0)
        await another.add(["a"])
        assert subscribers_of(plain, namespace) == 1


async def test_many_channels_take_few_commands(
    network: Network, broker: RedisBroker, publisher: RedisBroker
) -> None:
    channels = [f"done:{number}" for number in range(10_000)]
    async with broker.subscribe(QUEUE) as subscription:
        await subscription.add(["first"])
        with shared_server().client() as client:
            client.config_resetstat()
            await subscription.add(channels)
            calls = client.info("commandstats")["cmdstat_ssubscribe"]["calls"]
        assert calls == 20
        await publisher.publish(QUEUE, channels[-1], b"x")
        message = await subscription.next(PATIENCE)
        assert message is not None, "the connection was not given up"
        await subscription.remove(channels)


@pytest.mark.large
@pytest.mark.usefixtures("brief")
async def test_no_message_is_missed_unnoticed_while_connections_are_cut(
    network: Network, broker: RedisBroker, publisher: RedisBroker
) -> None:
    """After each message a reader either receives it, or learns of a loss."""
    generator = random.Random(1)
    async with broker.subscribe(QUEUE) as subscription:
        await subscription.add(["a"])
        lost = 0
        for number in range(100):
            if generator.random() < 0.2:
                network.cut()
            data = str(number).encode()
            await publisher.publish(QUEUE, "a", data)
            async with asyncio.timeout(PATIENCE):
                while (message := await subscription.next(PATIENCE)) is not None and message.data != data:
                    pass
            lost += message is None
        assert lost > 0


async def test_a_user_without_a_right_on_channels_is_refused(own_server: Server, namespace: str) -> None:
    with own_server.client() as client:
        client.execute_command("ACL", "SETUSER", "shop", "on", ">secret", "~*", "resetchannels", "+@all")
        broker = RedisBroker(f"redis://shop:secret@127.0.0.1:{own_server.port}/0")
        await broker.open(namespace)
        async with broker.subscribe(QUEUE) as subscription, broker.subscribe("other") as other:
            for each in (subscription, other):
                with pytest.raises(BrokerError, match=r"&ais2:\{.*:\*\}:\*") as caught:
                    await each.add(["a"])
                assert not isinstance(caught.value, BrokerUnavailable)
            client.execute_command("ACL", "SETUSER", "shop", f"&ais2:{{{namespace}:*}}:*")
            await subscription.add(["a"])
            await broker.publish(QUEUE, "a", b"allowed")
            assert await message_after_losses(subscription) == Message("a", b"allowed")
        await broker.aclose()


async def test_a_broker_that_is_closed_ends_its_subscriptions(broker: RedisBroker, network: Network) -> None:
    subscription = broker.subscribe(QUEUE)
    await subscription.add(["a"])
    await broker.aclose()
    await until(lambda: network.connections == 0)
    assert await subscription.next(0.01) is None
    with pytest.raises(BrokerUnavailable, match="closed"):
        await subscription.add(["b"])
    await subscription.aclose()
    async with broker.subscribe(QUEUE) as another:  # the broker may be used again
        await another.add(["a"])


IN_LOOPS = """
import asyncio, sys
from aiospinach import RedisBroker

url, namespace, how = sys.argv[1:]
broker = RedisBroker(url)

async def use():
    await broker.open(namespace)
    subscription = broker.subscribe("mail")
    await subscription.add(["a"])
    assert await subscription.next(0) is None

for _ in range(4):
    if how == "run":
        asyncio.run(use())
    else:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(use())
        loop.close()
print(len(broker._calls._loops), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("how", "left"), [("run", 0), ("merely closed", 1)])
async def test_an_ended_loop_leaves_no_connection(
    namespace: str, own_server: Server, how: str, left: int
) -> None:
    """A loop that was merely closed is given up by the next one. No task is destroyed while it waits."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IN_LOOPS, own_server.url, namespace, how),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert int(await process.stdout.readline()) == left
    with own_server.client() as client:
        await until(lambda: connections_subscribed(client) == left)
    _, errors = await process.communicate(b"")
    assert process.returncode == 0
    # Old releases of redis-py complain when they collect a connection of a closed loop.
    assert not errors or b"AbstractConnection.__del__" in errors, errors.decode()
    assert b"Task was destroyed" not in errors


IN_A_CHILD = """
import asyncio, os, sys
from aiospinach import RedisBroker

url, namespace, how = sys.argv[1:]
broker = RedisBroker(url)
loop = asyncio.new_event_loop()

async def subscribed():
    await broker.open(namespace)
    subscription = broker.subscribe("mail")
    await subscription.add(["a"])
    return subscription

async def heard(subscription, data):
    await broker.publish("mail", "a", data)
    async with asyncio.timeout(10):
        while (message := await subscription.next(10)) is None or message.data != data:
            pass

subscription = loop.run_until_complete(subscribed())
child = os.fork()
if child == 0:
    async def in_child():
        await asyncio.sleep(1)  # the parent's timers are in this loop as well
        own = await subscribed()
        await heard(own, b"child")
        await own.aclose()
        await subscription.aclose()  # the parent's: it ends quietly
        await broker.aclose()
    try:
        loop.run_until_complete(in_child()) if how == "same" else asyncio.run(in_child())
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)
loop.run_until_complete(heard(subscription, b"parent"))
assert os.waitpid(child, 0)[1] == 0
loop.run_until_complete(heard(subscription, b"parent again"))
loop.run_until_complete(broker.aclose())
loop.close()
"""


@pytest.mark.parametrize("how", ["same", "new"])
async def test_a_forked_child_has_its_own_connection(namespace: str, how: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IN_A_CHILD, shared_server().url, namespace, how),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")


async def test_many_threads_subscribe_and_publish(namespace: str) -> None:
    broker = RedisBroker(shared_server().unix_url)
    ready: list[int] = []

    async def talk(number: int) -> int:
        await broker.open(namespace)
        async with broker.subscribe(QUEUE) as subscription:
            await subscription.add([f"to:{number}", "all"])
            ready.append(number)
            await until(lambda: len(ready) == 4)
            await broker.publish(QUEUE, "all", b"")
            await broker.publish(QUEUE, f"to:{(number + 1) % 4}", b"")
            return len([await subscription.next(PATIENCE) for _ in range(5)])

    heard = await asyncio.gather(*(asyncio.to_thread(asyncio.run, talk(number)) for number in range(4)))
    assert heard == [5] * 4
