"""Dead jobs by groups, single dead jobs, and periodic tasks, as an engine shows them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from aiospinach import AbortException, Broker, Cron, Engine, InvalidValue, JobStatus

from .brokers_under_test import BROKERS, MakeBroker
from .waiting import until


@pytest.fixture(params=BROKERS)
async def any_engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    make: MakeBroker = request.param
    broker: Broker = make()
    async with Engine(broker, namespace) as engine:
        yield engine


async def with_dead_jobs(engine: Engine) -> None:
    @engine.task(name="charge")
    async def charge(error: str) -> None:
        raise {"key": KeyError, "value": ValueError}[error]("secret")

    @engine.task(name="send", queue="mail")
    async def send() -> None:
        raise AbortException("no such address")

    for number, error in enumerate(["key", "value", "value"]):
        await charge.options(id=f"charge-{number}").schedule(error)
    await send.options(id="send-1").schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)


async def test_groups_of_all_queues_come_with_the_largest_first(any_engine: Engine) -> None:
    await with_dead_jobs(any_engine)
    groups = await any_engine.dead_groups()
    assert [(group.queue, group.task, group.error, group.count, group.latest_id) for group in groups] == [
        ("default", "charge", "builtins.ValueError", 2, "charge-2"),
        ("default", "charge", "builtins.KeyError", 1, "charge-0"),
        ("mail", "send", "aiospinach.AbortException", 1, "send-1"),
    ]
    assert all(datetime.now(UTC) - group.latest_at < timedelta(minutes=1) for group in groups)
    assert [group.queue for group in await any_engine.dead_groups(queue="mail")] == ["mail"]


async def test_the_latest_dead_jobs_of_each_queue_are_counted_alone(any_engine: Engine) -> None:
    await with_dead_jobs(any_engine)
    groups = await any_engine.dead_groups(latest=1)
    assert [(group.queue, group.count, group.latest_id) for group in groups] == [
        ("default", 1, "charge-2"),
        ("mail", 1, "send-1"),
    ]
    assert sum(group.count for group in await any_engine.dead_groups(latest=3)) == 4
    for latest in (0, True, 1.5, 2**31):
        with pytest.raises(InvalidValue, match="latest="):
            await any_engine.dead_groups(latest=latest)  # type: ignore[arg-type]


async def test_a_dead_job_is_found_with_its_traceback(any_engine: Engine) -> None:
    await with_dead_jobs(any_engine)
    dead = await any_engine.dead_job("charge-0")
    assert dead is not None
    assert (dead.job.args, dead.reason, dead.error) == (("key",), "exhausted", "builtins.KeyError")
    assert dead.message == "'secret'"
    assert "Traceback" in dead.traceback
    assert await any_engine.dead_job("unknown") is None
    await any_engine.requeue("charge-0")
    assert await any_engine.dead_job("charge-0") is None, "it lives"


async def test_a_group_is_requeued_or_discarded_by_its_error(any_engine: Engine) -> None:
    await with_dead_jobs(any_engine)
    assert await any_engine.requeue_dead(task="charge", error=ValueError) == 2
    assert await any_engine.discard_dead(queue="default", error="builtins.KeyError") == 1
    assert [group.task for group in await any_engine.dead_groups()] == ["send"]
    with pytest.raises(InvalidValue, match="error= takes a class of errors"):
        await any_engine.requeue_dead(error=17)  # type: ignore[arg-type]


async def test_periodic_tasks_have_their_ticks(any_engine: Engine) -> None:
    ran: list[None] = []

    @any_engine.task(name="poll", periodicity=timedelta(seconds=0.2))
    async def poll() -> None:
        ran.append(None)

    @any_engine.task(name="report", queue="mail", periodicity=Cron("0 9 * * *"))
    async def report() -> None: ...

    before = await any_engine.periodic_tasks()
    assert [(each.task, each.next_at, each.last_id) for each in before] == [
        ("poll", None, None),
        ("report", None, None),
    ]
    await any_engine.start_workers(1, block=False)
    await until(lambda: bool(ran))
    await any_engine.stop_workers()
    polled, reported = await any_engine.periodic_tasks()
    assert (polled.queue, polled.periodicity) == ("default", timedelta(seconds=0.2))
    assert polled.next_at is not None
    assert polled.last_at is not None
    assert polled.last_at < polled.next_at
    assert polled.last_id == f"poll@{round(polled.last_at.timestamp() * 1000)}"
    assert reported.next_at is not None
    assert (reported.next_at.hour, reported.next_at.minute) == (9, 0)
    assert (reported.last_at, reported.last_id) == (None, None)
    assert [each.task for each in await any_engine.periodic_tasks(queue="mail")] == ["report"]


async def test_the_tasks_of_an_engine_are_listed(any_engine: Engine) -> None:
    tasks = any_engine.tasks
    assert dict(tasks) == {}

    @any_engine.task(name="send")
    async def send() -> None: ...

    assert dict(tasks) == {"send": send}
    assert (await any_engine.tasks["send"].schedule()).status is JobStatus.QUEUED
