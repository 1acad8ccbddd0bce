"""What a test asserts of scheduled jobs, what it captures, and jobs that run at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aiospinach import (
    Batch,
    Depends,
    InvalidArguments,
    InvalidValue,
    Job,
    JobStatus,
    UnknownTask,
    current_job,
    signals,
    testing,
)

from .conftest import Shop


async def test_jobs_are_found_by_leading_and_by_named_arguments(shop: Shop, jobs: testing.Jobs) -> None:
    task = shop.engine._tasks.find("note")
    first = await task.schedule("ann", "b", "c", shout=True)
    second = await task.schedule(what="ann")
    assert jobs.assert_scheduled(task) == [first, second]
    assert jobs.assert_scheduled("note", "ann") == [first, second]
    assert jobs.assert_scheduled(task, what="ann") == [first, second]
    assert jobs.assert_scheduled(task, "ann", "b") == [first]
    assert jobs.assert_scheduled(task, shout=True) == [first]
    assert jobs.assert_scheduled(task, shout=False) == [second]  # the default counts
    others: list[tuple[Any, Any]] = [(("bob",), {}), (("ann", "c"), {}), (("ann",), {"shout": 3})]
    for args, kwargs in others:
        jobs.refute_scheduled(task, *args, **kwargs)
        with pytest.raises(AssertionError):
            jobs.assert_scheduled(task, *args, **kwargs)
    with pytest.raises(AssertionError):
        jobs.refute_scheduled(task, "ann", shout=True)


async def test_parameters_that_a_worker_fills_in_are_no_arguments(shop: Shop, jobs: testing.Jobs) -> None:
    def connect() -> str:
        return "connection"

    @shop.engine.task
    async def send(session: str = Depends(connect), name: str = "-") -> None:
        shop.done.append((session, name))

    await shop.engine.schedule(send.name, "ann")
    jobs.assert_scheduled(send, "ann", count=1)
    jobs.assert_scheduled(send, name="ann")
    with pytest.raises(InvalidArguments):
        jobs.assert_scheduled(send, session="connection")
    await jobs.drain()
    assert shop.done == [("connection", "ann")]


async def test_jobs_are_counted(shop: Shop, jobs: testing.Jobs) -> None:
    jobs.assert_scheduled("note", count=0)
    for _ in range(2):
        await shop.engine.schedule("note", "a")
    jobs.assert_scheduled("note", "a", count=2)
    with pytest.raises(AssertionError, match=r"note\('a'\) was scheduled 2 times, and not 1"):
        jobs.assert_scheduled("note", "a", count=1)
    await jobs.drain()
    jobs.assert_scheduled("note", "a", count=2)  # whether they have run or not


async def test_jobs_are_found_by_their_moment(shop: Shop, jobs: testing.Jobs) -> None:
    at = jobs.now + timedelta(days=1)
    await shop.engine.schedule("note", "now")
    later = await shop.engine.schedule_at("note", at, "later")
    assert jobs.assert_scheduled("note", after=timedelta(days=1)) == [later]
    assert jobs.assert_scheduled("note", "later", at=at) == [later]
    jobs.assert_scheduled("note", "now", after=timedelta(0))
    jobs.refute_scheduled("note", "now", after=timedelta(days=1))
    jobs.refute_scheduled("note", after=timedelta(days=1, seconds=3))
    jobs.refute_scheduled("note", at=at + timedelta(milliseconds=1))


async def test_a_failed_assertion_lists_what_was_scheduled(shop: Shop, jobs: testing.Jobs) -> None:
    @shop.engine.task(name="other")
    async def other(number: int) -> None: ...

    with pytest.raises(AssertionError, match=r"note\('ann'\) was not scheduled; .* scheduled: none"):
        jobs.assert_scheduled("note", "ann")
    batch = Batch()
    for number in range(30):
        batch.schedule(other, number)
    await shop.engine.schedule_batch(batch)
    await shop.engine.schedule_at("note", jobs.now + timedelta(days=1), "x" * 1000, shout=True)
    with pytest.raises(AssertionError) as caught:
        jobs.assert_scheduled("note", "ann", after=timedelta(hours=1))
    lines = str(caught.value).splitlines()
    assert lines[0] == "note('ann') after 1:00:00 was not scheduled; these jobs were scheduled:"
    assert lines[1].startswith("  note('xxx")  # jobs of the task come first
    assert "..." in lines[1]
    assert "shout=True" in lines[1]
    assert ", after 1 day, 0:00:00" in lines[1] or ", after 23:59:59" in lines[1]
    assert len(lines[1]) < 250
    assert lines[2].startswith("  other(0) at ")
    assert lines[2].endswith(", at once")
    assert lines[-1] == "  and 11 more"
    with pytest.raises(AssertionError, match=r"other\(\) was scheduled:\n  other\(0\) at"):
        jobs.refute_scheduled(other)


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        (("note",), {"waht": "a"}, InvalidArguments, "no job of task 'note' has these arguments.*'waht'"),
        (("note",), {"after": 60}, InvalidValue, "after= takes a timedelta, not int"),
        (("note",), {"at": 60}, InvalidValue, "at= takes a datetime, not int"),
        (("noet",), {}, UnknownTask, "did you mean 'note'"),
    ],
)
def test_what_no_job_can_have_is_refused(
    jobs: testing.Jobs, args: Any, kwargs: Any, error: type[Exception], message: str
) -> None:
    for check in (jobs.assert_scheduled, jobs.refute_scheduled):
        with pytest.raises(error, match=message):
            check(*args, **kwargs)


async def test_duplicates_are_not_among_the_scheduled_jobs(shop: Shop, jobs: testing.Jobs) -> None:
    task = shop.engine._tasks.find("note").options(id="one")
    await task.schedule("a")
    await task.schedule("a")
    jobs.assert_scheduled(task, count=1)
    jobs.scheduled.clear()  # a copy
    assert len(jobs.scheduled) == 1
    assert "1 scheduled" in repr(jobs)


async def test_bodies_are_counted(shop: Shop, jobs: testing.Jobs) -> None:
    await shop.engine.schedule("note", "a")
    assert jobs.runs("note") == 0
    await jobs.drain()
    assert jobs.runs("note") == 1
    await shop.engine.execute("note", "b")
    assert jobs.runs("note") == 2


async def test_signals_are_captured_within_the_block_and_of_the_engine(
    shop: Shop, jobs: testing.Jobs
) -> None:
    with jobs.capture(signals.job_scheduled) as scheduled:
        job = await shop.engine.schedule("note", "a")
        await signals.job_scheduled.send_async("another namespace", job=job)
    await shop.engine.schedule("note", "b")
    assert scheduled == [{"job": job}]
    with pytest.raises(InvalidValue, match=r"capture\(\) takes a signal"), jobs.capture("job_failed"):  # type: ignore[arg-type]
        pass  # pragma: no cover


# Inline.


async def test_inline_runs_the_body_before_schedule_returns(shop: Shop, jobs: testing.Jobs) -> None:
    ids: list[str] = []

    @shop.engine.task
    async def work() -> None:
        job = current_job()
        assert job is not None
        ids.append(job.id)
        await shop.engine.schedule("note", "within")

    with jobs.inline():
        job = await shop.engine.schedule(work)
        assert job.status is JobStatus.SUCCEEDED
        assert ids == [job.id]
        assert shop.done == ["within"]
        later = await shop.engine.schedule_at("note", jobs.now + timedelta(hours=1), "later")
        assert later.status is JobStatus.WAITING
    assert [job.task_name for job in jobs.scheduled] == [work.name, "note", "note"]
    assert (await shop.engine.counts())["default"].ready == 0
    await shop.engine.schedule("note", "after")
    assert shop.done == ["within"]
    assert await jobs.advance(hours=1) == 2
    assert shop.done == ["within", "after", "later"]


async def test_inline_raises_the_errors_of_bodies_in_schedule(shop: Shop, jobs: testing.Jobs) -> None:
    @shop.engine.task(max_retries=3)
    async def fail() -> None:
        raise ZeroDivisionError

    producer = shop.engine._producer
    with pytest.raises(ZeroDivisionError), jobs.inline():
        await fail.schedule()
    assert shop.engine._producer is producer
    jobs.assert_scheduled(fail)
    assert await jobs.drain() == 0


async def test_inline_runs_batches_and_no_duplicates(shop: Shop, jobs: testing.Jobs) -> None:
    task = shop.engine._tasks.find("note")
    batch = Batch()
    batch.schedule(task.options(id="one"), "a")
    batch.schedule(task, "b")
    with jobs.inline():
        stored = await shop.engine.schedule_batch(batch)
        assert [job.status for job in stored] == [JobStatus.SUCCEEDED] * 2
        again: Job = await task.options(id="one").schedule("a")
        assert again.status is JobStatus.NOT_SET
    assert shop.done == ["a", "b"]
