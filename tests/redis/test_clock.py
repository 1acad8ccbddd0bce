"""Redis' clock is the only one, from the first call on."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
import redis

from aiospinach import Batch, Engine, JobStatus, RedisBroker

from ..brokers_under_test import shared_server
from ..conftest import Heard
from .conftest import key

real_time = time.time


@pytest.mark.parametrize("hours", [-24, 1, 24])
async def test_a_program_whose_clock_is_wrong_schedules_for_now(
    namespace: str, heard: Heard, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    monkeypatch.setattr("time.time", lambda: real_time() + hours * 3600)
    async with Engine(RedisBroker(shared_server().unix_url), namespace) as engine:
        body = engine.task(name="body")(lambda: None)
        first = await body.schedule()
        assert first.status is JobStatus.QUEUED
        [second] = await engine.schedule_batch(Batch().schedule(body))
        assert second.status is JobStatus.QUEUED
        assert abs(first.at - datetime.fromtimestamp(real_time(), UTC)) < timedelta(minutes=1)
        await engine.start_workers(stop_when_queue_empty=True)
    assert heard.count("job_finished") == 2


async def test_the_first_call_of_all_knows_the_clock(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: real_time() + 3600)
    engine = Engine(RedisBroker(shared_server().unix_url), namespace)
    body = engine.task(name="body")(lambda: None)
    try:
        assert (await body.schedule()).status is JobStatus.QUEUED
    finally:
        async with engine:
            pass


@pytest.mark.parametrize("ahead", [3, -3])
async def test_what_may_run_at_once_is_ready_whatever_a_client_takes_for_now(
    namespace: str, plain: redis.Redis, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """Its estimate comes from the node of a Cluster that answered last, or from a master that is gone."""
    broker = RedisBroker(shared_server().unix_url)
    async with Engine(broker, namespace) as engine:
        body = engine.task(name="body")(lambda: None)
        right = broker.now
        monkeypatch.setattr(broker, "now", lambda: right() + ahead * 1000)
        jobs = [await body.schedule()]
        jobs += await engine.schedule_batch(Batch().schedule(body).schedule(body))
        assert [job.status for job in jobs] == [JobStatus.QUEUED] * 3
        assert plain.lrange(key(namespace, "ready"), 0, -1) == [job.id.encode() for job in jobs]
        assert plain.zcard(key(namespace, "future")) == 0
        soon = datetime.fromtimestamp(right() / 1000 + 2, UTC)
        await body.schedule_at(soon)
        assert plain.zcard(key(namespace, "future")) == 1, "a moment that was asked for is kept"
