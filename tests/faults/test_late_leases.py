"""Leases that arrive late, or cannot be renewed in time, lose no job, and run none twice at a time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ..servers import Server
from ..waiting import until
from .conftest import CHAOS, Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger, most_at_once
from .network import Network
from .worker import LIMIT

# Fractions of a lease between an exchange and its answer. A worker trusts a lease for 11/12 of its length,
# and another worker gets the jobs after 7/6.
DELAYS = [0.4, 0.6, 0.7, 0.8, 0.87, 0.95, 1.05] if CHAOS else [0.6, 0.75, 0.95]


@pytest.fixture
async def network(server: Server) -> AsyncIterator[Network]:
    """A network in front of the server; the scheduling engine does not use it."""
    async with Network(server.port) as network:
        yield network


@pytest.fixture
async def far(network: Network, namespace: str, ledger: Ledger, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Workers behind the network."""
    folder = tmp_path / "far"
    folder.mkdir()
    fleet = Fleet(network.url, namespace, ledger, folder)
    yield fleet
    fleet.close()


def lose_next_answer(network: Network) -> asyncio.Event:
    """Have the server run the next exchange, lose its answer, and partition the network."""
    lost = asyncio.Event()

    def loses(name: bytes, count: int) -> bool:
        if name != b"exchange" or lost.is_set():
            return False
        lost.set()
        network.partition()
        return True

    network.lose_answers(loses)
    return lost


async def moment(at: float) -> None:
    """Return at this moment of time.monotonic()."""
    await asyncio.sleep(at - time.monotonic())


async def test_late_answers_run_no_job_concurrently_with_itself(
    schedule_all: ScheduleAll,
    network: Network,
    fleet: Fleet,
    far: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    lease, each = size(15, 30) / 10, size(3, 10)
    options = ("--lease", str(lease), "--number", str(5 * each))
    [late] = await far.started(1, *options)
    [near] = await fleet.started(1, *options)
    once: list[str] = []
    others: list[str] = []
    for round_, delay in enumerate(DELAYS):
        near.suspend()  # so that the other worker gets the jobs
        before = len(ledger.of("start", pid=late.pid))
        lost = lose_next_answer(network)
        once += await schedule_all("once", each, 2 * lease, name=f"once-{round_}")
        once += await schedule_all("plain_once", each, 0.2 * lease, name=f"plain-once-{round_}")
        others += await schedule_all("limited", each, 2 * lease, name=f"limited-{round_}")
        others += await schedule_all("again", each, 2 * lease, name=f"again-{round_}")
        others += await schedule_all("plain_again", each, 0.2 * lease, name=f"plain-again-{round_}")
        await asyncio.wait_for(lost.wait(), 20)
        sent = time.monotonic()
        near.resume()
        await moment(sent + delay * lease)
        network.heal()
        while len(ledger.of("start", pid=late.pid)) == before and time.monotonic() < sent + 1.5 * lease:
            await asyncio.sleep(0.001)
        network.partition()  # before the leases can be renewed
        await moment(sent + 2.5 * lease)
        network.heal()
        await store.drained(fleet, timeout=30)

    starts, ends = ledger.counted("start"), ledger.counted("end")
    concurrent = {
        key
        for key in (*once, *others)
        if most_at_once([entry for entry in ledger.of_task(key) if entry.key == key], stopped_at={}) > 1
    }
    limited = most_at_once(ledger.of_task("limited"), stopped_at={})
    report(
        jobs=len(once) + len(others),
        begun_by_the_late_one=len(ledger.of("start", pid=late.pid)),
        once_starts_at_most=max(starts[key] for key in once),
        dead=store.reasons(),
        concurrent=len(concurrent),
        limited_at_most=limited,
        lost=len({*others} - ends.keys()),
    )
    assert concurrent == set()
    assert max(starts[key] for key in once) <= 1
    assert limited <= LIMIT
    assert ends.keys() >= {*others}
    # A job that runs at most once has ended, or is dead.
    assert {key for key in once if key not in ends} <= store.dead().keys()


async def test_plain_functions_survive_a_network_outage_of_nearly_a_lease(
    schedule_all: ScheduleAll,
    network: Network,
    far: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    lease, each = size(15, 60) / 10, size(5, 40)
    [worker] = await far.started(1, "--lease", str(lease), "--number", str(2 * each))
    keys = await schedule_all("plain_once", each, 1.5 * lease)
    keys += await schedule_all("plain_again", each, 1.5 * lease)
    await until(lambda: len(ledger.of("start")) == 2 * each, "they run", show=far.logs)
    network.partition()
    await moment(time.monotonic() + 0.97 * lease)
    network.heal()
    await store.drained(far)
    await until(lambda: len(ledger.of("finished")) >= 2 * each, "all runs have finished", show=far.logs)

    starts, ends = ledger.counted("start"), ledger.counted("end")
    notes = Counter(entry.note for entry in ledger.of("finished"))
    suspected = worker.log.read_text().count("may lose its lease")
    report(
        jobs=len(keys),
        suspected=suspected,
        lost=len({*keys} - ends.keys()),
        doubled=sum(count - 1 for count in starts.values()),
        dead=store.reasons(),
        ended_as=dict(notes),
    )
    assert suspected == len(keys)
    assert starts == ends == dict.fromkeys(keys, 1)
    assert notes == {"NoneType": len(keys)}
    assert store.dead() == {}
