"""A connection that keeps one server subscribed to channels."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoPermissionError

from ...exceptions import BrokerError, BrokerUnavailable
from ..mailbox import Mailbox
from .errors import CLIENT_ERRORS, to_channel_error
from .protocol import close, greet, let_go_of
from .push_protocol import PushProtocol
from .transports import CONNECT_WITHIN, Transport, sleep_before_retry

ANSWER_WITHIN = 3.0
"""Seconds in which the server answers a PING, or a call that names channels."""
SILENT_FOR = 4.0
"""Seconds of silence after which a PING tests the connection: it may have been dropped silently."""
LINGERS_FOR = 2.0
"""Seconds for which a connection without channels stays open: often new ones follow."""
SHORTEST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
GOOD_AFTER = 1.0
"""Seconds after which a connection counts as good. If it is lost earlier, the pauses grow further."""


class QueueChannels:
    """The wanted channels of one queue. They have one slot in a Cluster, and so one server."""

    subscriber: Subscriber

    def __init__(self, prefix: str) -> None:
        self.prefix: str = prefix
        self.keys: dict[bytes, None] = {}
        """The full names of the channels."""
        self.mailboxes: dict[Mailbox, int] = {}
        """How many channels each reader has."""
        self.may_lack: bool = False
        """Messages may have been lost since the server confirmed the channels."""

    def note_confirmed(self) -> None:
        """The server sends later messages of all channels. Have the readers learn of those that were lost."""
        if self.may_lack:
            self.may_lack = False
            for mailbox in self.mailboxes:
                mailbox.note_loss()  # guard: loss of messages


class Subscriber:
    """Keeps a connection to one server, from the first channel to a little after the last.

    A lost connection is replaced after a pause, which grows with each failure. A task connects; there is none
    while the connection is good.
    """

    def __init__(
        self,
        place: str,
        endpoint: str,
        transport: Transport,
        *,
        on_message: Callable[[bytes, bytes], None],
        relocate: Callable[[Subscriber, bool], Awaitable[None]],
    ) -> None:
        self.queues: dict[QueueChannels, None] = {}
        self.error: BaseException | None = None
        """Why the last try to connect failed."""
        self._place = place
        self._endpoint = endpoint
        self._transport = transport
        self._on_message = on_message
        self._relocate = relocate
        self._loop = asyncio.get_running_loop()
        self._opening: AbstractConnection | None = None
        self._protocol: PushProtocol | None = None
        self._lost: list[PushProtocol] = []  # connections that are to be closed
        self._connected_at = 0.0
        self._pause = SHORTEST_PAUSE
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        """Calls of ``confirm`` that wait for a connection."""
        self._is_closed = False

    def take(self, queue: QueueChannels) -> None:
        """Subscribe to the channels of a queue, which it has or will have."""
        self.queues[queue] = None
        queue.subscriber = self
        protocol = self._protocol
        if protocol is None:
            self._start(partial(self._connect, has_failed=False))
        else:
            self._send(protocol, queue)

    def drop(self, queue: QueueChannels) -> None:
        """Have the queue no longer. Without any, the connection is closed a little later."""
        self.queues.pop(queue, None)
        self._end_waits()
        if not self.queues and self._protocol is not None:
            self._set_timer(LINGERS_FOR)

    async def confirm(self, channels: Sequence[bytes]) -> bool:
        """Send new channels, if there is a connection, and wait for an answer to them and all earlier ones.

        Returns False if there was no connection, and the caller has to ask again. Raises an error of redis-py
        if the connection is lost or the server refuses the channels, and BrokerError if it refuses the user.
        """
        protocol = self._protocol
        if protocol is None:
            waiter = self._loop.create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
            return False
        answer = protocol.subscribe(channels, self._soon()) if channels else protocol.last
        try:
            await asyncio.shield(answer)  # others may await the same
        except NoPermissionError:
            raise
        except CLIENT_ERRORS:
            protocol.drop()
            raise
        return True

    def leave(self, channels: Sequence[bytes]) -> None:
        """End the subscription to channels."""
        if self._protocol is not None:
            self._protocol.unsubscribe(channels, self._soon())

    async def aclose(self) -> None:
        """Close the connection, for good."""
        self._is_closed = True
        self.queues.clear()
        self._cancel_timer()
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._disconnect()

    def let_go(self) -> None:
        """Give up the connection outside of its event loop, which has ended or is the parent's."""
        self._is_closed = True
        self._cancel_timer()
        for protocol in (*self._lost, *filter(None, [self._protocol])):
            protocol.let_go()
        if self._opening is not None:
            let_go_of(self._opening)

    # Connecting.

    def _start(self, work: Callable[[], Awaitable[None]]) -> None:
        if self._task is None and not self._is_closed:
            # Not create_task: an eager task would end before it is kept.
            self._task = asyncio.Task(self._work(work), loop=self._loop)

    async def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        finally:
            self._task = None
        if self.queues and self._protocol is None:  # guard: queue that came while it closed
            self._start(partial(self._connect, has_failed=False))

    async def _connect(self, *, has_failed: bool) -> None:
        """Connect until the server has confirmed all channels, or none is wanted."""
        while not self._is_closed:
            await self._disconnect()
            if has_failed:
                self._pause = await sleep_before_retry(self._pause, LONGEST_PAUSE)
            try:
                async with asyncio.timeout(CONNECT_WITHIN):
                    await self._relocate(self, has_failed)
                if not self.queues or self._is_closed:
                    return
                async with asyncio.timeout(CONNECT_WITHIN):
                    self._protocol = protocol = await self._open()
                self._connected_at = self._loop.time()
                for queue in self.queues:
                    self._send(protocol, queue)
                await asyncio.shield(protocol.last)
            except (*CLIENT_ERRORS, BrokerError) as error:
                has_failed = True
                self._note_failure(error)
            else:
                self._note_confirmed()
                return

    async def _open(self) -> PushProtocol:
        connection = self._opening = await self._transport.connection_to(self._place)
        try:
            await greet(connection)
            return PushProtocol(
                connection, on_message=self._on_message, on_moved=self._on_moved, on_lost=self._on_lost
            )
        except BaseException:
            await close(connection)
            raise
        finally:
            self._opening = None

    async def _disconnect(self) -> None:
        protocol, self._protocol = self._protocol, None
        self._lost += [] if protocol is None else [protocol]
        while self._lost:
            await self._lost[-1].aclose()
            self._lost.pop()

    def _send(self, protocol: PushProtocol, queue: QueueChannels) -> None:
        """Subscribe to all channels of a queue that is new on this connection."""

        def on_answer(answer: asyncio.Future[Any]) -> None:
            if not answer.cancelled() and answer.exception() is None:
                queue.note_confirmed()
            else:
                protocol.drop()

        if queue.keys:
            protocol.subscribe(list(queue.keys), self._soon()).add_done_callback(on_answer)

    def _soon(self) -> float:
        return self._loop.time() + ANSWER_WITHIN

    def _note_failure(self, error: BaseException) -> None:
        fault = to_channel_error(error, self._endpoint)
        if not isinstance(fault, BrokerError):
            raise fault  # a defect
        self.error = fault
        for queue in self.queues:
            queue.may_lack = True
        if not isinstance(fault, BrokerUnavailable):  # trying again may not help: the callers learn it now
            self._end_waits(fault)

    def _note_confirmed(self) -> None:
        self.error = None
        self._set_timer(SILENT_FOR)
        self._end_waits()

    def _end_waits(self, error: BrokerError | None = None) -> None:
        for waiter in self._waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    # Called by the protocol and the timer.

    def _on_moved(self, channel: bytes) -> None:
        """The server has ended a subscription by itself: the slot has moved."""
        if self._protocol is not None and any(channel in queue.keys for queue in self.queues):
            self._protocol.drop()

    def _on_lost(self, protocol: PushProtocol) -> None:
        if protocol is self._protocol and self._task is None:
            self._cancel_timer()
            for queue in self.queues:
                queue.may_lack = True
            if self._loop.time() - self._connected_at > GOOD_AFTER:
                self._pause = SHORTEST_PAUSE
            self._protocol = None
            self._lost.append(protocol)
            self._start(self._replace)

    async def _replace(self) -> None:
        await self._disconnect()
        if self.queues:
            await self._connect(has_failed=True)

    def _check(self) -> None:
        """Test a silent connection with a PING, and close one that has no channels."""
        self._timer = None
        protocol = self._protocol
        if protocol is None:
            return  # the task connects
        if not self.queues:
            self._start(self._disconnect)
            return
        silent_at = protocol.heard_at + SILENT_FOR
        if self._loop.time() >= silent_at:  # guard: silent connection
            protocol.ping(self._soon())
            silent_at = self._loop.time() + SILENT_FOR
        self._set_timer(silent_at - self._loop.time())

    def _set_timer(self, seconds: float) -> None:
        self._cancel_timer()
        if not self._is_closed:
            self._timer = self._loop.call_later(seconds, self._check)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
