"""A TCP proxy in front of a real server, which injects faults: it cuts, delays and drops connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

Loses = Callable[[bytes, int], bool]
"""Whether the answer to the n-th call of a script or command is lost."""


class _Pair:
    """A client's connection, and the connection to the server for it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.swallows = False
        self.is_half_open = False

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Listens on a port of its own, in the running event loop, and forwards data in both directions."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._names: dict[bytes, bytes] = {}
        self._loses: Loses | None = None
        self.port = 0
        self.delay = 0.0
        """In seconds, for every answer."""
        self.is_black_hole = False
        """If set, nothing is forwarded, and no connection is closed."""
        self.calls: Counter[bytes] = Counter()
        """The number of calls by command or script."""
        self.bytes_sent = 0
        """How much the clients have sent."""
        self.lost: Counter[bytes] = Counter()
        """The number of lost answers by command or script."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def connections(self) -> int:
        return len(self._pairs)

    def lose_answers(self, loses: Loses | None, names: dict[str, str] | None = None) -> None:
        """Forward the chosen calls, lose their answers, and cut their connections.

        ``names`` are the names of scripts by SHA-1, so that ``loses`` is called with ``enqueue``, not with
        ``EVALSHA``.
        """
        self._loses = loses
        if names is not None:
            self._names = {sha.encode(): name.encode() for sha, name in names.items()}

    def cut(self) -> None:
        """Reset all connections; new ones are accepted."""
        for pair in list(self._pairs):
            pair.cut()

    def half_close(self) -> None:
        """Send EOF to the clients, and still receive what they send."""
        for pair in self._pairs:
            pair.swallows = True
            with contextlib.suppress(OSError, RuntimeError):
                pair.client.write_eof()

    def make_half_open(self) -> None:
        """Make all connections half-open: nothing is forwarded, and they stay open; new ones work."""
        for pair in self._pairs:
            pair.is_half_open = True

    def refuse(self) -> None:
        """Accept no more connections, and reset the existing ones."""
        assert self._server is not None
        self._server.close()
        self.cut()

    async def accept(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.refuse()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            to_client.transport.abort()
            return
        except asyncio.CancelledError:
            to_client.transport.abort()
            raise
        pair = _Pair(to_client, to_server)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ask(pair, from_client))
                tasks.create_task(self._answer(pair, from_server))
        except* OSError:
            pass
        except* asyncio.CancelledError:
            pass
        finally:
            pair.cut()
            self._pairs.discard(pair)

    async def _ask(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 16):
            self.bytes_sent += len(data)
            # A chunk begins with a command, or goes on with a long one.
            for name in self._names_of(data):
                self.calls[name] += 1
                if self._loses is not None and self._loses(name, self.calls[name]):
                    self.lost[name] += 1
                    pair.swallows = True
            if not (self.is_black_hole or pair.is_half_open):
                pair.server.write(data)
                await pair.server.drain()
        raise ConnectionResetError

    async def _answer(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        """Forward the answers, each after the delay; several may be delayed at a time."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                moment, data = await under_way.get()
                if (delay := moment - loop.time()) > 0:
                    await asyncio.sleep(delay)
                if not (self.is_black_hole or pair.is_half_open):
                    pair.client.write(data)
                    await pair.client.drain()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(arrive())
            while data := await reader.read(1 << 16):
                if pair.swallows:
                    raise ConnectionResetError
                under_way.put_nowait((loop.time() + self.delay, data))
            raise ConnectionResetError

    def _names_of(self, data: bytes) -> Iterator[bytes]:
        """The names of the commands, or scripts, that a chunk has."""
        while data.startswith(b"*"):
            head, _, data = data.partition(b"\r\n")
            words: list[bytes] = []
            while data and len(words) < int(head[1:]):
                length, _, data = data.partition(b"\r\n")
                size = int(length[1:])
                words.append(data[:size])
                data = data[size + 2 :]
            if words:
                name = words[0].upper()
                is_script = name == b"EVALSHA" and len(words) > 1
                yield self._names.get(words[1], words[1]) if is_script else name
