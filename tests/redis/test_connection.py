"""One connection: calls go out at once, and each caller gets the answer to its own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aiospinach import BrokerError, BrokerUnavailable
from aiospinach.brokers.redis.connection import ServerConnection
from aiospinach.brokers.redis.endpoints import endpoint_of
from aiospinach.brokers.redis.errors import Unanswered
from aiospinach.brokers.redis.transports import DirectTransport

from ..servers import Server
from ..waiting import until
from .proxy import Proxy


def channel_to(port: int, database: int = 0) -> ServerConnection:
    transport = endpoint_of(f"redis://127.0.0.1:{port}/{database}").transport()
    assert isinstance(transport, DirectTransport)
    return transport._work


@pytest.fixture
async def channel(own_server: Server) -> AsyncIterator[ServerConnection]:
    channel = channel_to(own_server.port)
    await channel.call("PING", timeout=5)
    yield channel
    await channel.aclose()


def under_way(channel: ServerConnection) -> int:
    """How many calls were sent on its connection, and are not answered."""
    return 0 if channel._protocol is None else len(channel._protocol._calls)


async def a_hundred_under_way(channel: ServerConnection, server: Server) -> list[asyncio.Task[bytes]]:
    """Calls that were sent to a server which does not go on yet; each is to be told its number."""
    server.pause()
    calls = [asyncio.create_task(channel.call("ECHO", str(number), timeout=5)) for number in range(100)]
    await until(lambda: under_way(channel) == 100)
    return calls


async def test_calls_of_many_callers_are_under_way_together_and_each_gets_its_own_answer(
    channel: ServerConnection, own_server: Server
) -> None:
    calls = await a_hundred_under_way(channel, own_server)
    assert not any(call.done() for call in calls)
    own_server.go_on()
    assert await asyncio.gather(*calls) == [str(number).encode() for number in range(100)]
    with own_server.client() as client:
        assert len(client.client_list()) == 2, "one connection, and that of who asks"


async def test_the_first_callers_share_one_connection(own_server: Server) -> None:
    channel = channel_to(own_server.port)
    await asyncio.gather(*(channel.call("PING", timeout=5) for _ in range(20)))
    with own_server.client() as client:
        assert len(client.client_list()) == 2
    await channel.aclose()


async def test_nobody_gets_the_answer_of_a_caller_who_was_cancelled(
    channel: ServerConnection, own_server: Server
) -> None:
    calls = await a_hundred_under_way(channel, own_server)
    for call in calls[::2]:
        call.cancel()
    await asyncio.sleep(0)
    own_server.go_on()
    assert await asyncio.gather(*calls[1::2]) == [str(number).encode() for number in range(1, 100, 2)]
    assert await channel.call("ECHO", "last", timeout=5) == b"last"


async def test_a_refusal_is_for_its_caller_alone(channel: ServerConnection) -> None:
    answers = await asyncio.gather(
        channel.call("ECHO", "a", timeout=5),
        channel.call("LPUSH", timeout=5),
        channel.call("ECHO", "b", timeout=5),
        return_exceptions=True,
    )
    assert isinstance(answers[1], BrokerError)
    assert not isinstance(answers[1], BrokerUnavailable)
    assert (answers[0], answers[2]) == (b"a", b"b")


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_call_that_is_overdue_ends_in_time_and_others_have_theirs(
    channel: ServerConnection, own_server: Server, is_first: bool
) -> None:
    """The connection has one timer; the calls under way have their own limits."""
    await channel.call("PING", timeout=30)  # leaves the timer where it is
    own_server.pause()
    limits = (0.1, 30.0) if is_first else (30.0, 0.1)
    calls = {limit: asyncio.create_task(channel.call("ECHO", str(limit), timeout=limit)) for limit in limits}
    with pytest.raises(Unanswered):
        await calls[0.1]
    later = asyncio.create_task(channel.call("ECHO", "later", timeout=30))  # on another connection
    await until(lambda: channel._doubtful)
    assert not calls[30.0].done()
    own_server.go_on()
    assert await calls[30.0] == b"30.0"
    assert await later == b"later"
    assert await channel.call("ECHO", "again", timeout=5) == b"again"
    with own_server.client() as client:
        await until(lambda: len(client.client_list()) == 2, "the doubtful connection is closed")


async def test_a_connection_that_never_answers_is_given_up_with_its_last_call(
    channel: ServerConnection, own_server: Server
) -> None:
    own_server.pause()
    calls = [asyncio.create_task(channel.call("PING", timeout=0.1 + number / 20)) for number in range(3)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Unanswered) for answer in answers)
    own_server.go_on()
    assert await channel.call("ECHO", "again", timeout=5) == b"again"


async def test_callers_who_lose_a_connection_together_disturb_no_other(own_server: Server) -> None:
    async with Proxy(own_server.port) as proxy:
        channel = channel_to(proxy.port)
        for _ in range(10):
            await channel.call("PING", timeout=5)
            proxy.is_black_hole = True
            calls = [
                asyncio.create_task(channel.call("PING", timeout=0.02 + number % 5 / 100))
                for number in range(30)
            ]
            await until(lambda: any(call.done() for call in calls))  # noqa: B023
            proxy.cut()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(answer, BrokerUnavailable) for answer in answers), answers
            proxy.is_black_hole = False
        assert await channel.call("ECHO", "a", timeout=5) == b"a"
        await channel.aclose()


async def test_what_has_no_time_left_is_not_sent(channel: ServerConnection) -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        await channel.call("SET", "key", "value", timeout=0)
    assert not isinstance(caught.value, Unanswered)
    assert await channel.call("GET", "key", timeout=5) is None


async def test_a_channel_that_is_closed_connects_no_more(own_server: Server) -> None:
    channel = channel_to(own_server.port)
    call = asyncio.create_task(channel.call("PING", timeout=5))
    await asyncio.sleep(0)
    await channel.aclose()
    with pytest.raises(BrokerUnavailable):
        await call
    with pytest.raises(BrokerUnavailable):
        await channel.call("PING", timeout=5)
    with own_server.client() as client:
        await until(lambda: len(client.client_list()) == 1)


async def test_a_full_server_says_so_to_who_does_not_log_in(own_server: Server) -> None:
    with own_server.client() as client:
        client.config_set("maxclients", 1)
        channel = channel_to(own_server.port)
        for _ in range(20):
            with pytest.raises(BrokerUnavailable, match="takes no more clients"):
                await channel.call("PING", timeout=5)
        client.config_set("maxclients", 100)
        assert await channel.call("ECHO", "a", timeout=5) == b"a"
        await channel.aclose()


async def test_a_timer_that_calls_left_behind_harms_no_later_call(channel: ServerConnection) -> None:
    await channel.call("PING", timeout=0.2)
    slow = asyncio.create_task(channel.call("BLPOP", "nothing", 0.5, timeout=5))
    assert await slow is None


async def test_the_next_call_after_a_loss_connects_anew(own_server: Server) -> None:
    async with Proxy(own_server.port) as proxy:
        channel = channel_to(proxy.port)
        for _ in range(3):
            assert await channel.call("ECHO", "a", timeout=5) == b"a"
            proxy.cut()
            await until(lambda: channel._protocol is None or channel._protocol.is_lost)
        await channel.aclose()
        gc.collect()  # what was left open would warn now


async def test_a_large_answer_comes_whole(channel: ServerConnection) -> None:
    text = b"x" * 3_000_000
    echoes = await asyncio.gather(*(channel.call("ECHO", text, timeout=20) for _ in range(3)))
    assert echoes == [text] * 3


@asynccontextmanager
async def serving(answer: bytes, database: int = 0) -> AsyncIterator[ServerConnection]:
    """A channel to somebody who says the same to whatever comes."""
    open_ones: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        while await reader.read(65536):
            writer.write(answer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    channel = channel_to(server.sockets[0].getsockname()[1], database)
    try:
        yield channel
    finally:
        await channel.aclose()
        for writer in open_ones:
            writer.close()
        server.close()


async def test_connecting_counts_in_the_time_limit() -> None:
    async with serving(b"", database=1) as silent:  # it does not answer SELECT
        with pytest.raises(BrokerUnavailable, match="does not answer") as caught:
            await silent.call("PING", timeout=0.1)
    assert not isinstance(caught.value, Unanswered), "the call itself was never sent"


async def test_the_time_for_an_answer_begins_when_the_connection_is_up(own_server: Server) -> None:
    """However long logging in takes, the first call has its time, and the new connection stays."""
    own_server.pause()
    channel = channel_to(own_server.port, database=1)
    call = asyncio.create_task(channel.call("BLPOP", "nothing", 0.1, timeout=1, connect_within=30))
    await asyncio.sleep(1.1)  # longer than the answer may take
    own_server.go_on()
    assert await call is None
    protocol = channel._protocol
    assert await channel.call("ECHO", "b", timeout=1, connect_within=30) == b"b"
    assert channel._protocol is protocol
    await channel.aclose()


async def test_connecting_has_a_limit_of_its_own() -> None:
    async with serving(b"", database=1) as silent:
        with pytest.raises(BrokerUnavailable, match="does not answer") as caught:
            await silent.call("PING", timeout=30, connect_within=0.1)
    assert not isinstance(caught.value, Unanswered), "the call itself was never sent"


async def test_workers_connect_however_little_patience_they_have(
    own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiospinach.brokers.redis.transports.WATCHDOG", 0.5)
    own_server.pause()
    transport = endpoint_of(f"redis://127.0.0.1:{own_server.port}/1").transport(patience=0.5)
    calls = [
        asyncio.create_task(transport.worker_call("ECHO", "a")),
        asyncio.create_task(transport.blocking_pop(["nothing"], 0.01)),
    ]
    await asyncio.sleep(0.6)
    own_server.go_on()
    assert await asyncio.gather(*calls) == [b"a", None]
    await transport.aclose()


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+OK\r\n", b"\x00\xff\r\n"])
async def test_what_is_no_answer_of_redis_breaks_the_connection(said: bytes) -> None:
    async with serving(said) as channel:
        if said.startswith(b"+OK"):
            assert await channel.call("PING", timeout=5) == b"OK"
        else:
            with pytest.raises(BrokerUnavailable):
                await channel.call("PING", timeout=5)
        await until(lambda: channel._protocol is None or channel._protocol.is_lost)


async def test_no_timer_is_left_when_it_is_closed(channel: ServerConnection) -> None:
    await channel.call("PING", timeout=30)
    protocol = channel._protocol
    assert protocol is not None
    assert protocol._timer is not None
    timer = protocol._timer
    await channel.aclose()
    assert timer.cancelled()
