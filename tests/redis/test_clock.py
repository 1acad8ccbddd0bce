"""Only the clock of Redis is used, from the first call on."""

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
async def test_a_program_with_a_wrong_clock_schedules_for_now(
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


async def test_the_first_call_uses_the_clock_of_redis(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: real_time() + 3600)
    engine = Engine(RedisBroker(shared_server().unix_url), namespace)
    body = engine.task(name="body")(lambda: None)
    try:
        assert (await body.schedule()).status is JobStatus.QUEUED
    finally:
        async with engine:
            pass


@pytest.mark.parametrize("ahead", [3, -3])
async def test_jobs_to_run_at_once_are_ready_if_the_estimated_clock_is_wrong(
    namespace: str, plain: redis.Redis, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """The estimate of the clock may come from another node of a Cluster, or from a former master."""
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
        assert plain.zcard(key(namespace, "future")) == 1, "a requested moment is kept"
