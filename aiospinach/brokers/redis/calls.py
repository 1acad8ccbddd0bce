"""Runs scripts in Redis, for each queue and event loop, and keeps the clock of Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ...exceptions import InvalidValue
from . import schema, scripts
from .call_numbers import ProducerSession
from .endpoints import Endpoint
from .loop_session import LoopSession
from .per_loop import PerLoop
from .queue_session import QueueSession
from .scripts import Script
from .subscriptions import Subscriptions
from .transports import Transport

SHORTEST_PATIENCE = 2.0


class ScriptCalls:
    """Runs the scripts of one broker, which many event loops may use."""

    def __init__(self, endpoint: Endpoint, lease: float, producer_timeout: float, events: int) -> None:
        self.endpoint: Endpoint = endpoint
        self.lease: float = lease
        self.events: int = events
        """How many rows of events a queue keeps."""
        self.producer_timeout: float = producer_timeout
        """Seconds within which a call of ``produce`` is answered."""
        self.producer_session: ProducerSession = ProducerSession()
        self.namespace: str = ""
        self._loops: PerLoop[LoopSession] = PerLoop(self._session, LoopSession.aclose, LoopSession.let_go)
        self.here: Callable[[], LoopSession] = self._loops.here
        """Returns the session of this event loop."""
        self._clock: float | None = None  # Redis' clock minus time.monotonic(), in seconds

    async def open(self, namespace: str, until: float | None) -> None:
        if self.namespace not in ("", namespace):
            raise InvalidValue(f"this RedisBroker serves the namespace {self.namespace!r} already")
        self.namespace = namespace
        here = self.here()
        if not here.is_checked:
            clock = await here.check(str(self.endpoint), until)
            self._clock = self._clock if clock is None else clock

    async def aclose(self) -> None:
        here = self._loops.get()
        if here is not None:
            for batcher in list(here.batchers.values()):
                await batcher.aclose()
            # The session stays: workers that still drain use it, to repeat calls without an answer.
            await here.end_subscriptions()
            await here.end_naming()
            transport, here.transport, here.is_checked = here.transport, self._transport(), False
            await transport.aclose()

    def now(self) -> int:
        return int((time.time() if self._clock is None else time.monotonic() + self._clock) * 1000)

    def subscriptions(self) -> Subscriptions:
        """Return the subscriptions of this event loop."""
        here = self.here()
        if here.subscriptions is None:
            here.subscriptions = Subscriptions(str(self.endpoint), here.transport)
        return here.subscriptions

    def queue(self, queue: str) -> QueueSession:
        here = self.here()
        state = here.queues.get(queue)
        if state is None:
            keys = schema.Keys(self.namespace, queue, here.session, self.producer_session.session)
            state = here.queues[queue] = QueueSession(keys, here.session)
        return state

    async def work(
        self, script: Script, state: QueueSession, arguments: Sequence[Any], job_keys: Sequence[str] = ()
    ) -> Any:
        """Run a script for a worker, with keys of single jobs. Returns its answer."""
        keys = state.keys.of(script, job_keys)
        return await self.run(script, self.here().transport.worker_call, keys, arguments)

    async def produce(
        self, script: Script, state: QueueSession, arguments: Sequence[Any], job_keys: Sequence[str] = ()
    ) -> Any:
        """Run a script for a question or an act, on the connection of producers. Returns its answer."""
        return await self.run(script, self.ask, state.keys.of(script, job_keys), arguments)

    async def ask(self, *command: Any) -> Any:
        """Send a command on the connection of producers. Returns its answer."""
        until = time.monotonic() + self.producer_timeout
        return await self.here().transport.producer_call(*command, until=until)

    async def run(
        self, script: Script, send: scripts.Send, keys: Sequence[str], arguments: Sequence[Any]
    ) -> Any:
        answer = await script.run(send, keys, arguments)
        self._clock = answer[0] / 1000 - time.monotonic()
        return answer

    def _session(self) -> LoopSession:
        return LoopSession(self._transport())

    def _transport(self) -> Transport:
        return self.endpoint.transport(max(SHORTEST_PATIENCE, self.lease / 6))
