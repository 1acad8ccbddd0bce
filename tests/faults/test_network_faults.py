"""A network that is partitioned, slow, paused or loses its connections delays jobs, and loses none."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from aiospinach import Engine, RedisBroker

from ..servers import Server
from ..waiting import until
from .conftest import CHAOS, Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger, most_at_once
from .network import Network
from .worker import faulty_tasks, record_signals


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


async def test_a_worker_cut_off_for_two_leases_is_fenced_and_no_job_is_lost(
    schedule_all: ScheduleAll,
    network: Network,
    fleet: Fleet,
    far: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    each, lease = size(5, 50), size(2, 6)
    options = ("--lease", str(lease), "--number", str(2 * each))
    near = await fleet.started(2, *options)
    for worker in near:  # so that the worker to be cut off gets these jobs
        worker.suspend()
    [cut_off] = await far.started(1, *options)
    once = await schedule_all("once", each, 60.0)
    again = await schedule_all("again", each, 3.0 * lease)
    await until(lambda: len(ledger.of("start")) == 2 * each, "it has them", show=far.logs)
    for worker in near:
        worker.resume()
    others = await schedule_all("again", 2 * each, 1.5 * lease, name="others")
    await until(lambda: len(ledger.of("start")) == 4 * each, "all have", show=fleet.logs)

    network.partition()
    healed_at = time.monotonic() + 2 * lease
    await until(lambda: time.monotonic() > healed_at, "two leases", timeout=3 * lease)
    entries_before_healing = ledger.read()
    network.heal()
    await store.drained(fleet)
    await until(lambda: len(ledger.of("finished", pid=cut_off.pid)) >= 2 * each, "it notices", show=far.logs)
    after = await schedule_all("again", 20 * each, 0.05, name="after")
    await store.drained(fleet)

    held = {*once, *again}
    cancelled = {e.key for e in entries_before_healing if (e.kind, e.pid) == ("cancelled", cut_off.pid)}
    taken = {
        e.key for e in entries_before_healing if e.kind == "start" and e.pid != cut_off.pid and e.key in held
    }
    of = {key: [entry for entry in ledger.of_task(key) if entry.key == key] for key in held}
    overlapping = {key for key, entries in of.items() if most_at_once(entries, stopped_at={}) > 1}
    starts, ends = ledger.counted("start"), ledger.counted("end")
    fenced = Counter(entry.note for entry in ledger.of("finished", pid=cut_off.pid) if entry.key in held)
    served = ledger.counted("start", "after", pid=cut_off.pid)
    report(
        held=len(held),
        cancelled=len(cancelled),
        taken_over=len(taken),
        overlapping=len(overlapping),
        fenced=fenced["LeaseLost"],
        dead=store.reasons(),
        started_after_it=len(served),
    )
    assert cancelled == held
    assert overlapping == set()
    assert fenced == {"LeaseLost": len(held)}
    assert taken == {*again}
    assert store.dead() == dict.fromkeys(once, ("once", "lost"))
    assert ends == dict.fromkeys([*again, *others, *after], 1)
    assert starts == dict.fromkeys([*once, *others, *after], 1) | dict.fromkeys(again, 2)
    assert served
    assert cut_off.is_alive


def slow(seconds: float) -> Callable[[Network, Server], object]:
    return lambda network, server: setattr(network, "delay", seconds)


def paused(seconds: float) -> Callable[[Network, Server], object]:
    def pause(network: Network, server: Server) -> None:
        with server.client() as client:
            client.execute_command("CLIENT", "PAUSE", int(seconds * 1000), "ALL")

    return pause


# A call of a worker times out after a sixth of a lease, or after 2 s, and its connection is closed.
@pytest.mark.parametrize(
    ("harm", "round_trip", "lease"),
    [
        pytest.param(slow(0.05), 0.05, 2.0, id="50 ms more"),
        pytest.param(slow(0.5), 0.5, 2.4, id="500 ms more"),
        pytest.param(
            # Shorter than the three seconds that a call which schedules tries to reach the store.
            paused(2.4 if CHAOS else 0.8),
            2.4 if CHAOS else 0.8,
            15.0 if CHAOS else 3.6,
            id="paused",
        ),
    ],
)
async def test_round_trips_may_take_almost_a_quarter_of_a_lease(
    schedule_all: ScheduleAll,
    server: Server,
    network: Network,
    far: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
    harm: Callable[[Network, Server], object],
    round_trip: float,
    lease: float,
) -> None:
    assert round_trip < lease / 4
    number = 25
    long = await schedule_all("once", number, 1.2 * lease, name="long")
    [first] = await far.started(1, "--lease", str(lease), "--number", str(number))
    await until(lambda: len(ledger.of("start")) == number, "these run", show=far.logs)
    await far.started(2, "--lease", str(lease), "--number", str(number))
    network.calls.clear()
    began = time.monotonic()
    harm(network, server)
    short = await schedule_all("once", size(60, 500), 0.05)
    short += await schedule_all("again", size(60, 500), 0.05)
    await store.drained(far, timeout=size(20, 300))
    took = time.monotonic() - began
    calls = Counter(network.calls)
    await until(
        lambda: len(ledger.of("finished")) == len(long + short), "all runs have finished", show=far.logs
    )

    jobs = len(long + short)
    starts, ends = ledger.counted("start"), ledger.counted("end")
    notes = Counter(entry.note for entry in ledger.of("finished"))
    named = ", ".join(f"{name.decode()} {count}" for name, count in sorted(calls.items()))
    report(
        jobs=jobs,
        leases_lost=notes["LeaseLost"],
        doubled=sum(count - 1 for count in starts.values()),
        dead=len(store.dead()),
        calls_per_job=f"{sum(calls.values()) / jobs:.2f} ({named})",
        connections=network.connections_made,
        took=f"{took:.1f} s",
    )
    assert notes == {"NoneType": jobs}
    assert starts == ends == dict.fromkeys(long + short, 1)
    assert store.dead() == {}
    assert sum(calls.values()) < jobs
    assert network.connections_made <= 3 * 4  # no connection was made twice
    assert first.pid in {entry.pid for entry in ledger.of("end", "long")}


async def test_half_open_connections_are_replaced_under_load_and_when_idle(
    schedule_all: ScheduleAll,
    network: Network,
    namespace: str,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
    monkeypatch: pytest.MonkeyPatch,
    fleet: Fleet,
) -> None:
    if not CHAOS:  # with the default timeouts it takes half a minute
        monkeypatch.setattr("aiospinach.brokers.redis.transports.ANSWER_WITHIN", 1.0)
        monkeypatch.setattr("aiospinach.brokers.redis.transports.WATCHDOG", 0.2)
        monkeypatch.setattr("aiospinach.workers.listener.LISTEN_FOR", 0.5)
    rounds, number = 2, 10
    record_signals(ledger)
    keys: list[str] = []
    resumed: list[float] = []

    async def reconnected(made: int) -> None:
        await until(lambda: network.connections_made > made, "it reconnects", timeout=20)

    async with Engine(RedisBroker(network.url, lease=size(6, 30)), namespace) as engine:
        engine.attach_tasks(faulty_tasks(ledger))
        await engine.start_workers(number, block=False)
        for round_ in range(rounds):
            idle = round_ % 2 == 1  # only the blocking call is under way
            if not idle:
                keys += await schedule_all("once", size(50, 500), 0.02, name=f"before-{round_}")
                await until(lambda: len(ledger.of("start")) >= number, "load")
            made = network.connections_made
            network.freeze_connections()
            frozen_at = time.monotonic()
            keys += await schedule_all("once", size(50, 500), 0.02, name=f"after-{round_}")
            await reconnected(made)
            resumed.append(time.monotonic() - frozen_at)
            await store.drained(fleet, timeout=20)
        await until(lambda: len(ledger.of("finished")) == len(keys), "all runs have finished")
        await engine.stop_workers()

    starts, ends = ledger.counted("start"), ledger.counted("end")
    report(
        jobs=len(keys),
        lost=len({*keys} - ends.keys()),
        doubled=sum(count - 1 for count in starts.values()),
        dead=len(store.dead()),
        reconnected_within=f"{max(resumed):.1f} s",
        connections_made=network.connections_made,
    )
    assert starts == ends == dict.fromkeys(keys, 1)
    assert {entry.note for entry in ledger.of("finished")} == {"NoneType"}
    assert store.dead() == {}
