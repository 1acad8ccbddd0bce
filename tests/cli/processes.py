"""Worker commands in processes of their own, with a ledger of what their jobs did."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx

from ..faults.ledger import Ledger
from ..servers import kill_with_parent
from ..waiting import until
from .conftest import command, environment

PROGRAM = """
from pathlib import Path

from aiospinach import Engine, RedisBroker
from tests.faults.ledger import Ledger
from tests.faults.worker import faulty_tasks, record_signals

ledger = Ledger(Path({ledger!r}))
engine = Engine(RedisBroker({url!r}, lease=1), {namespace!r})
engine.attach_tasks(faulty_tasks(ledger))
record_signals(ledger)
"""


class WorkerCommand:
    """``aiospinach worker program:engine``, started in a folder that has the program."""

    def __init__(self, folder: Path, ledger: Ledger, url: str, namespace: str) -> None:
        self._folder = folder
        self._ledger = ledger
        self.program: Path = folder / "program.py"
        self.text: str = PROGRAM.format(ledger=str(ledger.path), url=url, namespace=namespace)
        self.program.write_text(self.text)
        self._log = folder / "worker.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the command, and return at once."""
        with self._log.open("ab") as file:
            self.process = subprocess.Popen(
                command("worker", "program:engine", *options),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment(),
                preexec_fn=kill_with_parent(),
            )
        return self.process

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def pids(self) -> list[int]:
        """The processes whose workers have begun to fetch, in this order."""
        return [entry.pid for entry in self._ledger.of("up")]

    async def up(self, count: int) -> list[int]:
        """Return when so many processes have begun to fetch."""
        await until(lambda: len(self.pids) >= count, f"{count} are up", timeout=30, show=lambda: self.log)
        return self.pids

    async def logs(self, text: str) -> None:
        """Return when the log has this text."""
        await until(lambda: text in self.log, repr(text), timeout=30, show=lambda: self.log)

    async def ended(self, *, timeout: float = 30) -> int:
        """Return the exit code, once the command has ended."""
        process = self.process
        assert process is not None
        await until(lambda: process.poll() is not None, "the end", timeout=timeout, show=lambda: self.log)
        return process.returncode

    async def stop(self) -> int:
        """Send SIGTERM. Returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    def close(self) -> None:
        """Kill the command if it runs. Its children end with it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


async def probe(port: int, path: str, method: str = "GET") -> httpx.Response:
    """Ask the probes at a port."""
    async with httpx.AsyncClient(timeout=10) as client:
        return await client.request(method, f"http://127.0.0.1:{port}{path}")


async def probed(port: int, path: str, status: int, worker: WorkerCommand) -> Any:
    """Return the JSON of a probe, once it has this status."""
    last: list[httpx.Response | str] = []
    for _ in range(600):
        try:
            response = await probe(port, path)
        except httpx.TransportError as error:
            last[:] = [repr(error)]
        else:
            last[:] = [response]
            if response.status_code == status:
                return response.json()
        await asyncio.sleep(0.02)
    raise AssertionError(f"{path} did not answer {status}: {last}\n{worker.log}")
