"""A server that lets workers in no more, or does not do what they ask for: they say so once, try on rarely,
and go on where they were when it does again."""

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
"""Carries out a command."""


class Refusal(NamedTuple):
    """What the administrator does to refuse, and to give back; what the workers are to say."""

    refuse: str
    give_back: str
    says: str


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
    """One connection, which stays when others are refused."""
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
    """Workers with a user and password of their own."""
    folder = tmp_path / "users"
    folder.mkdir()
    fleet = Fleet(network.url.replace("//", "//app:pw@"), namespace, ledger, folder)
    yield fleet
    fleet.close()


def seconds_of_cpu(worker: Worker) -> float:
    """What a process has used so far, as proc(5) tells; 0 where there is none."""
    if sys.platform != "linux":
        return 0.0
    fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Outage:
    """What workers do while they are refused."""

    def __init__(self, fleet: Fleet, network: Network, admin: Admin, refusal: Refusal) -> None:
        self._fleet = fleet
        self._network = network
        self._admin = admin
        self._refusal = refusal
        self._words = [worker.log.read_text() for worker in fleet.workers]
        self._used = [seconds_of_cpu(worker) for worker in fleet.workers]
        self._made, self._calls = network.made, network.calls.total()
        admin(refusal.refuse)
        admin("CLIENT KILL USER app")
        self.began = time.monotonic()

    @property
    def said(self) -> list[list[str]]:
        """The lines that each has logged since."""
        return [
            worker.log.read_text()[len(before) :].splitlines()
            for worker, before in zip(self._fleet.workers, self._words, strict=True)
        ]

    @property
    def is_told(self) -> bool:
        """Each has said what is wrong."""
        return all(any(re.search(self._refusal.says, line) for line in lines) for lines in self.said)

    @property
    def tries(self) -> int:
        """Connections and calls of all."""
        return self._network.made - self._made + self._network.calls.total() - self._calls

    @property
    def cpu(self) -> float:
        """Percent of a processor that the busiest used."""
        seconds = time.monotonic() - self.began
        used = zip(self._fleet.workers, self._used, strict=True)
        return max(seconds_of_cpu(worker) - before for worker, before in used) / seconds * 100

    def end(self) -> None:
        self._admin(self._refusal.give_back)


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_workers_are_refused_for_a_while(
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
    await until(lambda: outage.is_told, "they say it", show=users.logs)
    started = len(ledger.of("start"))
    keys += await schedule_all("again", each, 0.03, name="during")
    await asyncio.sleep(OUTAGE - (time.monotonic() - outage.began))
    tries, cpu, said, alive = outage.tries, outage.cpu, outage.said, len(users.alive)
    started_meanwhile = len(ledger.of("start")) - started
    outage.end()
    back = time.monotonic()
    await until(lambda: ledger.of("start")[-1].at > back, "they go on", timeout=20, show=users.logs)
    resumed = time.monotonic() - back
    await store.drained(users, timeout=60)
    await until(lambda: len(ledger.of("finished")) == len(keys), "all hear of it", show=users.logs)

    starts, ends = ledger.counted("start"), ledger.counted("end")
    report(
        jobs=len(keys),
        lost=len({*keys} - ends.keys()),
        doubled=sum(count - 1 for count in starts.values()),
        dead=len(store.dead()),
        started_meanwhile=started_meanwhile,
        lines=[len(lines) for lines in said],
        connections_and_calls=tries,
        cpu=f"{cpu:.1f} %",
        resumed_after=f"{resumed:.2f} s",
        alive=alive,
    )
    assert started_meanwhile == 0
    assert all(said)
    for lines in said:  # each of consumer, sweeper, listener and the like says it once
        tellers = [line.split(" ", 3)[3].partition(": Redis at")[0] for line in lines]
        assert len(tellers) == len({*tellers}), lines
    assert not any("pw" in line for lines in said for line in lines)
    # Consumer, maintenance and listener each try about once a second at most, in up to four calls each.
    assert tries <= WORKERS * (3 * OUTAGE + 10) * 5
    assert alive == WORKERS
    assert starts == ends == dict.fromkeys(keys, 1)
    assert {entry.note for entry in ledger.of("finished")} == {"NoneType"}
    assert store.dead() == {}
    if CHAOS and sys.platform == "linux":
        assert cpu < 20
