"""``aiospinach dev`` in a folder of its own: its output, its view and its processes."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

from ..servers import free_port, kill_with_parent
from ..waiting import until
from .conftest import command, environment

_VIEW = re.compile(r"^view: (http://127\.0\.0\.1:\d+/)$", re.MULTILINE)
PROGRAM = """
import asyncio
from pathlib import Path

from aiospinach import Engine, {broker}

engine = Engine({broker}({url}), namespace="shop")


@engine.task(max_retries=3)
async def send(name: str) -> None:
    print("hello", name, flush=True)
    while name == "slow" and not Path("released").exists():
        await asyncio.sleep(0.01)
"""


def before_exec() -> Callable[[], object]:
    """A preexec_fn for a child that ends with its parent, and hears SIGHUP also if the suite does not."""
    end_with_parent = kill_with_parent() or (lambda: None)
    return lambda: (signal.signal(signal.SIGHUP, signal.SIG_DFL), end_with_parent())


class DevCommand:
    """The command in a folder that has the program ``shop.py``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "shop.py"
        self.server_port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.launcher: list[str] = []
        """Words in front of the command."""
        self._log = folder / "dev.log"
        self.write("RedisBroker")

    def write(self, broker: str, url: str = "", more: str = "") -> str:
        """Write the program. Returns its text."""
        text = PROGRAM.format(broker=broker, url=repr(url) if url else "") + more
        self.program.write_text(text)
        return text

    def start(self, *options: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start the command, on ports that are free, and return at once."""
        with self._log.open("wb") as file:
            self.process = subprocess.Popen(
                [*self.launcher, *command("dev", "shop:engine", *(options or self.ports))],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment(**variables),
                preexec_fn=before_exec(),
            )
        return self.process

    @property
    def ports(self) -> list[str]:
        return ["--port", "0", "--server-port", str(self.server_port)]

    @property
    def url(self) -> str:
        """The URL of the server that the command starts."""
        return f"redis://localhost:{self.server_port}/0"

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    async def logs(self, text: str, count: int = 1) -> None:
        """Return when the output has this text so many times."""
        await until(lambda: self.log.count(text) >= count, repr(text), timeout=40, show=lambda: self.log)

    async def up(self, count: int = 1) -> None:
        """Return when workers have started so many times."""
        await self.logs("5 at a time", count)

    def schedule(self, name: str, after: str = "") -> None:
        """Schedule a job in a process of its own, as the output of the command shows."""
        code = f"import shop; shop.engine.blocking.schedule('send', {name!r})"
        subprocess.run(
            [sys.executable, "-W", "error", "-c", after or code],
            cwd=self.folder,
            env=environment(AIOSPINACH_URL=self.url),
            timeout=30,
            check=True,
        )

    @property
    def view(self) -> str:
        """The URL of the web view."""
        found = _VIEW.search(self.log)
        assert found, self.log
        return found[1]

    async def page(self, path: str = "", **options: str) -> httpx.Response:
        """Return a page of the view."""
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            return await client.get(self.view + path, headers=options)

    @property
    def children(self) -> list[int]:
        """The processes that the command has started."""
        assert self.process is not None
        return children_of(self.process.pid)

    @property
    def has_server(self) -> bool:
        """Something listens at the port of the server."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.server_port)) == 0

    async def ended(self) -> int:
        """Return the exit code, once the command has ended."""
        process = self.process
        assert process is not None
        await until(lambda: process.poll() is not None, "the end", timeout=40, show=lambda: self.log)
        return process.returncode

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal. Returns the exit code, once neither a process nor the server is left."""
        assert self.process is not None
        children = self.children
        self.process.send_signal(number)
        code = await self.ended()
        assert not [pid for pid in children if is_alive(pid)]
        return code

    def close(self) -> None:
        """Kill the command if it runs. What it has started ends with it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def children_of(pid: int) -> list[int]:
    """Return the processes that the main thread of a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended, and waits to be reaped, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
