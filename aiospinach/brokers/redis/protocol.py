"""Calls and answers on one connection, without redis-py's streams."""

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

    From there on it does without redis-py's streams and a timer for each call, which take an idle worker,
    whose caches are cold, as long as all else that it does to answer a wake-up.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self.is_lost: bool = False
        """It takes no more calls; some may be under way still."""
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
        """Nobody waits for an answer."""
        return all(call.done() for _, call in self._calls)

    def ask(self, command: bytes, until: float) -> asyncio.Future[Any]:
        """Send a call that is packed already. Its answer comes; or ConnectionLost, TimeoutError at this
        moment of the loop's clock, or what the server refuses it with."""
        self._transport.write(command)
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._calls.append((until, answer))
        if self._timer is None or until < self._timer.when():
            self._set_timer(until)
        return answer

    async def is_alive(self, within: float) -> bool:
        """It answers a PING within so many seconds, whatever the answer is."""
        try:
            await self.ask(hiredis.pack_command(("PING",)), self._loop.time() + within)
        except (ConnectionLost, TimeoutError):
            return False
        except RedisError:
            pass
        return True

    async def aclose(self) -> None:
        """Close it; calls under way hear that it is lost."""
        self._fail(ConnectionLost("the connection was closed"))
        await closed(self._connection)

    def let_go(self) -> None:
        """Give it up outside of its event loop."""
        self.is_lost = True
        let_go_of(self._connection)

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not _INCOMPLETE:
                self._hand_over(answer)
        except (RedisError, LookupError) as error:
            self._fail(ConnectionLost(f"the answer is not Redis' ({type(error).__name__})"))
        if self.is_lost and self.is_idle:
            abort(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionLost("the server closed the connection"))

    # Within.

    def _hand_over(self, answer: Any) -> None:
        _, call = self._calls.popleft()
        if call.done():
            return  # its caller was cancelled, or had no more time
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
        self._timer = self._loop.call_at(moment, self._look)

    def _look(self) -> None:
        """Look for calls that are overdue; the timer is left running by those that were answered. One that
        is overdue casts doubt on the connection: others have their time still, and no more come."""
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


def let_go_of(connection: AbstractConnection) -> None:
    """Give up a connection of redis-py without a word to its server or its event loop.

    Its descriptor becomes one of /dev/null: the number stays taken, since the transport closes it once more,
    and a loop that a forked child has in common with its parent goes on watching it for the parent.
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
    """Close a transport at once, also if it is closed: in TLS, some releases of Python 3.11 raise then."""
    with contextlib.suppress(AttributeError):
        transport.abort()


async def closed(connection: AbstractConnection) -> None:
    """Close a connection of redis-py at once: in TLS, a server may take until after the end of the event loop
    to say good-bye as well."""
    writer = connection._writer
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        await asyncio.shield(connection.disconnect(nowait=True))
    if writer is not None:
        abort(writer.transport)
