"""One connection to a server: calls go out at once, and are answered in their order."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse, RedisError

from .failures import BROKEN, is_of_another_master, translated

PING_WITHIN = 1.0
"""Seconds in which a connection that was idle has to answer, if it lives."""
_INCOMPLETE = object()


class Wire(asyncio.Protocol):
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


class Channel:
    """A connection that is made by the first call, and anew by the next one after it was lost.

    One that nobody used for ``idle_after`` seconds is looked at before it is used again.
    """

    def __init__(
        self,
        place: str,
        connection: Callable[[], Awaitable[AbstractConnection]],
        idle_after: float = math.inf,
    ) -> None:
        self._place = place
        self._make = connection
        self._wire: Wire | None = None
        self._doubtful: list[Wire] = []
        """Those that were lost while calls were under way that have time still."""
        self._idle_after = idle_after
        self._trusted_until = 0.0
        """Until when the connection needs no look, by the loop's clock."""
        self._connecting = asyncio.Lock()
        self._is_closed = False

    async def call(self, *command: Any, timeout: float, connect_within: float | None = None) -> Any:
        """The answer of the server, within ``timeout`` seconds together with connecting. If
        ``connect_within`` is set, connecting may take so many, and ``timeout`` begins when it is up.

        Raises BrokerUnavailable if there is none, BrokerError if the server refuses; redis-py's NoScriptError
        goes through. Being cancelled leaves the call under way.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        until = now + timeout
        was_sent = False
        try:
            wire = self._wire
            if wire is None or wire.is_lost or now > self._trusted_until:
                limit = until if connect_within is None else now + connect_within
                async with asyncio.timeout_at(limit), self._connecting:
                    wire = await self._connected(ping_within=min(PING_WITHIN, (limit - now) / 3))
                if connect_within is not None:  # guard: time for an answer
                    until = loop.time() + timeout
            if timeout <= 0:
                raise TimeoutError
            was_sent = True
            self._trusted_until = now + self._idle_after
            # In C: a batch has thousands of arguments, and redis-py would look at each in Python.
            return await wire.ask(hiredis.pack_command(command), until)
        except BROKEN as error:
            if is_of_another_master(error) or (self._wire is not None and self._wire.is_lost):
                await self.reset()
            raise translated(error, self._place, was_sent) from error

    async def reset(self) -> None:
        """Have the next call connect anew."""
        wires = self._wires()
        ended = [wire for wire in wires if wire.is_idle or not wire.is_lost]
        self._wire, self._doubtful = None, [wire for wire in wires if wire not in ended]
        for wire in ended:
            await wire.aclose()

    async def aclose(self) -> None:
        """Close the connection; calls under way fail, and so do later ones."""
        self._is_closed = True
        wires = self._wires()
        self._wire, self._doubtful = None, []
        for wire in wires:
            await wire.aclose()

    def let_go(self) -> None:
        """Give up the connection outside of its event loop, which has ended or is another process's."""
        self._is_closed = True
        for wire in self._wires():
            wire.let_go()

    def _wires(self) -> list[Wire]:
        return self._doubtful if self._wire is None else [*self._doubtful, self._wire]

    async def _connected(self, ping_within: float) -> Wire:
        wire = self._wire
        if wire is not None and not wire.is_lost:
            if asyncio.get_running_loop().time() <= self._trusted_until:
                return wire  # somebody else has connected meanwhile
            if await wire.is_alive(ping_within):
                self._trust()
                return wire
        await self.reset()
        self._check_open()
        connection = await self._make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            # The first answer comes through redis-py: there may be another in its place, or an end.
            await connection.send_command("PING")
            await connection.read_response()
            self._check_open()
            self._wire = Wire(connection)
            self._trust()
        except BaseException:
            await closed(connection)
            raise
        return self._wire

    def _trust(self) -> None:
        self._trusted_until = asyncio.get_running_loop().time() + self._idle_after

    def _check_open(self) -> None:
        if self._is_closed:
            raise ConnectionLost("the connection was closed")


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
