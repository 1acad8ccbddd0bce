"""Data in Redis: bodies byte for byte, unreadable entries, and the keys that remain."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
import redis

from aiospinach import Batch, Engine, JobStatus, RedisBroker
from aiospinach.brokers.records import Envelope

from .. import asking
from ..brokers.raw_keys import OF_SESSIONS
from ..brokers_under_test import shared_server
from ..conftest import Heard
from ..waiting import until
from .conftest import key, keys_of

GOOD = 100
KEPT = {"control", "looked", "workers", "reports", "periodic", "wake", "dead", "deadjobs"}
"""What remains of a queue that is drained and had no ids of users, but for its sessions."""


class Colour(Enum):
    RED = "red"


VALUES: list[tuple[Any, Any]] = [
    (list[int], []),
    (dict[str, int], {}),
    (Any, [[], {}, None, True, [[]], {"a": {}}]),
    (int, 2**70),
    (int, -(2**53) - 1),
    (float, 0.1 + 0.2),
    (float, 5e-324),
    (float, 1e308),
    (str, ""),
    (str, "\x00\n\r\t \N{SNOWMAN}\N{GRINNING FACE}\\\"'"),
    (str, "%s %d {} $1 ]] --"),
    (bytes, bytes(range(256))),
    (set[int], {1, 2, 3}),
    (frozenset[str], frozenset({"a"})),
    (tuple[int, str], (1, "a")),
    (datetime, datetime(2026, 2, 28, 1, 2, 3, 456789, tzinfo=UTC)),
    (date, date(1, 1, 1)),
    (timedelta, timedelta(days=-1, microseconds=1)),
    (UUID, UUID(int=2**127 + 1)),
    (Decimal, Decimal("1.10000000000000000000000000001")),
    (Colour, Colour.RED),
    (type(None), None),
]


@pytest.mark.parametrize("with_retry", [False, True])
async def test_every_value_arrives_equal(namespace: str, heard: Heard, with_retry: bool) -> None:
    arrived: dict[int, Any] = {}
    async with Engine(RedisBroker(shared_server().unix_url), namespace) as engine:
        for number, (hint, value) in enumerate(VALUES):

            async def job(index: int, value: Any) -> None:
                if with_retry and heard.count("job_schedule_retry") < len(VALUES) and index not in seen:
                    seen.add(index)
                    raise ValueError
                arrived[index] = value

            job.__annotations__["value"] = hint
            task = engine.task(name=f"job-{number}", max_retries=1, backoff=lambda attempt: 0.0)(job)
            await task.schedule(number, value)
        seen: set[int] = set()
        await engine.start_workers(5, stop_when_queue_empty=True)
    assert arrived == {number: value for number, (_, value) in enumerate(VALUES)}
    assert [type(arrived[n]) for n in range(len(VALUES))] == [type(value) for _, value in VALUES]


async def test_a_body_is_stored_unchanged(namespace: str, plain: redis.Redis) -> None:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    bodies = [b"", b"\n", bytes(range(256)), b"[]", b"{}", b"[18446744073709551617, 1e999, NaN]", b"[" * 2000]
    jobs = [Envelope(f"id-{number}", "job", body) for number, body in enumerate(bodies)]
    await broker.enqueue("default", jobs)
    for number, body in enumerate(bodies):
        stored = plain.hget(key(namespace, "jobs"), f"id-{number}")
        assert isinstance(stored, bytes)
        assert stored.split(b"\n", 2)[2] == body
    await broker.aclose()


# Poison.


def in_ready(client: redis.Redis, namespace: str, job_id: bytes, envelope: bytes | None) -> None:
    client.rpush(key(namespace, "ready"), job_id)
    if envelope is not None:
        client.hset(key(namespace, "jobs"), job_id, envelope)


POISON: dict[str, tuple[bytes, bytes | None]] = {
    "garbage": (b"\xff\x00\xfe \n\r", None),
    "empty id": (b"", None),
    "missing payload": (b"missing", None),
    "garbage with an envelope": (b"\xff\xfe", b"2 job 0 0 -\n0 0 0 0 - - - -\n[[],{}]"),
    "id of two words": (b"two words", b"2 job 0 0 -\n0 0 0 0 - - - -\n[[],{}]"),
    "truncated header": (b"truncated", b"2 job 0 0"),
    "no header": (b"none", b"[[],{}]"),
    "empty envelope": (b"empty", b""),
    "later version": (b"later", b"3 job 0 0 -\n0 0 0 0 - - - -\n[[],{}]"),
    "words for numbers": (b"words", b"2 job 0 0 -\na b c d - - - -\n[[],{}]"),
    "binary task": (b"binary-task", b"2 \xff\xfe 0 0 -\n0 0 0 0 - - - -\n[[],{}]"),
    "moment beyond time": (b"beyond", b"2 job 0 0 -\n" + b"9" * 400 + b" 0 0 0 - - - -\n[[],{}]"),
    "parked beyond time": (b"parked", b"2 job 0 0 -\n0 0 0 " + b"9" * 30 + b" - - - -\n[[],{}]"),
    "negative": (b"negative", b"2 job 0 0 -\n0 -1 0 0 - - - -\n[[],{}]"),
    "moment with a tail": (b"tail", b"2 job 0 0 -\n0x 0 0 0 - - - -\n[[],{}]"),
    "moment with a tab": (b"tab", b"2 job 0 0 -\n0 0 0 0\t - - - -\n[[],{}]"),
    "more digits than Python reads": (b"digits", b"2 job " + b"9" * 5000 + b" 0 -\n0 0 0 0 - - - -\n[[],{}]"),
    "zeros without end": (b"zeros", b"2 job 0 0 -\n" + b"0" * 5000 + b" 0 0 0 - - - -\n[[],{}]"),
    "a field without end": (b"field", b"2 job 0 0 -\n0 0 0 0 - - - " + b"-" * 5000 + b"\n[[],{}]"),
}


@pytest.mark.parametrize(
    "names", [*([name] for name in POISON), list(POISON)], ids=lambda n: "-".join(n)[:30]
)
async def test_unreadable_jobs_are_quarantined_and_stop_no_worker(
    namespace: str,
    heard: Heard,
    plain: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    names: list[str],
) -> None:
    ran: Counter[int] = Counter()
    async with Engine(RedisBroker(shared_server().unix_url), namespace) as engine:

        @engine.task(name="job")
        async def job(number: int) -> None:
            ran[number] += 1

        for number in range(GOOD):
            await job.schedule(number)
            if number % 30 == 0 and number // 30 == 0:
                for name in names:
                    in_ready(plain, namespace, *POISON[name])
        await engine.start_workers(3, block=False)
        await until(lambda: heard.count("job_finished") == GOOD, show=lambda: heard.count("job_finished"))
        dead_names = [name for name in names if name != "later version"]
        await until(lambda: plain.zcard(key(namespace, "dead")) == len(dead_names))
        assert engine.health().is_running
        await job.schedule(GOOD)
        await until(lambda: ran[GOOD])
        await engine.stop_workers()
        assert sorted(plain.hkeys(key(namespace, "deadjobs"))) == sorted(
            POISON[name][0] for name in dead_names
        )
        dead = [each async for each in engine.dead_jobs()]
        assert [each.reason for each in dead] == ["unreadable"] * len(dead_names)
        assert (await asking.counts(engine._broker, "default")).parked == len(names) - len(dead_names)
        assert plain.llen(key(namespace, "ready")) == 0
        assert plain.zcard(key(namespace, "leases")) == 0
        assert await engine.cancel("later", queue="default") is JobStatus.NOT_SET
        await engine._broker.flush("default")
    assert ran == Counter(dict.fromkeys(range(GOOD + 1), 1))
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[", b"[[1],{}]", b'[[],{"x":1}]', b"null", b"[" * 2000, b"[[NaN],{}]"]
)
async def test_an_unreadable_body_fails_only_its_job(
    namespace: str, heard: Heard, plain: redis.Redis, body: bytes
) -> None:
    ran: Counter[int] = Counter()
    async with Engine(RedisBroker(shared_server().unix_url), namespace) as engine:

        @engine.task(name="job", max_retries=3, backoff=lambda attempt: 0.0)
        async def job() -> None:
            ran[0] += 1

        await job.schedule()
        in_ready(plain, namespace, b"bad", b"2 job 3 0 -\n0 0 0 0 - - - -\n" + body)
        await job.schedule()
        await engine.start_workers(3, stop_when_queue_empty=True)
        assert [dead.job.id async for dead in engine.dead_jobs()] == ["bad"]
        await engine._broker.flush("default")
    assert ran == {0: 2}


@pytest.mark.parametrize("name", ["ready", "jobs", "leases", "future", "control"])
async def test_a_key_of_a_wrong_type_stops_only_its_queue_until_it_is_deleted(
    namespace: str, heard: Heard, plain: redis.Redis, name: str
) -> None:
    ran: Counter[str] = Counter()
    async with Engine(RedisBroker(shared_server().unix_url, lease=1), namespace) as engine:
        for queue in ("default", "other"):

            @engine.task(name=queue, queue=queue)
            async def job(queue: str) -> None:
                ran[queue] += 1

        await engine.start_workers(4, ["default", "other"], block=False, shutdown_timeout=1)
        await until(lambda: plain.llen(key(namespace, "wake")) == 0)
        plain.delete(key(namespace, name))
        plain.set(key(namespace, name), "not what it should be")
        plain.rpush(key(namespace, "wake"), "1")
        for _ in range(GOOD):
            await engine.schedule("other", "other")
        await until(lambda: ran["other"] == GOOD, show=lambda: ran)
        assert engine.health().is_running
        plain.delete(key(namespace, name))
        for _ in range(GOOD):
            await engine.schedule("default", "default")
        await until(lambda: ran["default"] == GOOD, show=lambda: ran)
        await engine.stop_workers()
    assert ran == {"other": GOOD, "default": GOOD}


@pytest.mark.parametrize("damage", ["missing", "unreadable"])
@pytest.mark.parametrize("fails", [False, True])
async def test_an_envelope_damaged_while_its_job_runs_stops_no_worker(
    namespace: str, heard: Heard, plain: redis.Redis, damage: str, fails: bool
) -> None:
    async with Engine(RedisBroker(shared_server().unix_url, lease=2), namespace) as engine:
        end = asyncio.Event()

        @engine.task(name="held", max_retries=1, max_concurrency=1)
        async def held() -> None:
            await end.wait()
            if fails:
                raise ValueError

        @engine.task(name="job")
        async def job() -> None:
            pass

        scheduled = await held.schedule()
        await engine.start_workers(2, block=False)
        await until(lambda: heard.count("job_started"))
        if damage == "missing":
            plain.hdel(key(namespace, "jobs"), scheduled.id)
        else:
            plain.hset(key(namespace, "jobs"), scheduled.id, "2 0")
        end.set()
        await until(lambda: heard.count("job_finished") == 1)
        for _ in range(GOOD):
            await job.schedule()
        await until(lambda: heard.count("job_finished") == GOOD + 1)
        await engine.stop_workers()
        assert plain.zcard(key(namespace, "leases")) == 0
        assert plain.zcard(key(namespace, "slots")) == 0
        assert [dead.job.id async for dead in engine.dead_jobs()] == ([scheduled.id] if fails else [])
        await engine._broker.flush("default")


# Remaining keys.


async def test_a_drained_queue_leaves_few_keys(namespace: str, heard: Heard, plain: redis.Redis) -> None:
    async with Engine(RedisBroker(shared_server().unix_url, lease=1), namespace) as engine:
        tries: Counter[int] = Counter()

        @engine.task(name="flaky", max_retries=2, backoff=lambda attempt: 0.01)
        async def flaky(number: int) -> None:
            tries[number] += 1
            if number % 3 == 0 and tries[number] == 1:
                raise ValueError

        @engine.task(name="limited", max_concurrency=2)
        async def limited() -> None:
            await asyncio.sleep(0)

        @engine.task(name="failing")
        async def failing() -> None:
            raise ValueError

        batch = Batch()
        for number in range(50):
            batch.schedule(flaky, number)
            batch.schedule(limited)
        batch.schedule(failing)
        batch.schedule_at(flaky, datetime.now(UTC) + timedelta(milliseconds=50), 1000)
        jobs = await engine.schedule_batch(batch)
        await engine.cancel(jobs[2])
        later = await engine.schedule_at(flaky, datetime.now(UTC) + timedelta(hours=1), 0)
        await engine.cancel(later)
        await engine.start_workers(5, block=False)
        await until(lambda: tries[1000] and heard.count("job_failed"))
        await until(lambda: not plain.exists(key(namespace, "jobs")))
        await engine.stop_workers()
        names = keys_of(plain, namespace)
        assert {name for name in names if not name.startswith(OF_SESSIONS)} <= KEPT
        assert {"dead", "deadjobs", "control"} <= names
        [session] = [name for name in names if name.startswith("sess:")]
        assert 0 < plain.pttl(key(namespace, session)) <= 3_600_000
        [answers] = [name for name in names if name.startswith("answers:")]
        assert 900_000 < plain.pttl(key(namespace, answers)) <= 1_200_000
        await engine.discard((await anext(engine.dead_jobs())).job)
        assert {"dead", "deadjobs"}.isdisjoint(keys_of(plain, namespace))
        await engine._broker.flush("default")
        assert keys_of(plain, namespace) == set()
