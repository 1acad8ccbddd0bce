"""The protocol of one open connection: sends calls and receives answers, in place of redis-py's streams."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse, RedisError

_INCOMPLETE = object()


class RespProtocol(asyncio.Protocol):
    """A connection that redis-py has opened, encrypted and logged in.

    It needs no streams of redis-py and no timer for each call. On an idle worker, whose caches are cold,
    streams and timers take half of the time between a wake-up and its answer.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self.is_lost: bool = False
        """The connection takes no more calls; some may still be under way."""
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_INCOMPLETE,
        )
        self._calls: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        reader, writer = connection._reader, connection._writer
        if reader is None or writer is None or reader.at_eof() or writer.transport.is_closing():
            raise ConnectionLost("the server closed the connection")
        self._transport: asyncio.WriteTransport = writer.transport
        self._transport.set_protocol(self)

    @property
    def is_idle(self) -> bool:
        """Whether no caller waits for an answer."""
        return all(call.done() for _, call in self._calls)

    def ask(self, command: bytes, until: float) -> asyncio.Future[Any]:
        """Send a packed command. Returns a future of its answer, which raises ConnectionLost, TimeoutError at
        this moment of the loop's clock, or the server's error."""
        self._transport.write(command)
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._calls.append((until, answer))
        if self._timer is None or until < self._timer.when():
            self._set_timer(until)
        return answer

    async def is_alive(self, within: float) -> bool:
        """Return whether the server answers a PING within so many seconds, even if with an error."""
        try:
            await self.ask(hiredis.pack_command(("PING",)), self._loop.time() + within)
        except (ConnectionLost, TimeoutError):
            return False
        except RedisError:
            pass
        return True

    async def aclose(self) -> None:
        """Close the connection. Calls under way raise ConnectionLost."""
        self._fail(ConnectionLost("the connection was closed"))
        await close(self._connection)

    def let_go(self) -> None:
        """Give up the connection outside of its event loop."""
        self.is_lost = True
        let_go_of(self._connection)

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not _INCOMPLETE:
                self._deliver(answer)
        except (RedisError, LookupError) as error:
            self._fail(ConnectionLost(f"the answer is not Redis' ({type(error).__name__})"))
        if self.is_lost and self.is_idle:
            abort(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionLost("the server closed the connection"))

    # Internal.

    def _deliver(self, answer: Any) -> None:
        _, call = self._calls.popleft()
        if call.done():
            return  # the caller was cancelled, or its time was over
        if isinstance(answer, Exception):
            call.set_exception(answer)
        else:
            call.set_result(answer)

    def _fail(self, error: Exception) -> None:
        self.is_lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._calls:
            _, call = self._calls.popleft()
            if not call.done():
                call.set_exception(error)

    def _set_timer(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(moment, self._end_late_calls)

    def _end_late_calls(self) -> None:
        """Raise TimeoutError for calls whose time is over. Then the connection counts as lost: it takes no
        more calls, and the other calls under way keep their time. An answer leaves the timer running."""
        self._timer = None
        waiting = [(until, call) for until, call in self._calls if not call.done()]
        for until, call in waiting:
            if until <= self._loop.time():
                call.set_exception(TimeoutError("no answer in time"))
                self.is_lost = True
        left = [until for until, call in waiting if not call.done()]
        if left:
            self._set_timer(min(left))
        elif self.is_lost:
            self._fail(TimeoutError("no answer in time"))
            abort(self._transport)


async def greet(connection: AbstractConnection) -> None:
    """Connect, and have redis-py read a first answer: it may be an error, or the server may close the
    connection."""
    await connection.connect()  # type: ignore[no-untyped-call]
    await connection.send_command("PING")
    await connection.read_response()


def let_go_of(connection: AbstractConnection) -> None:
    """Give up a connection of redis-py without touching its server or its event loop.

    The descriptor becomes one of /dev/null. Its number must stay taken: the transport closes it later, and a
    loop that a forked child shares with its parent still watches it for the parent.
    """
    writer = connection._writer
    socket = None if writer is None else writer.transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return  # it is closed already
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(null, socket.fileno(), inheritable=False)  # guard: connection of a parent
    finally:
        os.close(null)


def abort(transport: asyncio.WriteTransport) -> None:
    """Close a transport at once, even if it is closed: with TLS, some releases of Python 3.11 raise then."""
    with contextlib.suppress(AttributeError):
        transport.abort()


async def close(connection: AbstractConnection) -> None:
    """Close a connection of redis-py at once. With TLS, the server may end its side only after the event loop
    has ended, so that is not waited for."""
    writer = connection._writer
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        await asyncio.shield(connection.disconnect(nowait=True))
    if writer is not None:
        abort(writer.transport)
