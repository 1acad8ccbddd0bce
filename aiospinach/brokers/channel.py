"""One connection to a server: calls go out at once, and are answered in their order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse, RedisError

from .failures import BROKEN, is_of_another_master, translated

_INCOMPLETE = object()


class Wire(asyncio.Protocol):
    """A connection that redis-py has opened, encrypted and logged in.

    From there on it does without redis-py's streams and a timer for each call, which take an idle worker,
    whose caches are cold, as long as all else that it does to answer a wake-up.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self.is_lost: bool = False
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_INCOMPLETE,
        )
        self._calls: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        writer = connection._writer
        assert writer is not None
        self._transport: asyncio.WriteTransport = writer.transport
        self._streams = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def ask(self, command: bytes, until: float) -> asyncio.Future[Any]:
        """Send a call that is packed already. Its answer comes; or ConnectionLost, TimeoutError at this
        moment of the loop's clock, or what the server refuses it with."""
        self._transport.write(command)
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._calls.append((until, answer))
        if self._timer is None or until < self._timer.when():
            self._set_timer(until)
        return answer

    async def aclose(self) -> None:
        """Close it; calls under way hear that it is lost."""
        self._fail(ConnectionLost("the connection was closed"))
        await _closed(self._connection)

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not _INCOMPLETE:
                self._hand_over(answer)
        except (RedisError, LookupError) as error:
            self._fail(ConnectionLost(f"the answer is not Redis' ({type(error).__name__})"))
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionLost("the server closed the connection"))
        self._streams.connection_lost(error)  # who waits for them to be closed hears of it

    # Within.

    def _hand_over(self, answer: Any) -> None:
        _, call = self._calls.popleft()
        if call.done():
            return  # its caller was cancelled
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
        """Look for calls that are overdue; the timer is left running by those that were answered."""
        self._timer = None
        if not self._calls:
            return
        soonest = min(until for until, _ in self._calls)
        if soonest > self._loop.time():
            self._set_timer(soonest)
        else:
            self._fail(TimeoutError("no answer in time"))
            self._transport.abort()


class Channel:
    """A connection that is made by the first call, and anew by the next one after it was lost."""

    def __init__(self, place: str, connection: Callable[[], Awaitable[AbstractConnection]]) -> None:
        self._place = place
        self._make = connection
        self._wire: Wire | None = None
        self._connecting = asyncio.Lock()

    async def call(self, *command: Any, timeout: float) -> Any:
        """The answer of the server. Raises BrokerUnavailable if there is none, BrokerError if it refuses;
        redis-py's NoScriptError goes through. Being cancelled leaves the call under way."""
        until = asyncio.get_running_loop().time() + timeout
        was_sent = False
        try:
            wire = self._wire
            if wire is None or wire.is_lost:
                async with asyncio.timeout_at(until), self._connecting:
                    wire = await self._connected()
            was_sent = True
            # In C: a batch has thousands of arguments, and redis-py would look at each in Python.
            return await wire.ask(hiredis.pack_command(command), until)
        except BROKEN as error:
            if is_of_another_master(error) or (self._wire is not None and self._wire.is_lost):
                await self.aclose()
            raise translated(error, self._place, was_sent) from error

    async def aclose(self) -> None:
        """Close the connection."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.aclose()

    async def _connected(self) -> Wire:
        if self._wire is not None and not self._wire.is_lost:
            return self._wire  # somebody else has connected meanwhile
        await self.aclose()
        connection = await self._make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await _closed(connection)
            raise
        self._wire = Wire(connection)
        return self._wire


async def _closed(connection: AbstractConnection) -> None:
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        await asyncio.shield(connection.disconnect(nowait=True))
