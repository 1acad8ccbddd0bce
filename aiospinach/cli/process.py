"""One worker process of a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence

from .line import VARIABLE, OnWord, SupervisorEnd


class WorkerProcess:
    """A child process that runs workers. Its process group is its own, so that Ctrl-C reaches the supervisor
    alone."""

    def __init__(self, process: asyncio.subprocess.Process, line: SupervisorEnd) -> None:
        self._process = process
        self.line: SupervisorEnd = line
        self.started_at: float = time.monotonic()
        self._sent: signal.Signals | None = None
        self._listening = asyncio.create_task(line.listen())

    @staticmethod
    async def start(
        command: Sequence[str], on_word: OnWord | None = None, pass_fds: Sequence[int] = ()
    ) -> WorkerProcess:
        """Start a process, which inherits these files. Raises OSError."""
        line = SupervisorEnd(on_word)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=line.of_worker.fileno(),
                env={**os.environ, VARIABLE: "1"},
                process_group=0,
                pass_fds=pass_fds,
            )
        except BaseException:
            line.close()
            raise
        return WorkerProcess(process, line)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_up(self) -> bool:
        """Its workers fetch jobs, or have done so."""
        return self.line.is_up

    @property
    def is_done(self) -> bool:
        """Its workers have ended."""
        return self.line.is_done

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self.started_at

    def send(self, number: signal.Signals) -> None:
        """Send SIGTERM or SIGINT to the process, unless it has ended.

        The other one of the two is sent if the last one was the same: signals of one kind that a busy process
        has not taken yet count as one.
        """
        if number is self._sent:
            number = signal.SIGINT if number is signal.SIGTERM else signal.SIGTERM
        self._sent = number
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end of the process.

        Returns its exit code, or minus the number of the signal that ended it.
        """
        code = await self._process.wait()
        await asyncio.wait([self._listening], timeout=1)  # what it said last
        self._listening.cancel()
        return code


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module as this process runs."""
    flags = ["-P"] if sys.flags.safe_path else []
    flags += [f"-W{option}" for option in sys.warnoptions]
    return [sys.executable, *flags, "-m", module, *arguments]


def named_end(code: int) -> str:
    """Return how a process ended, for people."""
    if code >= 0:
        return f"with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"by signal {-code}"
