"""From facts to a verdict and a sentence: a table, without any broker."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aiospinach import Verdict
from aiospinach.brokers.pauses import StoredPause
from aiospinach.brokers.places import JobFacts, JobSeen, LeaseSeen, Place
from aiospinach.brokers.records import DeadRecord, Envelope
from aiospinach.brokers.results import EndRecord, EndState
from aiospinach.engine.explanation import DEATHS, explain
from aiospinach.outcome import DEAD_REASONS

NOW = 1_790_000_000_000  # 2026-09-21 14:13:20 UTC
MINUTE = 60_000


def seen(place: Place = Place.READY, lease: LeaseSeen | None = None, **fields: Any) -> JobSeen:
    given: dict[str, Any] = {"id": "a", "task": "send", "body": b"", "at": NOW - MINUTE}
    envelope = Envelope(**given | fields)
    return JobSeen(envelope, place, lease=lease)


def paused(task: str = "send", until: int = 0, reason: str = "") -> StoredPause:
    return StoredPause(task, NOW - MINUTE, until, "web-7", reason)


def leased(ends: int = NOW + MINUTE, started: int = NOW - 5000, worker: str = "web-1") -> JobSeen:
    return seen(Place.LEASES, LeaseSeen(ends, started, worker))


def dead(**detail: str) -> JobSeen:
    job = Envelope("a", "send", b"")
    return JobSeen(job, Place.DEAD, dead=DeadRecord(job, NOW, msgspec.json.encode(detail)))


WORKS: dict[str, Any] = {"workers": 2, "is_known": True}
THREE = {"web-1": 2, "web-2": 1}
MANY = {f"web-{number}": 1 for number in range(7)}

TABLE: list[tuple[str, dict[str, Any], Verdict, str]] = [
    (
        "unknown",
        {},
        Verdict.UNKNOWN,
        "is unknown: no such job was stored in the queue mail, or it has ended and is forgotten",
    ),
    (
        "first in line",
        {"seen": seen(), "ahead": 0, **WORKS},
        Verdict.QUEUED,
        "is queued: no job is ahead of it in line",
    ),
    (
        "second in line",
        {"seen": seen(), "ahead": 1, **WORKS},
        Verdict.QUEUED,
        "is queued: 1 job is ahead of it in line",
    ),
    (
        "far back",
        {"seen": seen(), "ahead": 1234, **WORKS},
        Verdict.QUEUED,
        "is queued: 1,234 jobs are ahead of it in line",
    ),
    (
        "too far back",
        {"seen": seen(), "ahead": None, **WORKS},
        Verdict.QUEUED,
        "is queued: more than 10,000 jobs are ahead of it in line",
    ),
    (
        "in a lane that has room again",
        {"seen": seen(Place.LANES), "ahead": 2, "limit": 3, "used": 2, **WORKS},
        Verdict.QUEUED,
        "is queued: 2 jobs of task send are ahead of it",
    ),
    (
        "due, and not queued yet",
        {"seen": seen(Place.FUTURE), **WORKS},
        Verdict.QUEUED,
        "has been due since 2026-09-21 14:12:20 UTC, and a worker queues it within seconds",
    ),
    (
        "not due",
        {"seen": seen(Place.FUTURE, at=NOW + 3 * 60 * MINUTE)},
        Verdict.NOT_DUE,
        "waits: it is due at 2026-09-21 17:13:20 UTC, in 3 h",
    ),
    (
        "retry",
        {"seen": seen(Place.FUTURE, at=NOW + 1500, retries=2, max_retries=5, error="builtins.ValueError")},
        Verdict.RETRY,
        "waits: it is tried again at 2026-09-21 14:13:21 UTC, in 1.5 s, after builtins.ValueError"
        " (retry 2 of 5)",
    ),
    (
        "retry without an error",
        {"seen": seen(Place.FUTURE, at=NOW + 600_000, retries=1, max_retries=1)},
        Verdict.RETRY,
        "waits: it is tried again at 2026-09-21 14:23:20 UTC, in 10 min (retry 1 of 1)",
    ),
    (
        "task at its limit",
        {"seen": seen(Place.LANES), "ahead": 41, "limit": 3, "used": 3, "holders": THREE, **WORKS},
        Verdict.AT_LIMIT,
        "waits: task send runs 3 of 3 on web-1 (2) and web-2 (1); 41 jobs of task send are ahead of it",
    ),
    (
        "task at its limit, met in line",
        {"seen": seen(), "ahead": 0, "limit": 1, "used": 1, "holders": {"": 1}, **WORKS},
        Verdict.AT_LIMIT,
        "waits: task send runs 1 of 1 on workers that have not reported (1); no job is ahead of it in line",
    ),
    (
        "many holders",
        {"seen": seen(), "ahead": 0, "limit": 7, "used": 7, "holders": MANY, **WORKS},
        Verdict.AT_LIMIT,
        "waits: task send runs 7 of 7 on web-0 (1), web-1 (1), web-2 (1), web-3 (1), web-4 (1) and 2 others;"
        " no job is ahead of it in line",
    ),
    (
        "queue paused",
        {"seen": seen(), "ahead": 0, "pause": paused("*")},
        Verdict.QUEUE_PAUSED,
        "waits: the queue mail has been paused since 2026-09-21 14:12:20 UTC by web-7, until it is resumed",
    ),
    (
        "task paused",
        {"seen": seen(Place.LANES), "ahead": 0, "pause": paused(until=NOW + 1000, reason="429"), **WORKS},
        Verdict.TASK_PAUSED,
        "waits: task send has been paused since 2026-09-21 14:12:20 UTC by web-7, until 2026-09-21 14:13:21"
        " UTC: 429",
    ),
    (
        "pause is over, and no worker is there to end it",
        {"seen": seen(), "ahead": 0, "pause": paused(until=NOW)},
        Verdict.NO_WORKER,
        "waits: no live worker consumes the queue mail",
    ),
    (
        "not due, and paused",
        {"seen": seen(Place.FUTURE, at=NOW + MINUTE), "pause": paused()},
        Verdict.NOT_DUE,
        "waits: it is due at 2026-09-21 14:14:20 UTC, in 60 s",
    ),
    (
        "succeeded",
        {"end": EndRecord(EndState.DONE, NOW, 0, "send")},
        Verdict.ENDED,
        "has ended: it succeeded at 2026-09-21 14:13:20 UTC, and its result is kept",
    ),
    (
        "was cancelled",
        {"end": EndRecord(EndState.CANCELLED, NOW, 0, "send")},
        Verdict.ENDED,
        "has ended: it was cancelled at 2026-09-21 14:13:20 UTC",
    ),
    (
        "no worker",
        {"seen": seen(), "ahead": 0, "is_known": False},
        Verdict.NO_WORKER,
        "waits: no live worker consumes the queue mail",
    ),
    (
        "no worker, and at the limit",
        {"seen": seen(Place.LANES), "ahead": 0, "limit": 1, "used": 1},
        Verdict.NO_WORKER,
        "waits: no live worker consumes the queue mail",
    ),
    (
        "unknown task",
        {"seen": seen(), "ahead": 0, "workers": 2},
        Verdict.UNKNOWN_TASK,
        "waits: none of the 2 live workers of the queue mail knows task send",
    ),
    (
        "unknown task, one worker, and an owner",
        {"seen": seen(), "ahead": 0, "workers": 1, "owner": "web-9"},
        Verdict.UNKNOWN_TASK,
        "waits: the live worker of the queue mail does not know task send; worker web-9 knew it last",
    ),
    (
        "parked",
        {"seen": seen(Place.PARKED, parked_at=NOW), "workers": 1},
        Verdict.PARKED,
        "has been parked since 2026-09-21 14:13:20 UTC: no live worker knows its task send",
    ),
    (
        "parked, and known now",
        {"seen": seen(Place.PARKED, parked_at=NOW), **WORKS},
        Verdict.PARKED,
        "has been parked since 2026-09-21 14:13:20 UTC: a live worker knows its task now, and takes it soon",
    ),
    (
        "parked by another release",
        {"seen": seen(Place.PARKED, task="")},
        Verdict.PARKED,
        "is parked: another release stored it, whose workers can run it",
    ),
    (
        "running",
        {"seen": leased()},
        Verdict.RUNNING,
        "has run since 2026-09-21 14:13:15 UTC, for 5.0 s, on web-1",
    ),
    (
        "running for days",
        {"seen": leased(started=NOW - 3 * 86_400_000, worker="")},
        Verdict.RUNNING,
        "has run since 2026-09-18 14:13:20 UTC, for 3 d, on a worker that has not reported",
    ),
    (
        "cancelled while it runs",
        {"seen": leased(), "is_cancelled": True},
        Verdict.CANCELLING,
        "is cancelled, and its body still runs on web-1",
    ),
    (
        "lost",
        {"seen": leased(ends=NOW)},
        Verdict.LOST,
        "is lost: the lease of web-1 ended at 2026-09-21 14:13:20 UTC, and another worker takes the job over"
        " at about 2026-09-21 14:13:30 UTC",
    ),
    (
        "lost and cancelled",
        {"seen": leased(ends=NOW - 1), "is_cancelled": True},
        Verdict.LOST,
        "is lost: the lease of web-1 ended at 2026-09-21 14:13:19 UTC, and another worker takes the job over"
        " at about 2026-09-21 14:13:29 UTC",
    ),
    (
        "being judged",
        {"seen": leased(started=0)},
        Verdict.LOST,
        "is lost: its worker disappeared, and another worker decides what becomes of it",
    ),
    (
        "dead",
        {"seen": dead(reason="exhausted", error="builtins.ValueError", message="a secret")},
        Verdict.DEAD,
        "died at 2026-09-21 14:13:20 UTC: it raised builtins.ValueError, and has no retries left (exhausted)",
    ),
    (
        "dead without a reason",
        {"seen": dead()},
        Verdict.DEAD,
        "died at 2026-09-21 14:13:20 UTC: for an unknown reason",
    ),
    (
        "unreadable",
        {"seen": seen(task=""), **WORKS},
        Verdict.UNREADABLE,
        "cannot be read: the next worker that meets it puts it among the dead jobs",
    ),
]


ROWS = [pytest.param(*row[1:], id=row[0]) for row in TABLE]


@pytest.mark.parametrize(("facts", "verdict", "sentence"), ROWS)
def test_facts_have_a_verdict_and_a_sentence(facts: dict[str, Any], verdict: Verdict, sentence: str) -> None:
    reason = explain(JobFacts(now=NOW, **facts), "mail", 10.0, ["mail"])
    assert (reason.verdict, reason.sentence) == (verdict, sentence)


@pytest.mark.parametrize(
    ("queues", "where"),
    [
        ([], "is unknown: the engine has no tasks, and so no queue to search; give it queue="),
        (["a", "b"], "is unknown: no such job was stored in the queues a and b, or it"),
        (
            list("abcdefg"),
            "is unknown: no such job was stored in the queues a, b, c, d, e and 2 others, or it",
        ),
    ],
)
def test_an_unknown_job_was_looked_for_in_these_queues(queues: list[str], where: str) -> None:
    assert explain(JobFacts(now=NOW), "", 10.0, queues).sentence.startswith(where)


def test_every_verdict_is_in_the_table() -> None:
    assert {verdict for _, _, verdict, _ in TABLE} == set(Verdict)


def test_a_moment_to_come_is_a_field() -> None:
    def until(job: JobSeen) -> int | None:
        return explain(JobFacts(now=NOW, seen=job, **WORKS), "mail", 10.0, ["mail"]).until

    assert until(seen(Place.FUTURE, at=NOW + 1)) == NOW + 1
    assert until(leased(ends=NOW - 1)) == NOW - 1 + 10_000
    assert until(seen()) is until(leased()) is None


def test_each_reason_of_a_death_has_its_meaning() -> None:
    assert set(DEATHS) == set(DEAD_REASONS)
