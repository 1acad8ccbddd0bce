"""A master with a replica and three Sentinels, and a Cluster of three masters; all on the loopback."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis

from ..servers import Server, free_port, server_binary

SERVICE = "jobs"
SLOTS = 16384


def wait_for(condition: Callable[[], object], what: str, timeout: float = 60.0) -> None:
    """``until`` for fixtures that run without an event loop."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if condition():
                return
        except (redis.exceptions.RedisError, LookupError, TypeError, ValueError):
            pass  # the servers are not ready for the condition
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout:g} s"
        time.sleep(0.02)


def raw(port: int, *command: Any) -> Any:
    """The unchanged reply of a server; redis-py would convert some."""
    with redis.Redis(port=port, decode_responses=True, protocol=2) as client:
        client.response_callbacks.clear()
        return client.execute_command(*command)


class Sentinel:
    """A Sentinel process that monitors a master."""

    def __init__(self, master: Server) -> None:
        self.server = Server()
        self.port = self.server.port
        conf = self.server.folder / "sentinel.conf"
        conf.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.server.folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 4000\n"
        )
        self.server.process = subprocess.Popen(
            [server_binary(), str(conf), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def ask(self, *command: Any) -> Any:
        return raw(self.port, "SENTINEL", *command)

    def close(self) -> None:
        self.server.close()


class Watched:
    """A master, its replica, and the Sentinels that monitor both."""

    def __init__(self) -> None:
        common = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
        first = Server(*common).start()
        self.servers = [first, Server(*common, "--replicaof", "127.0.0.1", str(first.port)).start()]
        self.sentinels = [Sentinel(first) for _ in range(3)]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.hosts}/{SERVICE}"

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    @property
    def master(self) -> Server:
        _, port = self.sentinels[0].ask("GET-MASTER-ADDR-BY-NAME", SERVICE)
        [server] = [server for server in self.servers if server.port == int(port)]
        return server

    @property
    def replica(self) -> Server:
        [server] = [server for server in self.servers if server is not self.master]
        return server

    def is_whole(self) -> bool:
        """Whether every Sentinel knows the others and the replica, and the replica is in sync."""
        for sentinel in self.sentinels:
            [replica] = sentinel.ask("REPLICAS", SERVICE)
            if replica[replica.index("flags") + 1] != "slave":
                return False
            if len(sentinel.ask("SENTINELS", SERVICE)) != 2:
                return False
            if sentinel.ask("GET-MASTER-ADDR-BY-NAME", SERVICE)[1] != str(self.master.port):
                return False
        with self.master.client() as master, self.replica.client() as replica_client:
            link_status = replica_client.info("replication").get("master_link_status")
            return bool(master.info("replication")["role"] == "master" and link_status == "up")

    def close(self) -> None:
        for sentinel in self.sentinels:
            sentinel.close()
        for server in self.servers:
            server.close()


class Cluster:
    """Three masters that share the slots."""

    def __init__(self) -> None:
        buses = [free_port() for _ in range(3)]
        self.servers = [self._node(bus) for bus in buses]
        third = SLOTS // 3
        bounds = [(0, third), (third + 1, 2 * third), (2 * third + 1, SLOTS - 1)]
        for server, bound in zip(self.servers, bounds, strict=True):
            self.ask(server, "CLUSTER ADDSLOTSRANGE", *bound)
        for server, bus in list(zip(self.servers, buses, strict=True))[1:]:
            self.ask(self.servers[0], "CLUSTER MEET", "127.0.0.1", server.port, bus)

    @staticmethod
    def _node(bus: int) -> Server:
        return Server(
            *("--cluster-enabled", "yes", "--cluster-port", str(bus)),
            *("--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"),
            *("--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"),
        ).start()

    def add_replica(self, master: Server) -> Server:
        """A fourth node, which takes over when this master is down; it is not in ``servers``."""
        bus = free_port()
        replica = self._node(bus)
        self.ask(master, "CLUSTER MEET", "127.0.0.1", replica.port, bus)
        name = self.id_of(master)
        wait_for(lambda: name in self.ask(replica, "CLUSTER NODES"), "they know each other")
        self.ask(replica, "CLUSTER REPLICATE", name)
        return replica

    def is_copied(self, replica: Server) -> bool:
        """Whether the replica is in sync, and every master knows it."""
        name = self.id_of(replica)
        return "master_link_status:up" in self.ask(replica, "INFO", "replication") and all(
            f"{name} " in line and " slave " in line
            for server in self.servers
            for line in self.ask(server, "CLUSTER NODES").splitlines()
            if line.startswith(name)
        )

    def is_master(self, server: Server) -> bool:
        return "role:master" in self.ask(server, "INFO", "replication")

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def ask(self, server: Server, *command: Any) -> Any:
        return raw(server.port, *command)

    def id_of(self, server: Server) -> str:
        return str(self.ask(server, "CLUSTER MYID"))

    def owner(self, slot: int) -> Server:
        """The server that owns a slot, according to its own node."""
        [owner] = [
            server
            for server in self.servers
            for first, last, (_, port, *_), *_ in self.ask(server, "CLUSTER SLOTS")
            if first <= slot <= last and port == server.port
        ]
        return owner

    def is_whole(self) -> bool:
        """Whether every node sees three masters and all slots."""
        for server in self.servers:
            facts = dict(
                line.split(":", 1) for line in self.ask(server, "CLUSTER INFO").splitlines() if ":" in line
            )
            if (facts["cluster_state"], facts["cluster_slots_ok"], facts["cluster_size"]) != (
                "ok",
                str(SLOTS),
                "3",
            ):
                return False
        return True

    def cross_slot_errors(self) -> int:
        """The number of nodes that refused calls with keys of several slots."""
        return sum(
            "CROSSSLOT" in self.ask(server, "INFO", "errorstats") for server in self.servers if server.process
        )

    def close(self) -> None:
        for server in self.servers:
            server.close()


@pytest.fixture(scope="session")
def _watched() -> Iterator[Watched]:
    watched = Watched()
    try:
        yield watched
    finally:
        watched.close()


@pytest.fixture
def watched(_watched: Watched) -> Watched:
    """The master with its replica and Sentinels, recovered from the previous test."""
    wait_for(_watched.is_whole, "the Sentinels agree")
    return _watched


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def cluster(_cluster: Cluster) -> Iterator[Cluster]:
    """The Cluster, recovered from the previous test; no call of a test may span slots."""
    wait_for(_cluster.is_whole, "the Cluster is whole")
    yield _cluster
    assert _cluster.cross_slot_errors() == 0


def spread(cluster: Cluster, namespace: str, count: int = 6) -> Sequence[str]:
    """Names of queues that are on all three masters in turn."""
    found: list[list[str]] = [[] for _ in cluster.servers]
    for number in range(1000):
        queue = f"q{number}"
        owner = cluster.servers.index(cluster.owner(slot_of(cluster, namespace, queue)))
        found[owner].append(queue)
        if min(map(len, found)) * len(found) >= count:
            break
    return [queue for queues in zip(*found, strict=False) for queue in queues]


def slot_of(cluster: Cluster, namespace: str, queue: str) -> int:
    return int(cluster.ask(cluster.servers[0], "CLUSTER KEYSLOT", f"{{{namespace}:{queue}}}"))
