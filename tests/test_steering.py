"""Moving, cancelling, requeueing and discarding jobs through an engine, on every broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import (
    AbortException,
    Batch,
    Broker,
    Engine,
    InvalidValue,
    Job,
    JobStatus,
    MemoryBroker,
    RetryException,
    UnknownQueue,
    UnknownTask,
    WouldBlock,
    signals,
)

from .brokers_under_test import BROKERS, MakeBroker
from .waiting import until

HOUR = timedelta(hours=1)


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    """An engine on every broker."""
    make: MakeBroker = request.param
    broker: Broker = make()
    async with Engine(broker, namespace) as engine:
        yield engine


def in_an_hour() -> datetime:
    return datetime.now(UTC) + HOUR


async def test_a_job_is_run_now(engine: Engine) -> None:
    ran: list[str] = []

    @engine.task(queue="mail")
    async def send(what: str) -> None:
        ran.append(what)

    await engine.start_workers(block=False)
    job = await send.schedule_at(in_an_hour(), "a")
    other = await send.schedule_at(in_an_hour(), "b")
    assert await engine.reschedule(job, None) is JobStatus.WAITING
    await until(lambda: ran == ["a"])
    assert (
        await engine.reschedule(other.id, datetime.now(UTC) + timedelta(milliseconds=50)) is JobStatus.WAITING
    )
    await until(lambda: ran == ["a", "b"])
    assert await engine.reschedule(job, None) is JobStatus.NOT_SET
    await engine.stop_workers()


async def test_a_job_tells_where_it_was(engine: Engine) -> None:
    release, began = asyncio.Event(), asyncio.Event()

    @engine.task(queue="mail")
    async def hold() -> None:
        began.set()
        await release.wait()

    @engine.task(queue="web")
    async def fail() -> None:
        raise AbortException

    dead = await fail.schedule()
    await engine.start_workers(queue="web", stop_when_queue_empty=True)
    running = await hold.schedule()
    await engine.start_workers(1, "mail", block=False)
    await began.wait()
    queued = await hold.schedule()
    assert await engine.reschedule(running, in_an_hour()) is JobStatus.RUNNING
    assert await engine.reschedule(queued.id, in_an_hour(), queue="mail") is JobStatus.QUEUED
    assert await engine.reschedule(dead.id, in_an_hour()) is JobStatus.FAILED
    assert await engine.reschedule("unknown", None) is JobStatus.NOT_SET
    release.set()
    await engine.stop_workers()
    assert (await engine.counts())["mail"].ready + (await engine.counts())["mail"].waiting == 1


async def test_a_live_job_is_found_before_a_dead_one_of_its_id(engine: Engine) -> None:
    @engine.task(queue="a")
    async def fail() -> None:
        raise AbortException

    @engine.task(queue="b")
    async def work() -> None: ...

    await fail.options(id="x").schedule()
    await engine.start_workers(queue="a", stop_when_queue_empty=True)
    await work.options(id="x").schedule_at(in_an_hour())
    assert await engine.reschedule("x", None) is JobStatus.WAITING


async def test_a_wrong_moment_is_refused(engine: Engine) -> None:
    @engine.task(queue="mail")
    async def send() -> None: ...

    job = await send.schedule_at(in_an_hour())
    wrong: list[Any] = [5, "now", HOUR, datetime(1960, 1, 1, tzinfo=UTC)]
    for at in wrong:
        with pytest.raises(InvalidValue, match="reschedule"):
            await engine.reschedule(job, at)
    with pytest.raises(UnknownQueue):
        await engine.reschedule("x", None, queue="web")
    with pytest.raises(InvalidValue):
        await engine.reschedule("a b", None)


async def test_workers_stop_without_a_retry_that_was_moved_or_cancelled(engine: Engine) -> None:
    put_off: list[Job] = []
    signals.job_schedule_retry.connect(
        lambda namespace, job, **_: put_off.append(job), engine.namespace, weak=False
    )

    @engine.task(queue="mail", max_retries=1)
    async def ask() -> None:
        raise RetryException(at=HOUR)

    for _ in range(2):
        await ask.schedule()
    async with asyncio.timeout(20):
        running = asyncio.ensure_future(engine.start_workers(stop_when_queue_empty=True))
        await until(lambda: len(put_off) == 2)
        assert await engine.reschedule(put_off[0], in_an_hour()) is JobStatus.WAITING
        assert not running.done()
        assert await engine.cancel_all(task=ask) == 2
        await running


async def test_all_jobs_are_cancelled_and_announced(engine: Engine) -> None:
    ran: list[str] = []
    cancelled: list[Job] = []

    @engine.task(queue="mail")
    async def send(what: str) -> None:
        ran.append(what)

    @engine.task(queue="web")
    async def other(what: str) -> None:
        ran.append(what)

    batch = Batch()
    for number in range(600):
        batch.schedule(send, f"m{number}")
    await engine.schedule_batch(batch)
    later = await send.schedule_at(in_an_hour(), "later")
    assert await engine.cancel_all(queue="web") == 0
    await other.schedule("x")
    signals.job_cancelled.connect(
        lambda namespace, job, **_: cancelled.append(job), engine.namespace, weak=False
    )
    assert await engine.cancel_all(task="unknown") == 0
    assert await engine.cancel_all(queue="mail", task=send) == 601
    assert len(cancelled) == 601
    assert {job.status for job in cancelled} == {JobStatus.CANCELLED}
    assert {job.queue for job in cancelled} == {"mail"}
    [found] = [job for job in cancelled if job.id == later.id]
    assert found.args == ("later",)
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == ["x"]


async def test_all_queues_are_emptied(engine: Engine) -> None:
    @engine.task(queue="mail")
    async def send() -> None: ...

    @engine.task(queue="web")
    async def other() -> None: ...

    for _ in range(3):
        await send.schedule()
        await other.schedule_at(in_an_hour())
    assert await engine.cancel_all() == 6
    assert await engine.cancel_all() == 0


async def test_dead_jobs_are_requeued_and_discarded(engine: Engine) -> None:
    is_broken = True
    ran: list[int] = []

    @engine.task(queue="mail")
    async def send(number: int) -> None:
        if is_broken:
            raise ValueError
        ran.append(number)

    @engine.task(queue="web")
    async def other() -> None:
        raise AbortException

    for number in range(3):
        await send.schedule(number)
        await other.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert await engine.requeue_dead(task=send, reason="aborted") == 0
    assert await engine.requeue_dead(task=send, queue="web") == 0
    is_broken = False
    assert await engine.requeue_dead(task=send, reason="exhausted") == 3
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert ran == [0, 1, 2]
    assert await engine.discard_dead(queue="mail") == 0
    assert await engine.discard_dead(reason="exhausted") == 3
    assert [dead async for dead in engine.dead_jobs()] == []


async def test_jobs_whose_result_did_not_fit_are_requeued(engine: Engine) -> None:
    @engine.task(result_ttl=60)
    async def count(number: int) -> int:
        return number if is_mended else "many"  # type: ignore[return-value]

    is_mended = False
    await count.schedule(3)
    await engine.start_workers(stop_when_queue_empty=True)
    is_mended = True
    assert await engine.requeue_dead(reason="result") == 1
    await engine.start_workers(stop_when_queue_empty=True)
    assert [dead async for dead in engine.dead_jobs()] == []


async def test_jobs_without_arguments_are_reported(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Engine(MemoryBroker(), namespace, leave_out="arguments") as engine:

        @engine.task
        async def send(secret: str) -> None:
            raise ValueError

        for _ in range(2):
            await send.schedule("secret")
        await engine.start_workers(stop_when_queue_empty=True)
        assert await engine.requeue_dead() == 0
        assert "queue default: 2 dead jobs are not requeued" in caplog.text
        assert await engine.discard_dead() == 2


async def test_a_wrong_choice_of_jobs_is_refused(engine: Engine) -> None:
    @engine.task(queue="mail")
    async def send() -> None: ...

    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"queue": "web"}, UnknownQueue, "web"),
        ({"task": 5}, InvalidValue, "task name"),
        ({"task": "a b"}, InvalidValue, "task name"),
    ]
    for keywords, error, named in wrong:
        for call in (engine.requeue_dead, engine.discard_dead, engine.cancel_all):
            with pytest.raises(error, match=named):
                await call(**keywords)
    for reason in ("exausted", 5, ["lost"], ""):
        with pytest.raises(InvalidValue, match="takes one of lost, poison"):
            await engine.requeue_dead(reason=reason)  # type: ignore[arg-type]
    stranger: Any = Engine(MemoryBroker(), "stranger").task(name="stranger")(send.function)
    with pytest.raises(UnknownTask):
        await engine.cancel_all(task=stranger)


def test_a_plain_program_steers(namespace: str) -> None:
    engine = Engine(MemoryBroker(), namespace)

    @engine.task(queue="mail")
    async def send() -> None: ...

    with engine.blocking as blocking:
        job = blocking.schedule_at(send, in_an_hour())
        assert blocking.reschedule(job, None) is JobStatus.WAITING
        assert blocking.requeue_dead(task=send) == 0


async def test_steering_would_block_a_loop(engine: Engine) -> None:
    with pytest.raises(WouldBlock):
        engine.blocking.reschedule("x", None)
    with pytest.raises(WouldBlock):
        engine.blocking.requeue_dead()
