"""Worker processes that can be harmed, and the store read with a plain client."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from ..servers import Server, kill_with_parent
from ..waiting import until
from .ledger import Ledger

ROOT = Path(__file__).parents[2]
RUN = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("tests.faults.worker", run_name="__main__", alter_sys=True)
"""


class Worker:
    """A process that runs ``worker.py``."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=file, preexec_fn=kill_with_parent()
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()
        self.process.wait()

    def suspend(self) -> None:
        """Suspend the process."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the suspended process."""
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)


class Fleet:
    """The worker processes of one test, with one server and one ledger."""

    def __init__(self, url: str, namespace: str, ledger: Ledger, folder: Path) -> None:
        self._arguments = [url, namespace, str(ledger.path)]
        self._ledger = ledger
        self._folder = folder
        self.workers: list[Worker] = []

    def start(self, *options: str, release: Path = ROOT) -> Worker:
        """Start a process, of this checkout or of the release in a wheel, and return at once."""
        command = [sys.executable, "-c", RUN, str(release), *self._arguments, *options]
        worker = Worker(command, self._folder / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        return worker

    async def started(self, count: int, *options: str, release: Path = ROOT) -> list[Worker]:
        """Start ``count`` processes, and return when they fetch jobs."""
        workers = [self.start(*options, release=release) for _ in range(count)]
        await self.up(*workers)
        return workers

    async def up(self, *workers: Worker) -> None:
        """Return when these processes fetch jobs."""
        pids = {worker.pid for worker in workers}
        await until(
            lambda: pids <= {entry.pid for entry in self._ledger.of("up")},
            "the workers fetch",
            timeout=20,
            show=self.logs,
        )

    @property
    def alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.is_alive]

    def logs(self, *, whole: bool = False) -> str:
        """The logs of all processes, or their ends."""
        return "\n".join(
            f"--- {worker.pid} {worker.process.poll()}\n{worker.log.read_text()[0 if whole else -1500 :]}"
            for worker in self.workers
        )

    def close(self) -> None:
        """Kill the processes that are still running."""
        for worker in self.alive:
            worker.kill()


class Store:
    """The keys of the queue ``default``."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._server = server
        self._prefix = f"ais2:{{{namespace}:default}}:"

    def __call__(self, command: str, name: str, *arguments: Any) -> Any:
        with self._server.client() as client:
            return client.execute_command(command, self._prefix + name, *arguments)

    @property
    def live(self) -> int:
        """The number of jobs that have not ended."""
        count: int = self("HLEN", "jobs")
        return count

    @property
    def leases(self) -> int:
        count: int = self("ZCARD", "leases")
        return count

    @property
    def slots(self) -> int:
        count: int = self("ZCARD", "slots")
        return count

    @property
    def ready(self) -> int:
        count: int = self("LLEN", "ready")
        return count

    def dead(self) -> dict[str, tuple[str, str]]:
        """Task and reason of each dead job, by its key (or its id, if it has no key)."""
        dead_jobs = {}
        for job_id, record in self("HGETALL", "deadjobs").items():
            head, _, rest = record.partition(b"\n")
            length = int(head.split(b" ")[1])
            static, _, body = rest[:length].split(b"\n", 2)
            args = json.loads(body)[0]
            reason = json.loads(rest[length:])["reason"]
            dead_jobs[args[0] if args else job_id.decode()] = (static.split(b" ")[1].decode(), reason)
        return dead_jobs

    def reasons(self) -> Counter[tuple[str, str]]:
        """The number of dead jobs by task and reason."""
        return Counter(self.dead().values())

    async def drained(self, fleet: Fleet, *, timeout: float = 20) -> None:
        """Return when no job is live or queued, and no lease or slot is left."""

        def left() -> dict[str, int]:
            return {"live": self.live, "leases": self.leases, "slots": self.slots, "ready": self.ready}

        def shown() -> str:
            return f"{left()}\n{fleet.logs()}"

        # All at once, since a periodic task may tick at any moment.
        await until(lambda: not any(left().values()), "every job has ended", timeout=timeout, show=shown)
