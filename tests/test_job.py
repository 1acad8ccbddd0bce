"""A job is an immutable snapshot, identified by namespace, queue and id; its repr hides arguments."""

from __future__ import annotations

import asyncio
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from anyio import to_thread

from aiospinach import (
    BrokerError,
    DeadJob,
    Engine,
    Health,
    Job,
    JobStatus,
    MemoryBroker,
    current_job,
    signals,
)

from .conftest import Heard

SECRET = "xyzzy-4711"


def job(**changes: Any) -> Job:
    fields: dict[str, Any] = {
        "id": "a1",
        "task_name": "work",
        "queue": "default",
        "namespace": "shop",
        "at": datetime(2024, 1, 1, tzinfo=UTC),
        "created_at": datetime(2024, 1, 1, tzinfo=UTC),
        "status": JobStatus.QUEUED,
    }
    return Job(**{**fields, **changes})


@pytest.mark.parametrize("name", ["id", "status", "at", "args", "kwargs", "retries", "something"])
def test_a_job_is_immutable(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(job(), name, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": JobStatus.RUNNING},
        {"at": datetime(2025, 1, 1, tzinfo=UTC)},
        {"retries": 3, "max_retries": 5},
        {"args": (1, [2]), "kwargs": {"a": {}}},
        {"task_name": "other"},
    ],
)
def test_snapshots_of_one_job_are_equal_in_any_state(changes: dict[str, Any]) -> None:
    assert job(**changes) == job()
    assert not job(**changes) != job()  # noqa: SIM202
    assert len({job(**changes), job()}) == 1


@pytest.mark.parametrize("changes", [{"id": "a2"}, {"queue": "mail"}, {"namespace": "other"}])
def test_jobs_differ_by_namespace_queue_and_id(changes: dict[str, Any]) -> None:
    assert job(**changes) != job()
    assert len({job(**changes), job()}) == 2


def test_a_job_equals_no_object_of_another_type() -> None:
    assert job() != "a1"
    assert job() != ("shop", "default", "a1")


def test_the_repr_of_a_job_identifies_it_and_hides_its_arguments() -> None:
    shown = repr(job(args=(SECRET,), kwargs={SECRET: SECRET}))
    assert shown == "<Job work id=a1 queue=default QUEUED namespace=shop>"
    assert repr(job(retries=1, max_retries=3)) == (
        "<Job work id=a1 queue=default QUEUED retry=1/3 namespace=shop>"
    )
    assert SECRET not in f"{job(args=(SECRET,))}"


def test_the_states_of_a_job_are_documented() -> None:
    assert [status.name for status in JobStatus] == [
        "NOT_SET",
        "WAITING",
        "QUEUED",
        "RUNNING",
        "SUCCEEDED",
        "FAILED",
        "CANCELLED",
    ]
    assert JobStatus.__doc__ is not None
    assert all(status.name in JobStatus.__doc__ for status in JobStatus)


async def test_a_scheduled_job_has_all_its_attributes_set(engine: Engine, namespace: str) -> None:
    @engine.task(name="work", queue="mail", max_retries=4)
    async def work(a: int, *, b: str) -> None: ...

    before = datetime.now(UTC) - timedelta(seconds=1)
    scheduled = await engine.schedule(work.options(id="order-17"), 5, b="x")
    assert before < scheduled.at <= datetime.now(UTC)
    assert scheduled.at.tzinfo is UTC
    assert scheduled.id == "order-17"
    assert (scheduled.task_name, scheduled.queue, scheduled.namespace) == ("work", "mail", namespace)
    assert (scheduled.status, scheduled.retries, scheduled.max_retries) == (JobStatus.QUEUED, 0, 4)
    assert (scheduled.args, scheduled.kwargs) == ((5,), {"b": "x"})


@pytest.mark.parametrize(
    ("away", "status"),
    [(timedelta(hours=1), JobStatus.WAITING), (-timedelta(hours=1), JobStatus.QUEUED)],
)
async def test_a_job_waits_for_its_moment_and_a_past_moment_means_now(
    engine: Engine, away: timedelta, status: JobStatus
) -> None:
    @engine.task
    async def work() -> None: ...

    at = (datetime.now(UTC) + away).replace(microsecond=0)
    scheduled = await engine.schedule_at(work, at)
    assert scheduled.status is status
    assert scheduled.at == at


async def test_a_duplicate_is_not_stored_and_has_the_status_not_set(engine: Engine, heard: Heard) -> None:
    ran = []

    @engine.task
    async def work(number: int) -> None:
        ran.append(number)

    first = await work.options(id="one").schedule(1)
    second = await work.options(id="one").schedule(2)
    assert (first.status, second.status) == (JobStatus.QUEUED, JobStatus.NOT_SET)
    assert first == second
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == [1]
    assert heard.count("job_scheduled") == 1


async def test_jobs_without_a_given_id_get_unique_ids(engine: Engine) -> None:
    @engine.task
    async def work() -> None: ...

    assert len({(await work.schedule()).id for _ in range(100)}) == 100


def test_there_is_no_current_job_outside_of_jobs() -> None:
    assert current_job() is None


async def test_current_job_works_in_the_body_and_its_tasks_threads_and_receivers(
    engine: Engine, namespace: str
) -> None:
    seen: dict[str, Job | None] = {}

    async def child() -> None:
        seen["task"] = current_job()

    @engine.task
    async def work() -> None:
        seen["body"] = current_job()
        await asyncio.create_task(child())
        seen["to_thread"] = await to_thread.run_sync(current_job)

    @engine.task
    def plain() -> None:
        seen["thread"] = current_job()

    @signals.job_started.connect_via(namespace)
    def started(sender: str, job: Job, **kwargs: Any) -> None:
        seen[f"started {job.task_name}"] = current_job()

    @signals.job_finished.connect_via(namespace)
    async def finished(sender: str, job: Job, **kwargs: Any) -> None:
        seen[f"finished {job.task_name}"] = current_job()

    one, two = await work.schedule(), await plain.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    of_one = {"body", "task", "to_thread", f"started {one.task_name}", f"finished {one.task_name}"}
    of_two = {"thread", f"started {two.task_name}", f"finished {two.task_name}"}
    assert seen == dict.fromkeys(of_one, one) | dict.fromkeys(of_two, two)
    assert seen["body"] is not None
    assert seen["body"].status is JobStatus.RUNNING
    assert current_job() is None


async def test_current_job_is_the_inner_job_while_one_is_executed_in_another(engine: Engine) -> None:
    @engine.task
    async def inner() -> Job | None:
        return current_job()

    @engine.task
    async def outer() -> list[str]:
        before, within, after = current_job(), await engine.execute(inner), current_job()
        return [found.task_name.rpartition(".")[2] for found in (before, within, after) if found is not None]

    assert await engine.execute(outer) == ["outer", "inner", "outer"]
    assert current_job() is None


@pytest.mark.parametrize("kind", [Job, Health, DeadJob, MemoryBroker, Engine, BrokerError])
def test_a_public_class_is_of_the_package(kind: type) -> None:
    assert kind.__module__ == "aiospinach"
    assert pickle.loads(pickle.dumps(kind)) is kind


async def test_a_snapshot_of_a_job_can_be_an_argument(namespace: str) -> None:
    received: list[Job] = []
    async with Engine(MemoryBroker(), namespace) as engine:

        @engine.task
        async def first() -> None: ...

        @engine.task
        async def second(job: Job, dead: DeadJob | None = None) -> None:
            received.append(job)

        job = await first.schedule()
        await second.schedule(job)
        await engine.start_workers(stop_when_queue_empty=True)
    assert received == [job]
    assert (received[0].at, received[0].status) == (job.at, job.status)
