"""A connection to one server that reconnects."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionLost

from .errors import CLIENT_ERRORS, is_of_another_master, to_broker_error
from .protocol import RespProtocol, close, greet

PING_WITHIN = 1.0
"""Seconds in which a connection that was idle has to answer a PING."""


class ServerConnection:
    """Connects with the first call, and again with the next call after the connection was lost.

    If no call used the connection for ``idle_after`` seconds, a PING tests it before the next call.
    """

    def __init__(
        self,
        endpoint: str,
        connection: Callable[[], Awaitable[AbstractConnection]],
        idle_after: float = math.inf,
    ) -> None:
        self._endpoint = endpoint
        self._make = connection
        self._protocol: RespProtocol | None = None
        self._doubtful: list[RespProtocol] = []
        """Lost connections with calls under way that still have time."""
        self._idle_after = idle_after
        self._trusted_until = 0.0
        """Until when the connection needs no PING, by the loop's clock."""
        self._connecting = asyncio.Lock()
        self._is_closed = False

    async def call(self, *command: Any, timeout: float, connect_within: float | None = None) -> Any:
        """Send a command. Returns the answer of the server.

        To connect and to get the answer takes ``timeout`` seconds at most. If ``connect_within`` is set, it
        limits the time to connect, and ``timeout`` begins after that. Raises BrokerUnavailable if there is no
        answer, BrokerError if the server refuses the command, and redis-py's NoScriptError. A caller that is
        cancelled abandons the answer: the call goes on.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        until = now + timeout
        was_sent = False
        try:
            protocol = self._protocol
            if protocol is None or protocol.is_lost or now > self._trusted_until:
                limit = until if connect_within is None else now + connect_within
                async with asyncio.timeout_at(limit), self._connecting:
                    protocol = await self._connected(ping_within=min(PING_WITHIN, (limit - now) / 3))
                if connect_within is not None:  # guard: time for an answer
                    until = loop.time() + timeout
            if timeout <= 0:
                raise TimeoutError
            was_sent = True
            self._trusted_until = now + self._idle_after
            # hiredis packs in C. A batch has thousands of arguments, and redis-py would pack each in Python.
            return await protocol.ask(hiredis.pack_command(command), until)
        except CLIENT_ERRORS as error:
            if is_of_another_master(error) or (self._protocol is not None and self._protocol.is_lost):
                await self.reset()
            raise to_broker_error(error, self._endpoint, was_sent) from error

    async def reset(self) -> None:
        """Let the next call connect again. Calls under way on a lost connection keep their time."""
        protocols = self._protocols()
        ended = [protocol for protocol in protocols if protocol.is_idle or not protocol.is_lost]
        self._protocol, self._doubtful = None, [protocol for protocol in protocols if protocol not in ended]
        for protocol in ended:
            await protocol.aclose()

    async def aclose(self) -> None:
        """Close the connection. Calls under way and later calls fail."""
        self._is_closed = True
        protocols = self._protocols()
        self._protocol, self._doubtful = None, []
        for protocol in protocols:
            await protocol.aclose()

    def let_go(self) -> None:
        """Give up the connection outside of its event loop, which has ended or is the parent's."""
        self._is_closed = True
        for protocol in self._protocols():
            protocol.let_go()

    def _protocols(self) -> list[RespProtocol]:
        return self._doubtful if self._protocol is None else [*self._doubtful, self._protocol]

    async def _connected(self, ping_within: float) -> RespProtocol:
        protocol = self._protocol
        if protocol is not None and not protocol.is_lost:
            if asyncio.get_running_loop().time() <= self._trusted_until:
                return protocol  # another call has connected meanwhile
            if await protocol.is_alive(ping_within):
                self._trust()
                return protocol
        await self.reset()
        self._check_open()
        connection = await self._make()
        try:
            await greet(connection)
            self._check_open()
            self._protocol = RespProtocol(connection)
            self._trust()
        except BaseException:
            await close(connection)
            raise
        return self._protocol

    def _trust(self) -> None:
        self._trusted_until = asyncio.get_running_loop().time() + self._idle_after

    def _check_open(self) -> None:
        if self._is_closed:
            raise ConnectionLost("the connection was closed")
