"""A job of a task unknown to these workers is parked for others, and fails after a day."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from aiospinach import Engine, JobStatus, UnknownTask, outcome, signals
from aiospinach.brokers.questions import Counts, LookWorkers
from aiospinach.brokers.records import Envelope
from aiospinach.workers import unknown_tasks

from ..asking import counts
from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker
from .job_results import reasons_of_death


def unknown_job(number: int = 0) -> Envelope:
    return Envelope(f"stranger-{number}", "nobody", b"[[1],{}]", max_retries=2)


async def parked(broker: FailingBroker) -> int:
    return (await counts(broker, "default")).parked


async def until_parked(broker: FailingBroker, count: int) -> None:
    async with asyncio.timeout(10):
        while await parked(broker) < count:
            await asyncio.sleep(0.002)


async def test_an_unknown_job_is_parked_without_using_a_retry(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    await broker.enqueue("default", [unknown_job()])
    await engine.start_workers(block=False)
    await until_parked(broker, 1)
    await engine.stop_workers()
    assert (await broker.tick("default")).next_due is None
    assert heard.names() == ["worker_started", "task_unknown", "worker_terminated"]
    assert await counts(broker, "default") == Counts(0, 0, 0, 0, parked=1)


async def test_a_parked_job_runs_at_once_when_its_task_is_attached(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    await broker.enqueue("default", [unknown_job(number) for number in range(20)])
    await engine.start_workers(block=False)
    await until_parked(broker, 20)

    @engine.task(name="nobody")
    async def somebody(number: int) -> int:
        return number

    await until(lambda: heard.count("job_finished") == 20)
    await broker.enqueue("default", [unknown_job(20)])
    await until(lambda: heard.count("job_finished") == 21)
    await engine.stop_workers()
    finish = heard.last("job_finished")
    assert (finish["result"], finish["job"].retries, finish["job"].status) == (1, 0, JobStatus.SUCCEEDED)
    assert heard.names("stranger-0") == ["job_started", "job_finished"]


async def test_a_parked_job_fails_as_unknown_after_its_time(
    namespace: str,
    heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(outcome, "PARK_AT_MOST", timedelta(milliseconds=150))
    broker = FailingBroker(lease=1.2)  # one look in 0.1 s
    await broker.enqueue("default", [unknown_job()])
    began = broker.now()
    async with Engine(broker, namespace) as engine:
        await engine.start_workers(block=False)
        await until(lambda: heard.count("job_failed"))
    assert broker.now() - began >= 150
    finish = heard.last("job_failed")
    assert isinstance(finish["err"], UnknownTask)
    assert finish["job"].status is JobStatus.FAILED
    assert finish["job"].retries == 0
    assert heard.names("stranger-0") == ["job_failed"]
    assert await reasons_of_death(broker) == {"stranger-0": "unknown"}
    [record] = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "nobody" in record.getMessage()


async def test_only_jobs_parked_for_too_long_fail(
    namespace: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = FailingBroker(lease=1.2)
    async with Engine(broker, namespace) as engine:
        await broker.enqueue("default", [unknown_job(1)])
        await engine.start_workers(block=False)
        await until_parked(broker, 1)
        await asyncio.sleep(1)  # the worker has this time to judge the first one alone
        await broker.enqueue("default", [unknown_job(2)])
        await until_parked(broker, 2)
        first, second = (job.parked_at for job in broker._queues["default"].jobs.values())
        assert second - first >= 1000
        limit = timedelta(milliseconds=broker.now() - first)  # only the first one has waited for so long
        monkeypatch.setattr(outcome, "PARK_AT_MOST", limit)
        exchanges = broker.exchanges
        await until(lambda: heard.count("job_failed"))
        monkeypatch.setattr(outcome, "PARK_AT_MOST", timedelta(hours=24))
        [worker] = await broker.look("default", LookWorkers())
        async with asyncio.timeout(10):
            while await broker.look("default", LookWorkers()) == [worker]:  # until the worker looks again
                await asyncio.sleep(0.005)
        assert broker.exchanges - exchanges < 10, "it does not park the same jobs again and again"
        await until_parked(broker, 1)
    assert await reasons_of_death(broker) == {"stranger-1": "unknown"}
    assert [job.parked_at for job in broker._queues["default"].jobs.values()] == [second]


async def test_an_unknown_task_is_reported_by_log_signal_and_health(
    engine: Engine, broker: FailingBroker, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    received: list[dict[str, object]] = []

    @signals.task_unknown.connect_via(engine.namespace)
    def receiver(namespace: str, **kwargs: object) -> None:
        received.append(kwargs)

    @engine.task(name="other")
    async def other() -> None:
        pass

    await broker.register("default", {"mail.send": 0}, {}, "web-1-77")
    jobs = [Envelope(f"m{number}", "mail.send", b"[[],{}]") for number in range(3)]
    await broker.enqueue("default", [*jobs, unknown_job()])
    await engine.start_workers(block=False)
    await until(lambda: len(received) == 2)
    assert {"task_name": "mail.send", "queue": "default", "count": 3} in received
    assert engine.health().unknown_tasks == ("mail.send", "nobody")
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    [line] = [line for line in lines if "'mail.send'" in line]
    assert line.startswith("queue default: 3 jobs of the task 'mail.send' have waited since 20")
    assert line.endswith(
        " no such task is attached to this engine. Import the module that declares it (perhaps mail) before"
        " the workers start, or attach its registry. Worker web-1-77 had it last. Attached: other"
    )
    [line] = [line for line in lines if "'nobody'" in line]
    assert "1 job of the task 'nobody' has waited since" in line
    assert "No worker has had it lately." in line
    engine.task(name="mail.send")(other.function)
    await until(lambda: heard.count("job_finished") == 3)
    await until(lambda: engine.health().unknown_tasks == ("nobody",))
    await engine.stop_workers()
    assert len(received) == 2, "not again within a minute"


async def test_an_unknown_task_is_reported_again_with_the_new_count(
    namespace: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_tasks, "LOG_EVERY", 0.0)
    received_counts: list[object] = []

    @signals.task_unknown.connect_via(namespace)
    def receiver(namespace: str, count: int, **kwargs: object) -> None:
        received_counts.append(count)

    broker = FailingBroker(lease=1.2)  # one look in 0.1 s
    async with Engine(broker, namespace) as engine:
        await broker.enqueue("default", [unknown_job()])
        await engine.start_workers(block=False)
        await until(lambda: received_counts)
        await broker.enqueue("default", [unknown_job(1), unknown_job(2)])
        await until(lambda: received_counts[-1] == 3)


async def test_jobs_are_parked_for_a_day_at_most() -> None:
    assert timedelta(hours=24) == outcome.PARK_AT_MOST


async def test_unknown_jobs_do_not_delay_others(engine: Engine, broker: FailingBroker, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task
    async def known(number: int) -> None:
        ran.append(number)

    await broker.enqueue("default", [unknown_job(number) for number in range(100)])
    for number in range(5):
        await known.schedule(number)
    await engine.start_workers(2, block=False)
    await until(lambda: heard.count("job_finished") == 5)
    await engine.stop_workers()
    assert ran == [0, 1, 2, 3, 4]
    assert await parked(broker) == 100
    assert broker.exchanges < 20, (
        "the task is known to be unknown after the first jobs; the others are not leased"
    )


async def test_unknown_tasks_beyond_the_remembered_number_are_parked_as_well(
    engine: Engine, broker: FailingBroker
) -> None:
    await engine.start_workers(block=False)
    await broker.enqueue("default", [Envelope(f"j{n}", f"task-{n}", b"[[],{}]") for n in range(120)])
    await until_parked(broker, 120)
    await broker.enqueue("default", [Envelope(f"k{n}", f"task-{n}", b"[[],{}]") for n in range(120)])
    await until_parked(broker, 240)
