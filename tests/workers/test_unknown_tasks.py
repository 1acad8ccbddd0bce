"""A job of a task that no worker here knows is parked for others, and fails after a day."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from aiospinach import Engine, JobStatus, UnknownTask, outcome
from aiospinach.brokers.base import Envelope

from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker
from .hearing import reasons_of_death


def job_of_nobody() -> Envelope:
    return Envelope("stranger", "nobody", b"[[1],{}]", max_retries=2)


async def test_it_is_put_off_without_using_a_retry(
    engine: Engine, broker: FailingBroker, heard: Heard
) -> None:
    await broker.enqueue("default", [job_of_nobody()])
    await engine.start_workers(block=False)
    while not (await broker.counts("default")).waiting:
        await asyncio.sleep(0.002)
    await engine.stop_workers()
    next_due = (await broker.tick("default")).next_due
    assert next_due is not None
    assert 3 < next_due <= 5
    assert heard.names() == ["worker_started", "worker_terminated"]
    assert (await broker.counts("default")).dead == 0


async def test_it_runs_once_a_worker_knows_it(
    engine: Engine, broker: FailingBroker, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "PARK_FOR", 0.02)
    await broker.enqueue("default", [job_of_nobody()])
    await engine.start_workers(block=False)
    parked: list[int] = []
    while len(parked) < 3:
        parked.append((await broker.counts("default")).waiting)
        await asyncio.sleep(0.02)

    @engine.task(name="nobody")
    async def somebody(number: int) -> int:
        return number

    await until(lambda: heard.count("job_finished"))
    await engine.stop_workers()
    said = heard.last("job_finished")
    assert (said["result"], said["job"].retries, said["job"].status) == (1, 0, JobStatus.SUCCEEDED)
    assert heard.names("stranger") == ["job_started", "job_finished"]


async def test_it_fails_as_unknown_in_the_end(
    engine: Engine,
    broker: FailingBroker,
    heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(outcome, "PARK_FOR", 0.02)
    monkeypatch.setattr(outcome, "PARK_AT_MOST", timedelta(milliseconds=150))
    await broker.enqueue("default", [job_of_nobody()])
    began = broker.now()
    await engine.start_workers(block=False)
    await until(lambda: heard.count("job_failed"))
    await engine.stop_workers()
    assert broker.now() - began >= 150
    said = heard.last("job_failed")
    assert isinstance(said["err"], UnknownTask)
    assert said["job"].status is JobStatus.FAILED
    assert said["job"].retries == 0
    assert heard.names("stranger") == ["job_failed"]
    assert await reasons_of_death(broker) == {"stranger": "unknown"}
    [record] = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "nobody" in record.getMessage()


async def test_a_day_is_the_limit() -> None:
    assert timedelta(hours=24) == outcome.PARK_AT_MOST
    assert outcome.PARK_FOR == 5.0


async def test_jobs_of_nobody_hold_up_no_other(engine: Engine, broker: FailingBroker, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task
    async def known(number: int) -> None:
        ran.append(number)

    await broker.enqueue("default", [Envelope(f"s{n}", "nobody", b"[[],{}]") for n in range(100)])
    for number in range(5):
        await known.schedule(number)
    await engine.start_workers(2, block=False)
    await until(lambda: heard.count("job_finished") == 5)
    await engine.stop_workers()
    assert ran == [0, 1, 2, 3, 4]
    assert (await broker.counts("default")).waiting == 100
