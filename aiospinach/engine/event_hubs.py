"""The hub of events of each event loop of an engine."""

from __future__ import annotations

import asyncio

from .. import forks
from ..brokers.base import Broker
from .event_hub import EventHub


class EventHubs:
    """The hubs of one engine, which many event loops may use."""

    def __init__(self, broker: Broker, namespace: str) -> None:
        self._broker = broker
        self._namespace = namespace
        self._by_loop: dict[asyncio.AbstractEventLoop, EventHub] = {}
        forks.forget_in_child(self)

    def here(self) -> EventHub:
        """The hub of the running event loop."""
        loop = asyncio.get_running_loop()
        hub = self._by_loop.get(loop)
        if hub is None:
            self._by_loop = {loop: hub for loop, hub in list(self._by_loop.items()) if not loop.is_closed()}
            hub = self._by_loop[loop] = EventHub(self._broker, self._namespace)
        return hub

    async def aclose(self) -> None:
        """End all reading in the running event loop: it raises BrokerUnavailable."""
        hub = self._by_loop.pop(asyncio.get_running_loop(), None)
        if hub is not None:
            await hub.aclose()

    def _forget_parent(self) -> object:
        inherited, self._by_loop = self._by_loop, {}
        return inherited
