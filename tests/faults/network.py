"""A network between workers and their server that can be slow, partitioned, or lose its connections."""

from __future__ import annotations

import asyncio

from ..redis.conftest import SCRIPTS
from ..redis.proxy import Proxy


class Network(Proxy):
    """A proxy that can be partitioned. Data that was sent meanwhile arrives after healing, if the connection
    is still open. So does TCP, and so the server may receive late calls."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._is_connected = asyncio.Event()
        self._is_connected.set()
        self.connections_made = 0
        """The number of all connections so far."""
        self.lose_answers(None, SCRIPTS)

    def partition(self) -> None:
        """Forward nothing, without closing connections; new connections wait as well."""
        self._is_connected.clear()
        self.freeze_connections()

    def heal(self) -> None:
        """Forward again, first the data that was held back."""
        self._is_connected.set()
        for pair in self._pairs:
            pair.client.transport.resume_reading()  # type: ignore[attr-defined]
            pair.server.transport.resume_reading()  # type: ignore[attr-defined]

    def freeze_connections(self) -> None:
        """Forward nothing on the existing connections, and keep them open."""
        for pair in self._pairs:
            pair.client.transport.pause_reading()  # type: ignore[attr-defined]
            pair.server.transport.pause_reading()  # type: ignore[attr-defined]

    def refuse(self) -> None:
        self._is_connected.set()
        super().refuse()

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.connections_made += 1
        await self._is_connected.wait()
        await super()._serve(from_client, to_client)
