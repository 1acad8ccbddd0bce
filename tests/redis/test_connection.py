"""ServerConnection: concurrent calls share one connection, and each caller gets its own answer."""

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


def connection_to(port: int, database: int = 0) -> ServerConnection:
    transport = endpoint_of(f"redis://127.0.0.1:{port}/{database}").transport()
    assert isinstance(transport, DirectTransport)
    return transport._work


@pytest.fixture
async def connection(own_server: Server) -> AsyncIterator[ServerConnection]:
    connection = connection_to(own_server.port)
    await connection.call("PING", timeout=5)
    yield connection
    await connection.aclose()


def under_way(connection: ServerConnection) -> int:
    """The number of calls that were sent and are not answered."""
    return 0 if connection._protocol is None else len(connection._protocol._calls)


async def a_hundred_under_way(connection: ServerConnection, server: Server) -> list[asyncio.Task[bytes]]:
    """Send calls to a paused server; each one echoes its number."""
    server.pause()
    calls = [asyncio.create_task(connection.call("ECHO", str(number), timeout=5)) for number in range(100)]
    await until(lambda: under_way(connection) == 100)
    return calls


async def test_concurrent_calls_are_pipelined_and_each_gets_its_own_answer(
    connection: ServerConnection, own_server: Server
) -> None:
    calls = await a_hundred_under_way(connection, own_server)
    assert not any(call.done() for call in calls)
    own_server.resume()
    assert await asyncio.gather(*calls) == [str(number).encode() for number in range(100)]
    with own_server.client() as client:
        assert len(client.client_list()) == 2, "one connection, and that of this client"


async def test_concurrent_first_calls_share_one_connection(own_server: Server) -> None:
    connection = connection_to(own_server.port)
    await asyncio.gather(*(connection.call("PING", timeout=5) for _ in range(20)))
    with own_server.client() as client:
        assert len(client.client_list()) == 2
    await connection.aclose()


async def test_the_answer_to_a_cancelled_call_is_dropped(
    connection: ServerConnection, own_server: Server
) -> None:
    calls = await a_hundred_under_way(connection, own_server)
    for call in calls[::2]:
        call.cancel()
    await asyncio.sleep(0)
    own_server.resume()
    assert await asyncio.gather(*calls[1::2]) == [str(number).encode() for number in range(1, 100, 2)]
    assert await connection.call("ECHO", "last", timeout=5) == b"last"


async def test_an_error_reply_affects_only_its_caller(connection: ServerConnection) -> None:
    answers = await asyncio.gather(
        connection.call("ECHO", "a", timeout=5),
        connection.call("LPUSH", timeout=5),
        connection.call("ECHO", "b", timeout=5),
        return_exceptions=True,
    )
    assert isinstance(answers[1], BrokerError)
    assert not isinstance(answers[1], BrokerUnavailable)
    assert (answers[0], answers[2]) == (b"a", b"b")


@pytest.mark.parametrize("is_first", [True, False])
async def test_an_overdue_call_ends_in_time_and_others_continue(
    connection: ServerConnection, own_server: Server, is_first: bool
) -> None:
    """The connection has one timer, each call its own limit."""
    await connection.call("PING", timeout=30)  # starts the timer
    own_server.pause()
    limits = (0.1, 30.0) if is_first else (30.0, 0.1)
    calls = {
        limit: asyncio.create_task(connection.call("ECHO", str(limit), timeout=limit)) for limit in limits
    }
    with pytest.raises(Unanswered):
        await calls[0.1]
    later = asyncio.create_task(connection.call("ECHO", "later", timeout=30))  # on another connection
    await until(lambda: connection._doubtful)
    assert not calls[30.0].done()
    own_server.resume()
    assert await calls[30.0] == b"30.0"
    assert await later == b"later"
    assert await connection.call("ECHO", "again", timeout=5) == b"again"
    with own_server.client() as client:
        await until(lambda: len(client.client_list()) == 2, "the doubtful connection is closed")


async def test_a_connection_without_answers_is_replaced_after_its_last_call(
    connection: ServerConnection, own_server: Server
) -> None:
    own_server.pause()
    calls = [asyncio.create_task(connection.call("PING", timeout=0.1 + number / 20)) for number in range(3)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Unanswered) for answer in answers)
    own_server.resume()
    assert await connection.call("ECHO", "again", timeout=5) == b"again"


async def test_callers_that_lose_a_connection_together_do_not_affect_later_calls(own_server: Server) -> None:
    async with Proxy(own_server.port) as proxy:
        connection = connection_to(proxy.port)
        for _ in range(10):
            await connection.call("PING", timeout=5)
            proxy.is_black_hole = True
            calls = [
                asyncio.create_task(connection.call("PING", timeout=0.02 + number % 5 / 100))
                for number in range(30)
            ]
            await until(lambda: any(call.done() for call in calls))  # noqa: B023
            proxy.cut()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(answer, BrokerUnavailable) for answer in answers), answers
            proxy.is_black_hole = False
        assert await connection.call("ECHO", "a", timeout=5) == b"a"
        await connection.aclose()


async def test_a_call_without_time_left_is_not_sent(connection: ServerConnection) -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        await connection.call("SET", "key", "value", timeout=0)
    assert not isinstance(caught.value, Unanswered)
    assert await connection.call("GET", "key", timeout=5) is None


async def test_a_closed_connection_does_not_connect_again(own_server: Server) -> None:
    connection = connection_to(own_server.port)
    call = asyncio.create_task(connection.call("PING", timeout=5))
    await asyncio.sleep(0)
    await connection.aclose()
    with pytest.raises(BrokerUnavailable):
        await call
    with pytest.raises(BrokerUnavailable):
        await connection.call("PING", timeout=5)
    with own_server.client() as client:
        await until(lambda: len(client.client_list()) == 1)


async def test_a_server_without_free_clients_is_reported(own_server: Server) -> None:
    with own_server.client() as client:
        client.config_set("maxclients", 1)
        connection = connection_to(own_server.port)
        for _ in range(20):
            with pytest.raises(BrokerUnavailable, match="takes no more clients"):
                await connection.call("PING", timeout=5)
        client.config_set("maxclients", 100)
        assert await connection.call("ECHO", "a", timeout=5) == b"a"
        await connection.aclose()


async def test_the_timer_of_an_earlier_call_does_not_affect_a_later_one(connection: ServerConnection) -> None:
    await connection.call("PING", timeout=0.2)
    slow = asyncio.create_task(connection.call("BLPOP", "nothing", 0.5, timeout=5))
    assert await slow is None


async def test_the_next_call_after_a_loss_reconnects(own_server: Server) -> None:
    async with Proxy(own_server.port) as proxy:
        connection = connection_to(proxy.port)
        for _ in range(3):
            assert await connection.call("ECHO", "a", timeout=5) == b"a"
            proxy.cut()
            await until(lambda: connection._protocol is None or connection._protocol.is_lost)
        await connection.aclose()
        gc.collect()  # an open transport would warn now


async def test_a_large_answer_is_received_completely(connection: ServerConnection) -> None:
    text = b"x" * 3_000_000
    echoes = await asyncio.gather(*(connection.call("ECHO", text, timeout=20) for _ in range(3)))
    assert echoes == [text] * 3


@asynccontextmanager
async def serving(answer: bytes, database: int = 0) -> AsyncIterator[ServerConnection]:
    """A connection to a server that sends the same answer to everything."""
    open_ones: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        while await reader.read(65536):
            writer.write(answer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connection = connection_to(server.sockets[0].getsockname()[1], database)
    try:
        yield connection
    finally:
        await connection.aclose()
        for writer in open_ones:
            writer.close()
        server.close()


async def test_the_timeout_of_a_call_includes_connecting() -> None:
    async with serving(b"", database=1) as silent:  # the server does not answer SELECT
        with pytest.raises(BrokerUnavailable, match="does not answer") as caught:
            await silent.call("PING", timeout=0.1)
    assert not isinstance(caught.value, Unanswered), "the call itself was never sent"


async def test_the_timeout_of_an_answer_begins_after_connecting(own_server: Server) -> None:
    """The time for logging in does not count, and the new connection is kept."""
    own_server.pause()
    connection = connection_to(own_server.port, database=1)
    call = asyncio.create_task(connection.call("BLPOP", "nothing", 0.1, timeout=1, connect_within=30))
    await asyncio.sleep(1.1)  # longer than the timeout of the call
    own_server.resume()
    assert await call is None
    protocol = connection._protocol
    assert await connection.call("ECHO", "b", timeout=1, connect_within=30) == b"b"
    assert connection._protocol is protocol
    await connection.aclose()


async def test_connecting_can_have_its_own_timeout() -> None:
    async with serving(b"", database=1) as silent:
        with pytest.raises(BrokerUnavailable, match="does not answer") as caught:
            await silent.call("PING", timeout=30, connect_within=0.1)
    assert not isinstance(caught.value, Unanswered), "the call itself was never sent"


async def test_workers_with_short_timeouts_can_connect(
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
    own_server.resume()
    assert await asyncio.gather(*calls) == [b"a", None]
    await transport.aclose()


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+OK\r\n", b"\x00\xff\r\n"])
async def test_an_invalid_answer_closes_the_connection(data: bytes) -> None:
    async with serving(data) as connection:
        if data.startswith(b"+OK"):
            assert await connection.call("PING", timeout=5) == b"OK"
        else:
            with pytest.raises(BrokerUnavailable):
                await connection.call("PING", timeout=5)
        await until(lambda: connection._protocol is None or connection._protocol.is_lost)


async def test_closing_a_connection_cancels_its_timer(connection: ServerConnection) -> None:
    await connection.call("PING", timeout=30)
    protocol = connection._protocol
    assert protocol is not None
    assert protocol._timer is not None
    timer = protocol._timer
    await connection.aclose()
    assert timer.cancelled()
