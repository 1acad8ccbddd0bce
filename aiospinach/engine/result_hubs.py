"""The hub of each queue and event loop of an engine."""

from __future__ import annotations

import asyncio

from .. import forks
from ..brokers.base import Broker
from .result_hub import ResultHub


class ResultHubs:
    """The hubs of one engine, which many event loops may use."""

    def __init__(self, broker: Broker, namespace: str) -> None:
        self._broker = broker
        self._namespace = namespace
        self._by_loop: dict[asyncio.AbstractEventLoop, dict[str, ResultHub]] = {}
        forks.forget_in_child(self)

    def of(self, queue: str) -> ResultHub:
        """The hub of a queue in the running event loop."""
        loop = asyncio.get_running_loop()
        hubs = self._by_loop.get(loop)
        if hubs is None:
            self._by_loop = {loop: hubs for loop, hubs in list(self._by_loop.items()) if not loop.is_closed()}
            hubs = self._by_loop[loop] = {}
        hub = hubs.get(queue)
        if hub is None:
            hub = hubs[queue] = ResultHub(self._broker, queue, self._namespace)
        return hub

    async def aclose(self) -> None:
        """End the waits of the running event loop: they raise BrokerUnavailable."""
        hubs = self._by_loop.pop(asyncio.get_running_loop(), {})
        for hub in hubs.values():
            await hub.aclose()

    def _forget_parent(self) -> object:
        inherited, self._by_loop = self._by_loop, {}
        return inherited
