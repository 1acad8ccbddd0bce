"""Dead jobs: their records, and how to requeue or discard them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aiospinach import Broker, Engine, InvalidValue, JobStatus, UnknownQueue

from .brokers_under_test import BROKERS, MakeBroker


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    """An engine on every broker."""
    make: MakeBroker = request.param
    broker: Broker = make()
    async with Engine(broker, namespace) as engine:
        yield engine


async def fail(engine: Engine, count: int = 1) -> None:
    """Run jobs 0 to count - 1, which fail without retries."""

    @engine.task(name="fragile", queue="glass")
    async def fragile(number: int) -> None:
        raise ValueError(f"broken {number}")

    for number in range(count):
        await fragile.options(id=f"job-{number}").schedule(number)
    await engine.start_workers(1, "glass", stop_when_queue_empty=True)


async def test_a_dead_job_has_its_reason_error_and_traceback(engine: Engine) -> None:
    await fail(engine)
    [dead] = [dead async for dead in engine.dead_jobs()]
    assert (dead.job.id, dead.job.args, dead.job.status) == ("job-0", (0,), JobStatus.FAILED)
    assert (dead.reason, dead.error, dead.message) == ("exhausted", "builtins.ValueError", "broken 0")
    assert "ValueError: broken 0" in dead.traceback
    assert dead.died_at >= dead.job.at
    assert "broken 0" not in repr(dead)


@pytest.mark.large
async def test_all_dead_jobs_are_listed_latest_first(engine: Engine) -> None:
    await fail(engine, 250)
    found = [dead.job.id async for dead in engine.dead_jobs(queue="glass")]
    assert found == [f"job-{number}" for number in reversed(range(250))]


@pytest.mark.large
@pytest.mark.parametrize("what", ["requeue", "discard"])
async def test_requeueing_or_discarding_while_iterating_skips_no_job(engine: Engine, what: str) -> None:
    await fail(engine, 350)
    found = []
    async for dead in engine.dead_jobs():
        found.append(dead.job.id)
        assert await getattr(engine, what)(dead.job)
    assert sorted(found) == sorted(f"job-{number}" for number in range(350))
    assert [dead async for dead in engine.dead_jobs()] == []


async def test_a_requeued_job_runs_again_with_no_retries_used(engine: Engine) -> None:
    await fail(engine)
    assert await engine.requeue("job-0")
    assert not await engine.requeue("job-0", queue="glass")
    await engine.start_workers(1, "glass", stop_when_queue_empty=True)
    [dead] = [dead async for dead in engine.dead_jobs()]
    assert dead.job.retries == 0


async def test_only_a_dead_job_can_be_requeued_or_discarded(engine: Engine) -> None:
    await fail(engine)
    assert not await engine.requeue("another")
    assert not await engine.discard("another")
    assert await engine.discard("job-0")
    assert not await engine.discard("job-0")
    with pytest.raises(UnknownQueue):
        await engine.requeue("job-0", queue="nowhere")
    with pytest.raises(InvalidValue):
        await engine.discard("no id at all")
