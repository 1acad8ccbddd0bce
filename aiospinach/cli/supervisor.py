"""Keeps a number of worker processes running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Sequence

from .exits import INTERRUPTED, NOT, WELL
from .line import OnWord
from .process import WorkerProcess, named_end
from .serving import RECYCLED

logger: logging.Logger = logging.getLogger("aiospinach.cli")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
LONG_LIFE = 60.0
"""A process that lived for so many seconds is started again without a longer pause."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_WITHOUT_WORKERS = (-signal.SIGTERM, -signal.SIGINT, INTERRUPTED)
"""How a process ends that gets a signal before its workers take it, or after they have ended."""


class Supervisor:
    """Starts worker processes, and starts again those that end, with growing pauses.

    SIGTERM and SIGINT go to all processes, each time. ``run`` returns when all have ended. ``on_word`` is
    called with what a process reports to the command, and ``pass_fds`` are files that processes inherit.
    """

    def __init__(
        self,
        command: Sequence[str],
        number: int,
        *,
        waits_for_changes: bool = False,
        on_word: OnWord | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._command = command
        self._on_word = on_word
        self._pass_fds = pass_fds
        self._waits_for_changes = waits_for_changes
        """A process that cannot start waits for ``restart``. Otherwise the supervisor ends with it."""
        self.processes: list[WorkerProcess | None] = [None] * number
        """By place; None between two processes."""
        self._stopping = asyncio.Event()
        self._restarts = asyncio.Event()
        self._has_been_up = False
        self._code = WELL

    async def run(self) -> int:
        """Run until a signal. Returns 0 if all processes have drained, or the code of one that could not
        start."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            async with asyncio.TaskGroup() as group:
                for place in range(len(self.processes)):
                    group.create_task(self._keep(place))
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
        return self._code

    async def stopped(self) -> None:
        """Wait until the supervisor stops its processes."""
        await self._stopping.wait()

    def restart(self) -> None:
        """Have each process drain, and start a new one in its place. It may be called at any moment.

        Further calls until then do nothing: a second signal would cancel running jobs.
        """
        if self._restarts.is_set():
            return
        self._restarts.set()
        for process in self.processes:
            if process is not None:
                process.send(signal.SIGTERM)

    def fail(self, code: int) -> None:
        """Stop all processes. ``run`` then returns this code."""
        self._code = code
        self._stop()

    def _on_signal(self, number: signal.Signals) -> None:
        logger.warning("%s: it goes to all processes", number.name)
        self._stop(number)

    def _stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._stopping.set()
        for process in self.processes:
            if process is not None:
                process.send(number)

    async def _keep(self, place: int) -> None:
        """Keep one process running."""
        failures = 0
        while not self._stopping.is_set():
            self._restarts.clear()
            try:
                process = await WorkerProcess.start(self._command, self._on_word, self._pass_fds)
            except OSError as error:  # no memory, or too many processes
                failures += 1
                await self._pause(f"no process can be started: {error}", failures)
                continue
            self.processes[place] = process
            if self._stopping.is_set() or self._restarts.is_set():  # while the process was started
                process.send(signal.SIGTERM)
            code = await process.ended()
            self.processes[place] = None
            self._has_been_up = self._has_been_up or process.is_up
            if self._stopping.is_set():
                self._note_last(process, code)
            elif code == RECYCLED or self._restarts.is_set():
                failures = 0
            elif self._waits_for_changes and not process.is_up:
                logger.warning("the workers cannot start: the next change of a file starts them again")
                await self._first_of(self._restarts, self._stopping)
            elif self._has_been_up:
                failures = 1 if process.age > LONG_LIFE else failures + 1
                await self._pause(f"process {process.pid} ended {named_end(code)}", failures)
            else:
                self.fail(code if code > 0 else NOT)

    async def _pause(self, why: str, failures: int) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (min(failures, 20) - 1))
        logger.error("%s: another one is started in %g s", why, pause)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._first_of(self._restarts, self._stopping)

    def _note_last(self, process: WorkerProcess, code: int) -> None:
        """Note the exit code of a process that was to stop."""
        is_well = code in (WELL, RECYCLED)
        has_workers = process.is_up and not process.is_done
        if not is_well and (has_workers or code not in _WITHOUT_WORKERS):
            logger.error("process %d ended %s", process.pid, named_end(code))
            self._code = self._code or NOT

    @staticmethod
    async def _first_of(*events: asyncio.Event) -> None:
        tasks = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
