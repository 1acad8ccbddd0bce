"""Garbage in a key of the right type stops no worker and hides no job."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import redis

from aiospinach import Engine, RedisBroker
from aiospinach.brokers.records import Envelope, Settlement
from aiospinach.outcome import Action

from .. import asking
from ..brokers_under_test import shared_server
from ..conftest import Heard
from ..faults.fleet import Store
from ..waiting import until
from .conftest import key
from .proxy import Proxy

DAMAGED = b"\xff\xfe"
HEADER = b"2 job 0 0 -\n0 0 0 0 - - - -\n"
WHOLE = HEADER + b"[[],{}]"
LONG = b"9" * 400
TO_COME = 4_000_000_000_000
"""A future moment in milliseconds, so that its records are not pruned."""
Commands = list[tuple[Any, ...]]


def records(*garbage: bytes) -> Commands:
    """Commands that store garbage as records of dead jobs."""
    return [
        command
        for number, record in enumerate(garbage)
        for command in (
            ("ZADD", "dead", TO_COME + number, f"dead-{number}"),
            ("HSET", "deadjobs", f"dead-{number}", record),
        )
    ]


GARBAGE: dict[str, Commands] = {
    "leases without a colon": [("ZADD", "leases", 1, "none", 2, "", 3, DAMAGED)],
    "leases of nobody": [("ZADD", "leases", 1, "ghost:x.1", 2, ":", 3, DAMAGED + b":x.1", 4, "a b:x.1")],
    "leases that end never or always": [("ZADD", "leases", "-inf", "none", "inf", "none:1")],
    "a lease of a job with too many crashes": [
        ("HSET", "jobs", "many", b"2 job 0 0 -\n0 0 " + b"9" * 20 + b" 0 - - - -\n[[0],{}]"),
        ("ZADD", "leases", 1, "many:x.1"),
    ],
    "a lease of a job that is none": [("HSET", "jobs", "none", "-"), ("ZADD", "leases", 1, "none:x.1")],
    "a future of no jobs": [("ZADD", "future", 1, DAMAGED, 2.5, "", "-inf", "ghost", "inf", "never")],
    "a due with a fraction": [("ZADD", "periodic", 1000.5, "tick")],
    "a due before all time": [("ZADD", "periodic", "-inf", "tick", "-inf", DAMAGED)],
    "a due after all time": [("ZADD", "periodic", "inf", DAMAGED, 1e300, "nobody")],
    "slots of nobody": [("ZADD", "slots", 0, "", 1, DAMAGED, "inf", "\n", "-inf", "limited")],
    "cancels of nobody": [
        ("HSET", "control", " cancels", "1"),
        ("HSET", "cancels", "", "gone", " ", "", "ghost", "gone", DAMAGED, DAMAGED),
    ],
    "pauses of nobody": [
        ("HSET", "control", " pauses", DAMAGED),
        ("HSET", "pauses", "", "", DAMAGED, DAMAGED, "ghost", LONG, "other", LONG + b" " + LONG + b" x y"),
    ],
    "a mark of pauses without pauses": [("HSET", "control", " pauses", "1")],
    "marks of moved jobs that are none": [
        ("HSET", "control", " cancels", "1"),
        ("HSET", "cancels", "ghost", "later", "other", "later " + "9" * 30, "", "later x"),
    ],
    "an epoch beyond numbers": [("HSET", "control", " epoch", LONG)],
    "an epoch that is no number": [("HSET", "control", " epoch", "nan")],
    "an epoch without end": [("HSET", "control", " epoch", "inf")],
    "a turn that is no number": [("HSET", "control", " turn", DAMAGED)],
    "open gates of nobody": [("HSET", "control", " lanes", "1"), ("SADD", "open", "", DAMAGED, "limited")],
    "marks of nobody": [("SADD", "dedup:0", "", DAMAGED), ("SADD", "dedup:1", "", DAMAGED)],
    "two tokens that say nothing": [("RPUSH", "wake", DAMAGED, "")],
    "a look that was none": [("SET", "looked", DAMAGED)],
    "a look after all time": [("SET", "looked", LONG + b" " + LONG)],
    "a look half written": [("SET", "looked", "12 ")],
    "a session that was none": [("SET", "sess", DAMAGED)],
    "an empty session": [("SET", "sess", "")],
    "a session of one line": [("SET", "sess", "100000")],
    "answers that were none": [("HSET", "answers", 0, DAMAGED, 1, "")],
    "answers to calls of others": [("HSET", "answers", 0, LONG + b" " + LONG + b" ", 1, LONG + b" 0 =")],
    "a lane of no jobs": [
        ("HSET", "control", " lanes", "1"),
        ("ZADD", "lanes", 0, DAMAGED, 0, "", 0, "limited\nghost", 0, b"limited\n1\n" + DAMAGED, 0, "\n\n"),
        ("SADD", "open", "limited", DAMAGED),
    ],
    "a dead job without a record": [("ZADD", "dead", 1, "dead-0", "inf", DAMAGED, "-inf", "")],
    "records that are none": records(b"", b"1", b"1 2", b"\n", DAMAGED, LONG, b"1 " + LONG + b"\n"),
    "records with no job": records(
        b"1 3\nabc", b"1 %d\n" % len(HEADER), b"1 0\n" + HEADER, b"1 9999\n" + HEADER
    ),
    "records of another time": records(LONG + b" 18\n" + HEADER, b"x 18\n" + HEADER, b"-5 18\n" + HEADER),
    "a record with a detail that is none": records(
        *(
            b"1 %d\n" % len(WHOLE) + WHOLE + detail
            for detail in (b"{", DAMAGED, b"[]", b'{"reason":5}', b"null")
        )
    ),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_of_the_right_type_stops_no_worker(
    namespace: str, heard: Heard, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    ran: Counter[str] = Counter()
    broker = RedisBroker(shared_server().unix_url, lease=2)
    async with Engine(broker, namespace) as engine:

        @engine.task(name="job")
        async def job(number: int) -> None:
            ran["job"] += 1

        @engine.task(name="limited", max_concurrency=1)
        async def limited() -> None:
            ran["limited"] += 1

        @engine.task(name="failing")
        async def failing() -> None:
            raise ValueError

        @engine.task(name="tick", periodicity=timedelta(milliseconds=100))
        async def tick() -> None:
            ran["tick"] += 1

        dead = await failing.schedule()
        await engine.start_workers(3, block=False)
        await until(lambda: heard.count("job_failed") and ran["tick"])
        caplog.clear()
        sessions = {"sess": broker._calls.here().session, "answers": broker._calls.producer_session.session}
        store = Store(shared_server(), namespace)
        for command, part, *arguments in GARBAGE[name]:
            store(command, f"{part}:{sessions[part]}" if part in sessions else part, *arguments)
        for round_ in (1, 2):
            for number in range(10):
                await job.schedule(number)
                await limited.schedule()
            ticked = ran["tick"]
            await until(
                lambda: ran["job"] == ran["limited"] == 10 * round_,  # noqa: B023
                show=lambda: (ran, caplog.text),
            )
            await until(lambda: ran["tick"] >= ticked + 2, "ticks", show=lambda: (ran, caplog.text))  # noqa: B023
            await asyncio.sleep(broker.lease / 12)
        jobs = [each.job.id async for each in engine.dead_jobs()]
        assert dead.id in jobs
        for number in range(10):
            await engine.requeue(f"dead-{number}")
            await engine.discard(f"dead-{number}")
        assert await engine.requeue(dead)
        await until(lambda: heard.count("job_failed") >= 2)
        counts = await asking.counts(broker, "default")
        assert min(counts.ready, counts.running, counts.waiting, counts.dead) >= 0
        await engine.cancel("ghost", queue="default")
        await engine.stop_workers()
        await broker.flush("default")
    loud = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert [message for message in loud if "ValueError" not in message and "failed" not in message] == []


@pytest.mark.parametrize("limit", [1, 2, 3, 250])
async def test_many_unreadable_records_hide_no_dead_job(
    namespace: str, proxy: Proxy, plain: redis.Redis, limit: int
) -> None:
    broker = RedisBroker(proxy.url)
    await broker.open(namespace)
    await broker.enqueue("default", [Envelope("good", "job", b"[[],{}]")])
    [lease] = (await broker.exchange("default", [], 1)).leases
    await broker.exchange("default", [Settlement(lease, Action.FAIL)], 0)
    for command, name, *arguments in records(*[b"garbage"] * 35):
        plain.execute_command(command, key(namespace, name), *arguments)  # type: ignore[no-untyped-call]
    assert [dead.job.id for dead in await asking.dead(broker, "default", limit=limit)] == ["good"]
    before = proxy.calls[b"look"]
    assert await asking.dead(broker, "default", offset=36, limit=limit) == []
    assert proxy.calls[b"look"] == before + 1
    await broker.aclose()
