"""The line between a supervisor and a worker process: a socket, which ends with either of them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import Callable

import msgspec

from .probe_server import Answer, AnswerPath

VARIABLE = "AIOSPINACH_SUPERVISED"
"""Set in the environment of a process whose standard input is the line."""
UP = b"up\n"
DONE = b"done\n"
WORD = b"! "
"""Begins a line for the command that has the supervisor."""
LONGEST_LINE = 64 * 1024 * 1024
"""Metrics of many tasks are long."""

OnWord = Callable[[bytes], None]


class WorkerEnd:
    """The end of a worker process: it says when its workers begin and have ended, and answers what the
    supervisor asks."""

    def __init__(self, answer: AnswerPath, on_closed: Callable[[], None]) -> None:
        self._answer = answer
        self._on_closed = on_closed
        self.is_closed: bool = False
        """The supervisor has ended."""

    async def open(self) -> None:
        """Connect to the supervisor, before anything is said."""
        self._reader, self._writer = await asyncio.open_connection(sock=socket.socket(fileno=0))

    async def run(self) -> None:
        """Answer until the supervisor has ended."""
        try:
            with contextlib.suppress(OSError):
                while line := await self._reader.readline():
                    answer = await self._answer(line.decode().strip())
                    self._writer.write(base64.b64encode(msgspec.msgpack.encode(answer)) + b"\n")
                    await self._writer.drain()
        finally:
            self._writer.close()
            self.is_closed = True
        self._on_closed()

    def say_up(self) -> None:
        """Report that the workers fetch jobs."""
        self._writer.write(UP)

    def say_done(self) -> None:
        """Report that the workers have ended."""
        self._writer.write(DONE)

    def say(self, word: bytes) -> None:
        """Report something to the command that has the supervisor, in one line."""
        self._writer.write(WORD + word + b"\n")


class SupervisorEnd:
    """The end of the supervisor. ``on_word`` is called with each report for its command."""

    def __init__(self, on_word: OnWord | None = None) -> None:
        self._on_word = on_word
        self.is_up: bool = False
        """The workers of the process have begun to fetch jobs."""
        self.is_done: bool = False
        """They have ended. The process may still take signals, but has no handler for them any more."""
        ours, theirs = socket.socketpair()
        self._ours, self._theirs = ours, theirs
        self._writer: asyncio.StreamWriter | None = None
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()
        self._asking = asyncio.Lock()

    @property
    def of_worker(self) -> socket.socket:
        """The standard input of the process."""
        return self._theirs

    def close(self) -> None:
        """Close both ends: there is no process."""
        self._ours.close()
        self._theirs.close()

    async def listen(self) -> None:
        """Read until the process has ended."""
        self._theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=self._ours, limit=LONGEST_LINE)
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                if line == UP:
                    self.is_up = True
                elif line == DONE:
                    self.is_done = True
                elif line.startswith(WORD):
                    if self._on_word is not None:
                        self._on_word(line.removeprefix(WORD).rstrip(b"\n"))
                else:
                    answer = msgspec.msgpack.decode(base64.b64decode(line), type=Answer)
                    self._answers.put_nowait(answer)
        self._writer.close()

    async def ask(self, path: str, within: float) -> Answer | None:
        """Return the answer of the process; None if it does not come within these seconds."""
        writer = self._writer
        if writer is None or not self.is_up:
            return None
        try:
            async with asyncio.timeout(within), self._asking:
                while not self._answers.empty():
                    self._answers.get_nowait()  # the late answer to an earlier question
                writer.write(path.encode() + b"\n")
                return await self._answers.get()
        except (TimeoutError, OSError):
            return None
