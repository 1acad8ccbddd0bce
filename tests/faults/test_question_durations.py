"""Questions and orders about many jobs are short, however long the lines and however large the jobs are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from aiospinach.brokers.bulk import CancelSome, Cursor, SteerDead
from aiospinach.brokers.dead_groups import LookDeadGroups
from aiospinach.brokers.places import LookJobFacts, LookPlace, Place
from aiospinach.brokers.results import LookResults

from .. import asking
from .conftest import Report
from .test_call_durations import ENVELOPE, HOUR, LENGTH, Play, Queue, check, length, queue, three_times

__all__ = ["queue"]  # the fixture

LARGE = 250_000
"""Bytes of a large job, of which there are MANY."""
MANY = 400
PLAYS: dict[str, Play] = {}

Call = Callable[[], Awaitable[bool]]


def fill_line(queue: Queue) -> list[str]:
    ids = [f"job-{number:06}" for number in range(LENGTH + 10_000)]
    queue.fill("HSET", "jobs", ((job_id, ENVELOPE) for job_id in ids))
    queue.fill("RPUSH", "ready", ids)
    return ids


def in_turn(queue: Queue, places: list[LookPlace], count: int = 100) -> Call:
    asked = iter(places)

    async def look() -> bool:
        question = next(asked)
        assert len((await queue.broker.look("default", question)).jobs) == count
        return question is not places[-1]

    return look


@length(PLAYS)
async def pages_of_a_long_line(queue: Queue) -> Call:
    ids = fill_line(queue)
    ends = (0, LENGTH // 2, LENGTH, LENGTH + 9000)  # the last position has moved by 4,000
    places = [LookPlace(Place.READY, f"{end + end // 25} {ids[end - 1]}" if end else "") for end in ends]
    return in_turn(queue, places)


@length(PLAYS)
async def pages_of_many_waiting_jobs(queue: Queue) -> Call:
    ids = [f"job-{number:06}" for number in range(LENGTH)]
    queue.fill("HSET", "jobs", ((job_id, ENVELOPE) for job_id in ids))
    queue.fill("ZADD", "future", ((9_000_000_000_000, job_id) for job_id in ids))
    lasts = ("", ids[LENGTH // 2], f"{ids[LENGTH // 2]}-that-has-left")
    return in_turn(
        queue, [LookPlace(Place.FUTURE, f"9000000000000 {last}" if last else "") for last in lasts]
    )


@length(PLAYS)
async def pages_of_many_running_jobs(queue: Queue) -> Call:
    ids = queue.run(LENGTH)
    return in_turn(queue, [LookPlace(Place.LEASES), LookPlace(Place.LEASES, f"{ids[5]}:elsewhere.1")])


@length(PLAYS)
async def numbers_of_a_long_line(queue: Queue) -> Call:
    fill_line(queue)
    return three_times(lambda number: asking.counts(queue.broker, "default"))


@length(PLAYS)
async def explaining_a_job_behind_cancelled_ones(queue: Queue) -> Call:
    gone = [f"gone-{number:06}" for number in range(9_990)]
    queue.fill("RPUSH", "ready", [*gone, "last"])
    queue.fill("HSET", "jobs", [("last", ENVELOPE)])
    queue.fill("HSET", "cancels", ((job_id, "gone") for job_id in gone))
    entries = [f"job\n{50_000_000_000_000 + number}\n{job_id}" for number, job_id in enumerate(gone)]
    queue.fill("ZADD", "lanes", ((0, entry) for entry in entries))
    queue.fill("HSET", "control", [(" cancels", 1), (" lanes", 1)])
    names = " ".join(f"some.module.task_{number}" for number in range(500))
    sessions = [f"worker-{number}" for number in range(200)]
    queue.fill("ZADD", "workers", ((9e15, session) for session in sessions))
    queue.fill("HSET", "reports", ((session, f"{{}}\n {names} ") for session in sessions))

    async def explain(number: int) -> None:
        facts = await queue.broker.look("default", LookJobFacts("last"))
        assert (facts.ahead, facts.is_known) == (0, True)

    return three_times(explain)


def large(queue: Queue, tail: bytes = b"") -> list[tuple[str, bytes]]:
    envelope = ENVELOPE + LARGE * b" "
    return [(f"large-{number:04}", envelope + tail) for number in range(MANY)]


def parts(queue: Queue, order: Callable[[Cursor], CancelSome | SteerDead]) -> Call:
    cursor: Cursor = ()

    async def steer() -> bool:
        nonlocal cursor
        result = await queue.broker.steer("default", order(cursor))
        assert result.count * LARGE < 1_000_000
        cursor = result.cursor or ()
        return result.cursor is not None

    return steer


@pytest.mark.parametrize("task", ["", "job"])
async def test_no_call_is_slow_that_cancels_large_jobs(queue: Queue, task: str, report: Report) -> None:
    async def play(queue: Queue) -> Call:
        for pair in large(queue):
            queue.store("HSET", "jobs", *pair)
            queue.store("RPUSH", "ready", pair[0])
        return parts(queue, lambda cursor: CancelSome(task, with_jobs=True, cursor=cursor))

    await check(queue, play, report)


@pytest.mark.parametrize("is_to_run", [True, False])
async def test_no_call_is_slow_that_steers_large_dead_jobs(
    queue: Queue, is_to_run: bool, report: Report
) -> None:
    async def play(queue: Queue) -> Call:
        now = queue.broker.now()
        for place, (job_id, envelope) in enumerate(large(queue)):
            queue.store("HSET", "deadjobs", job_id, b"%d %d\n%b{}" % (now, len(envelope), envelope))
            queue.store("ZADD", "dead", now - HOUR + place, job_id)
        return parts(queue, lambda cursor: SteerDead(is_to_run, cursor=cursor))

    await check(queue, play, report)


async def test_no_call_is_slow_that_counts_large_dead_jobs(queue: Queue, report: Report) -> None:
    async def play(queue: Queue) -> Call:
        now, position, counted = queue.broker.now(), "", 0
        for place, (job_id, envelope) in enumerate(large(queue)):
            queue.store("HSET", "deadjobs", job_id, b"%d %d\n%b{}" % (now, len(envelope), envelope))
            queue.store("ZADD", "dead", now - HOUR + place, job_id)

        async def count() -> bool:
            nonlocal position, counted
            page = await queue.broker.look("default", LookDeadGroups(position))
            counted += sum(row.count for row in page.rows)
            position = page.position or ""
            assert position or counted == MANY
            return page.position is not None

        return count

    await check(queue, play, report)


async def test_no_call_is_slow_that_reads_large_results(queue: Queue, report: Report) -> None:
    async def play(queue: Queue) -> Call:
        names = [f"large-{number:04}" for number in range(MANY)]
        for name in names:
            queue.store("SET", f"result:{name}", b"done 1 1 job\n" + LARGE * b"1")
        left = list(names)

        async def read() -> bool:
            found = await queue.broker.look("default", LookResults(left))
            assert all(each.record is not None for each in found)
            del left[: len(found)]
            return bool(left)

        return read

    await check(queue, play, report)


@pytest.mark.parametrize("name", PLAYS)
async def test_no_question_is_slow(queue: Queue, name: str, report: Report) -> None:
    await check(queue, PLAYS[name], report)
