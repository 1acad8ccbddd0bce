"""A network between workers and their server that is slow, is cut in two, or forgets its connections."""

from __future__ import annotations

import asyncio

from ..redis.conftest import SCRIPTS
from ..redis.proxy import Proxy


class Network(Proxy):
    """Nothing is lost in it while it is parted: what was sent arrives when it is whole again, if anybody
    waits for it still. That is what TCP does, and it brings late calls to the server."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._whole = asyncio.Event()
        self._whole.set()
        self.made = 0
        """How many connections were ever made."""
        self.lose_answers(None, SCRIPTS)

    def part(self) -> None:
        """Nothing passes any more, and nobody is told; new connections wait as well."""
        self._whole.clear()
        self.forget()

    def heal(self) -> None:
        """Everything passes again, first what was held back."""
        self._whole.set()
        for pair in self._pairs:
            pair.client.transport.resume_reading()  # type: ignore[attr-defined]
            pair.server.transport.resume_reading()  # type: ignore[attr-defined]

    def forget(self) -> None:
        """The connections that there are go nowhere, in either direction, and stay open."""
        for pair in self._pairs:
            pair.client.transport.pause_reading()  # type: ignore[attr-defined]
            pair.server.transport.pause_reading()  # type: ignore[attr-defined]

    def refuse(self) -> None:
        self._whole.set()
        super().refuse()

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.made += 1
        await self._whole.wait()
        await super()._serve(from_client, to_client)
