"""Unreadable data in the store, and invalid arguments, stop no good job and no worker."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import redis

from aiospinach import Engine, InvalidArguments

from ..redis.conftest import key
from ..redis.test_scripts import POISON
from ..servers import Server
from ..waiting import until
from .conftest import Report, ScheduleAll, Size
from .fleet import Fleet, Store
from .ledger import Ledger

MEGABYTES = 10
DEEP = 2000

BODIES: dict[str, bytes] = {
    "no body": b"",
    "no UTF-8": b'[["\xff\xfe",0],{}]',
    "half a body": b'[["half",',
    "too many arguments": b'[["many",0,"",4],{}]',
    "another name": b'[[],{"unheard":1}]',
    "10 MB": b'[["' + b"x" * (MEGABYTES << 20) + b'",0],{}]',
    "10 MB of brackets": b"[" * (MEGABYTES << 20),
    "deep": b'[["deep",' + b"[" * DEEP + b"]" * DEEP + b"],{}]",
    "deep and open": b"[" * DEEP,
    "NaN": b'[["nan",NaN],{}]',
    "a number beyond floats": b'[["beyond",1e999],{}]',
    "a surrogate": b'[["\\ud800",0],{}]',
    "a surrogate in bytes": b'[["\xed\xa0\x80",0],{}]',
}
"""Invalid bodies for jobs of the task ``again``, whose arguments are a text and a
number."""


def nested(depth: int) -> object:
    value: object = 0
    for _ in range(depth):
        value = [value]
    return value


REFUSED: dict[str, tuple[object, ...]] = {
    "10 MB": ("big", 0.0, "x" * (MEGABYTES << 20)),
    "deep": (nested(DEEP), 0.0),
    "NaN": ("nan", float("nan")),
    "infinity": ("infinity", float("inf")),
    "a surrogate": ("\ud800", 0.0),
    "a surrogate in a key": ({"\udfff": 1}, 0.0),
    "an object": (object(), 0.0),
    "bytes for a text": (b"\xff", 0.0),
}
"""Arguments that would not arrive equal."""

TYPES = ("ready", "leases", "slots", "future", "cancels", "control", "wake", "dead", "lanes")


class Poisoner:
    """Writes invalid data to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.bad: list[bytes] = []
        self.foreign: list[bytes] = []
        self.dead: list[str] = []

    def put_ids(self, round_: int) -> None:
        """Queue ids that are unreadable, or whose envelopes are unreadable or missing."""
        for job_id, envelope in POISON.values():
            unique = job_id + str(round_).encode() if job_id else job_id
            if envelope is not None:
                self._store("HSET", "jobs", unique, envelope)
            self._store("RPUSH", "ready", unique)
            (self.foreign if (envelope or b"").startswith(b"3 ") else self.bad).append(unique)

    def put_bodies(self, round_: int) -> None:
        """Queue jobs with unreadable arguments, with retries in every other round."""
        for name, body in BODIES.items():
            job_id = f"{name}-{round_}".replace(" ", "-")
            self._store(
                "HSET", "jobs", job_id, f"2 again {round_ % 2 * 3} 0 -\n0 0 0 0 - - - -\n".encode() + body
            )
            self._store("RPUSH", "ready", job_id)
            self.dead.append(job_id)


async def test_good_jobs_run_among_unreadable_ones(
    engine: Engine,
    schedule_all: ScheduleAll,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    size: Size,
    report: Report,
) -> None:
    rounds, each = size(2, 5), size(50, 200)
    poisoner = Poisoner(store)
    workers = await fleet.started(2, "--lease", "2", "--number", "5")
    for worker in workers:
        worker.suspend()  # so that all jobs are queued when they begin
    good: list[str] = []
    refused: Counter[str] = Counter()
    for round_ in range(rounds):
        good += await schedule_all("again", each, 0.0, name=f"good-{round_}")
        poisoner.put_ids(round_)
        poisoner.put_bodies(round_)
        for name, arguments in REFUSED.items():
            with pytest.raises(InvalidArguments):
                await engine.schedule("again", *arguments)
            refused[name] += 1
    assert store.ready == len(good) + len(poisoner.bad + poisoner.foreign) + len(poisoner.dead)
    for worker in workers:
        worker.resume()
    await until(lambda: ledger.counted("end").keys() >= {*good}, "good ones", timeout=20, show=fleet.logs)
    expected = {*poisoner.bad, *(job_id.encode() for job_id in poisoner.dead)}
    await until(
        lambda: store("ZCARD", "dead") == len(expected), "the others are dead", timeout=30, show=fleet.logs
    )  # bodies of 10 MB are tried four times

    dead = {*store("HKEYS", "deadjobs")}
    starts, ends = ledger.counted("start"), ledger.counted("end")
    report(
        good=len(good),
        succeeded=len(ends),
        repeated=sum(count - 1 for count in starts.values()),
        parked=store.live,
        dead=len(dead),
        refused=refused.total(),
        workers_up=len(fleet.alive),
    )
    assert starts == ends == dict.fromkeys(good, 1)
    assert dead == expected
    assert {*store("HKEYS", "jobs")} == {*poisoner.foreign}, "jobs of another release are kept"
    assert (store.ready, store.leases, store.slots) == (0, 0, 0)
    assert len(fleet.alive) == 2


async def test_jobs_run_after_each_key_had_another_type_for_a_while(
    server: Server,
    schedule_all: ScheduleAll,
    fleet: Fleet,
    store: Store,
    ledger: Ledger,
    namespace: str,
    size: Size,
    report: Report,
) -> None:
    each = size(40, 120)
    await fleet.started(2, "--lease", "2", "--number", "5", "--period", "1")
    good: list[str] = []

    async def ended(count: int) -> None:
        await until(lambda: len(ledger.counted("end", "good")) >= count, "load", show=fleet.logs)

    def replace_key(name: str) -> bool:
        """Replace a key by a string, if it exists."""
        with server.client() as client, client.pipeline(transaction=True) as both:
            both.rename(key(namespace, name), key(namespace, "aside"))
            both.set(key(namespace, name), "another type")
            try:
                both.execute()
            except redis.ResponseError:  # it does not exist, and the string was set
                return False
        return True

    def restore_key(name: str, existed: bool) -> None:
        with server.client() as client, client.pipeline(transaction=True) as both:
            both.delete(key(namespace, name))
            if existed:
                both.rename(key(namespace, "aside"), key(namespace, name))
            both.execute()

    for name in TYPES:
        first = len(good)
        good += await schedule_all("again", each, 0.02, name=f"good-{name}")
        await ended(first + each // 4)
        existed = replace_key(name)
        await asyncio.sleep(0.1)
        restore_key(name, existed)
        await ended(len(good))
    await store.drained(fleet)

    starts = ledger.counted("start", "good")
    report(
        keys=len(TYPES),
        good=len(good),
        succeeded=len(ledger.counted("end", "good")),
        repeated=sum(count - 1 for count in starts.values()),
        dead=len(store.dead()),
        workers_up=len(fleet.alive),
    )
    assert starts == ledger.counted("end", "good") == dict.fromkeys(good, 1)
    assert fleet.logs(whole=True).count("WRONGTYPE")
    assert store.dead() == {}
    assert len(fleet.alive) == 2
