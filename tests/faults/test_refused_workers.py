"""Workers that a server refuses log it once, retry rarely, and continue when they are accepted again."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from ..servers import Server
from ..waiting import until
from .conftest import CHAOS, Report, ScheduleAll, Size
from .fleet import Fleet, Store, Worker
from .ledger import Ledger
from .network import Network

WORKERS = 2
OUTAGE = 6.0 if CHAOS else 1.5
LEASE = "40" if CHAOS else "6"
DENIED = r"does not let this user in, or do this \(\w+\): check user, password and ACL"


Admin = Callable[[str], object]
"""Runs a command."""


class Refusal(NamedTuple):
    """The commands that refuse workers and accept them again, and the expected message."""

    refuse: str
    accept: str
    message: str


REFUSALS = [
    pytest.param(
        Refusal("ACL SETUSER app resetpass >other", "ACL SETUSER app resetpass >pw", DENIED), id="password"
    ),
    pytest.param(Refusal("ACL SETUSER app -evalsha", "ACL SETUSER app +evalsha", DENIED), id="evalsha"),
    pytest.param(
        Refusal("CONFIG SET maxclients 1", "CONFIG SET maxclients 1000", "takes no more clients"),
        id="maxclients",
    ),
]


@pytest.fixture
def admin(server: Server) -> Iterator[Admin]:
    """A connection that stays open when others are refused."""
    with redis.Redis(unix_socket_path=str(server.socket), single_connection_client=True) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all")
        yield lambda command: admin.execute_command(*command.split())


@pytest.fixture
async def network(server: Server) -> AsyncIterator[Network]:
    """Counts the connections and calls of the workers."""
    async with Network(server.port) as network:
        yield network


@pytest.fixture
def users(admin: Admin, network: Network, namespace: str, ledger: Ledger, tmp_path: Path) -> Iterator[Fleet]:
    """Workers with their own user and password."""
    folder = tmp_path / "users"
    folder.mkdir()
    fleet = Fleet(network.url.replace("//", "//app:pw@"), namespace, ledger, folder)
    yield fleet
    fleet.close()


def seconds_of_cpu(worker: Worker) -> float:
    """The processor time of a process, from proc(5); 0 where there is none."""
    if sys.platform != "linux":
        return 0.0
    fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Outage:
    """Measures workers while they are refused."""

    def __init__(self, fleet: Fleet, network: Network, admin: Admin, refusal: Refusal) -> None:
        self._fleet = fleet
        self._network = network
        self._admin = admin
        self._refusal = refusal
        self._logs_before = [worker.log.read_text() for worker in fleet.workers]
        self._used = [seconds_of_cpu(worker) for worker in fleet.workers]
        self._made, self._calls = network.connections_made, network.calls.total()
        admin(refusal.refuse)
        admin("CLIENT KILL USER app")
        self.began = time.monotonic()

    @property
    def logged(self) -> list[list[str]]:
        """The lines that each worker has logged since."""
        return [
            worker.log.read_text()[len(before) :].splitlines()
            for worker, before in zip(self._fleet.workers, self._logs_before, strict=True)
        ]

    @property
    def is_logged(self) -> bool:
        """Whether each worker has logged the refusal."""
        return all(any(re.search(self._refusal.message, line) for line in lines) for lines in self.logged)

    @property
    def tries(self) -> int:
        """The number of connections and calls of all workers."""
        return self._network.connections_made - self._made + self._network.calls.total() - self._calls

    @property
    def cpu(self) -> float:
        """The processor time of the busiest worker, in percent."""
        seconds = time.monotonic() - self.began
        used = zip(self._fleet.workers, self._used, strict=True)
        return max(seconds_of_cpu(worker) - before for worker, before in used) / seconds * 100

    def end(self) -> None:
        self._admin(self._refusal.accept)


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_refused_workers_retry_rarely_and_continue_when_accepted(
    schedule_all: ScheduleAll,
    admin: Admin,
    network: Network,
    users: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
    refusal: Refusal,
) -> None:
    each = size(60, 1000)
    await users.started(WORKERS, "--lease", LEASE, "--number", "5")
    keys = await schedule_all("once", each, 0.03) + await schedule_all("again", each, 0.03)
    await until(lambda: len(ledger.of("end")) >= each / 2, "load", show=users.logs)
    outage = Outage(users, network, admin, refusal)
    await until(lambda: outage.is_logged, "they log it", show=users.logs)
    started = len(ledger.of("start"))
    keys += await schedule_all("again", each, 0.03, name="during")
    await asyncio.sleep(OUTAGE - (time.monotonic() - outage.began))
    tries, cpu, logged, alive = outage.tries, outage.cpu, outage.logged, len(users.alive)
    started_meanwhile = len(ledger.of("start")) - started
    outage.end()
    back = time.monotonic()
    await until(lambda: ledger.of("start")[-1].at > back, "they continue", timeout=20, show=users.logs)
    resumed = time.monotonic() - back
    await store.drained(users, timeout=60)
    await until(lambda: len(ledger.of("finished")) == len(keys), "all runs have finished", show=users.logs)

    starts, ends = ledger.counted("start"), ledger.counted("end")
    report(
        jobs=len(keys),
        lost=len({*keys} - ends.keys()),
        doubled=sum(count - 1 for count in starts.values()),
        dead=len(store.dead()),
        started_meanwhile=started_meanwhile,
        lines=[len(lines) for lines in logged],
        connections_and_calls=tries,
        cpu=f"{cpu:.1f} %",
        resumed_after=f"{resumed:.2f} s",
        alive=alive,
    )
    assert started_meanwhile == 0
    assert all(logged)
    for lines in logged:  # consumer, sweeper, listener and others log it once each
        parts = [line.split(" ", 3)[3].partition(": Redis at")[0] for line in lines]
        assert len(parts) == len({*parts}), lines
    assert not any("pw" in line for lines in logged for line in lines)
    # Consumer, maintenance and listener each retry at most once a second, in up to four calls.
    assert tries <= WORKERS * (3 * OUTAGE + 10) * 5
    assert alive == WORKERS
    assert starts == ends == dict.fromkeys(keys, 1)
    assert {entry.note for entry in ledger.of("finished")} == {"NoneType"}
    assert store.dead() == {}
    if CHAOS and sys.platform == "linux":
        assert cpu < 20
