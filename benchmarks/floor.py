"""The floor: the highest speed that is possible, measured with a bare loop over two scripts.

It has leases, fencing, acknowledgement and one asyncio task a job, and no engine, limits or signals. It
shares no code with aiospinach, so that it does not get slower with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio.connection import Connection

from benchmarks.program import Program, main

LUA = Path(__file__).parent / "lua"
LEASE = 60_000
PREFIX = "floor:{default}:"
HEADER = b"2 job 0 0 -\n0 0 0 0 - - - -\n"


class Script:
    """A script, on a connection of its own."""

    def __init__(self, name: str, url: str, *keys: str) -> None:
        host, _, port = url.removeprefix("redis://").removesuffix("/0").partition(":")
        self.place: dict[str, Any] = {"host": host, "port": int(port)}
        self.connection = Connection(**self.place)
        self._source = (LUA / f"{name}.lua").read_bytes()
        self._command = (
            "EVALSHA",
            hashlib.sha1(self._source, usedforsecurity=False).hexdigest(),
            len(keys),
            *(PREFIX + key for key in keys),
        )

    async def load(self) -> None:
        await self.connection.connect()  # type: ignore[no-untyped-call]
        await self.connection.send_command("SCRIPT", "LOAD", self._source)
        await self.connection.read_response()

    async def run(self, *arguments: Any) -> Any:
        await self.connection.send_command(*self._command, *arguments)
        return await self.connection.read_response()


class Floor(Program):
    async def open(self) -> None:
        self._encoder = msgspec.json.Encoder()
        self._enqueue = Script("enqueue", self.url, "ready", "jobs", "wake", "dedup:0", "dedup:1")
        await self._enqueue.load()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._trip: asyncio.Task[None] | None = None

    async def schedule(self, n: int) -> None:
        """Schedule a job. Calls that come during a round trip share the next one."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((n, done))
        if self._trip is None:
            self._trip = loop.create_task(self._travel())
        await done

    async def schedule_batch(self, numbers: range) -> None:
        await self._store(list(numbers))

    async def _travel(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            await self._store([n for n, _ in waiting])
            for _, done in waiting:
                done.set_result(None)
        self._trip = None

    async def _store(self, numbers: list[int]) -> None:
        flat: list[Any] = []
        for n in numbers:
            flat += (secrets.token_hex(16), HEADER + self._encoder.encode([[n], {}]))
        await self._enqueue.run(secrets.token_hex(12), *flat)

    async def work(self, concurrency: int) -> None:
        session = secrets.token_hex(16)
        # A session for each worker: with a shared key, a worker would get the answer of another worker.
        exchange = Script("exchange", self.url, "ready", "jobs", "leases", f"sess:{session}", "wake")
        await exchange.load()
        loop = asyncio.get_running_loop()
        decode = msgspec.json.Decoder(tuple[list[int], dict[str, Any]]).decode
        seq, running = 0, 0
        settled: list[bytes] = []
        tasks: set[asyncio.Task[None]] = set()
        bell, dry = asyncio.Event(), asyncio.Event()
        bell.set()

        async def job(n: int) -> None:
            self.ledger.note(n)

        async def live(lease: bytes, envelope: bytes) -> None:
            nonlocal running
            args, kwargs = decode(envelope[len(HEADER) :])
            await job(*args, **kwargs)
            running -= 1
            settled.append(lease)
            bell.set()

        async def listen() -> None:
            waking = Connection(**exchange.place)
            await waking.connect()  # type: ignore[no-untyped-call]
            while True:
                await dry.wait()
                dry.clear()
                await waking.send_command("BLPOP", f"{PREFIX}wake", 5)
                await waking.read_response()
                bell.set()

        listener = loop.create_task(listen())
        while not listener.done():
            await bell.wait()
            bell.clear()
            sent, settled = settled, []
            want = concurrency - running
            seq += 1
            _, _, leases, envelopes = await exchange.run(session, seq, want, LEASE, *sent)
            for lease, envelope in zip(leases, envelopes, strict=True):
                running += 1
                task = loop.create_task(live(lease, envelope))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            if len(leases) < want:
                dry.set()
        listener.result()


if __name__ == "__main__":
    main(Floor)
