"""Lost workers, outages, and bodies that run twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from aiospinach import (
    BrokerUnavailable,
    Engine,
    EnqueueUncertain,
    InvalidValue,
    Job,
    JobStatus,
    LeaseLost,
    MemoryBroker,
    RetryException,
    current_job,
    signals,
    testing,
)

from ..waiting import until


@pytest.fixture
def engine(namespace: str) -> Engine:
    return Engine(MemoryBroker(), namespace)


@pytest.fixture
def jobs(engine: Engine) -> Iterator[testing.Jobs]:
    with testing.memory(engine) as jobs:
        yield jobs


class Bank:
    """Charges money, and knows the keys of charges."""

    def __init__(self) -> None:
        self.charges: list[int] = []
        self._keys: set[str] = set()

    def charge(self, amount: int, key: str | None = None) -> int:
        if key is None or key not in self._keys:
            self.charges.append(amount)
        if key is not None:
            self._keys.add(key)
        return amount


# Running twice.


async def test_repeat_finds_a_charge_without_an_idempotency_key(engine: Engine, jobs: testing.Jobs) -> None:
    bank = Bank()

    @engine.task(max_retries=3)
    async def charge(amount: int) -> int:
        return bank.charge(amount)

    assert await jobs.repeat(charge, 17) == (17, 17)
    assert bank.charges == [17, 17]  # the customer paid twice


async def test_repeat_passes_a_charge_with_an_idempotency_key(engine: Engine, jobs: testing.Jobs) -> None:
    bank = Bank()

    @engine.task(max_retries=3)
    async def charge(amount: int) -> int:
        job = current_job()
        assert job is not None
        return bank.charge(amount, key=job.id)

    assert await jobs.repeat(charge, 17) == (17, 17)
    assert bank.charges == [17]


async def test_a_repeated_job_is_the_same_job_on_another_worker(engine: Engine, jobs: testing.Jobs) -> None:
    seen: list[Job] = []

    @engine.task(max_retries=3)
    async def work() -> int:
        job = current_job()
        assert job is not None
        seen.append(job)
        return len(seen)

    @engine.task(max_retries=3)
    async def bystander() -> None: ...

    await bystander.schedule()
    await bystander.schedule_at(jobs.now + timedelta(seconds=30))
    before = jobs.now
    assert await jobs.repeat(work) == (1, 2)
    assert jobs.runs(bystander) == 1  # the clock of the jobs stays
    assert jobs.now - before < timedelta(seconds=30)
    assert seen[0].id == seen[1].id
    assert [job.crashes for job in seen] == [0, 1]
    assert (await engine.counts())["default"].running == 0
    assert await jobs.repeat(work) == (3, 4)


async def test_repeat_raises_the_error_of_either_run(engine: Engine, jobs: testing.Jobs) -> None:
    runs: list[int] = []

    @engine.task(max_retries=3)
    async def fail_in(run: int) -> None:
        runs.append(run)
        if runs.count(run) == run:
            raise ZeroDivisionError

    for run in (1, 2):
        with pytest.raises(ZeroDivisionError):
            await jobs.repeat(fail_in, run)
        assert runs.count(run) == run

    @engine.task(max_retries=3)
    async def later() -> None:
        raise RetryException("later", at=timedelta(minutes=1))

    with pytest.raises(AssertionError, match="has succeeded 0 times, and not twice"):
        await jobs.repeat(later)


async def test_repeat_refuses_what_would_not_be_repeated(engine: Engine, jobs: testing.Jobs) -> None:
    @engine.task(name="once")
    async def once() -> None: ...

    @engine.task(max_retries=1)
    async def work() -> None: ...

    with pytest.raises(InvalidValue, match="'once' has max_retries=0"):
        await jobs.repeat(once)
    await work.options(id="a").schedule()
    with pytest.raises(InvalidValue, match="duplicate"):
        await jobs.repeat(work.options(id="a"))


# Lost workers.


async def test_a_lost_worker_leaves_its_job_leased_until_its_lease_ends(
    engine: Engine, jobs: testing.Jobs
) -> None:
    @engine.task(max_retries=1)
    async def work() -> None: ...

    await work.schedule()
    jobs.lose_worker(work)
    with jobs.capture(signals.job_finished) as finished:
        assert await jobs.drain() == 1
    assert isinstance(finished[0]["err"], LeaseLost)
    assert finished[0]["job"].status is JobStatus.NOT_SET
    assert (await engine.counts())["default"].running == 1
    assert await jobs.advance(seconds=55) == 0
    assert await jobs.advance(seconds=30) == 1
    assert (await engine.counts())["default"].running == 0


async def test_a_worker_that_is_lost_before_the_body_has_not_run_it(
    engine: Engine, jobs: testing.Jobs
) -> None:
    @engine.task(max_retries=1)
    async def work() -> None: ...

    @engine.task
    async def other() -> None: ...

    jobs.lose_worker(work, at="before_body")
    await other.schedule()
    await work.schedule()
    assert await jobs.drain() == 1
    assert (jobs.runs(work), jobs.runs(other)) == (0, 1)
    await work.schedule()
    assert await jobs.drain() == 1  # one worker is lost, and not more
    assert await jobs.advance(minutes=2) == 1


async def test_a_worker_of_the_application_is_lost_as_well(engine: Engine, jobs: testing.Jobs) -> None:
    @engine.task(max_retries=1, queue="mail")
    async def work() -> None: ...

    async with engine:
        await engine.start_workers(block=False)
        await work.schedule()
        jobs.lose_worker(work)
        assert await jobs.drain() == 1
        assert await jobs.advance(minutes=2) == 1


async def test_the_point_of_the_loss_is_checked(jobs: testing.Jobs) -> None:
    point: Any = "later"
    with pytest.raises(InvalidValue, match="before_settle"):
        jobs.lose_worker(at=point)


# Outages.


async def test_calls_within_an_outage_see_a_broker_that_is_away(engine: Engine, jobs: testing.Jobs) -> None:
    @engine.task
    async def work() -> None: ...

    job = await work.schedule()
    with jobs.outage():
        for call in (work.schedule, engine.counts, jobs.drain):
            with pytest.raises(BrokerUnavailable):
                await call()
        with pytest.raises(BrokerUnavailable):
            await engine.cancel(job)
        with pytest.raises(BrokerUnavailable):
            await jobs.advance(days=1)
    assert await jobs.drain() == 1


async def test_an_outage_of_some_seconds_ends_by_the_clock_of_the_jobs(
    engine: Engine, jobs: testing.Jobs
) -> None:
    @engine.task
    async def work() -> None: ...

    await work.schedule()
    jobs.outage(30)
    with pytest.raises(BrokerUnavailable):
        await work.schedule()
    assert await jobs.advance(seconds=20) == 0
    with pytest.raises(BrokerUnavailable):
        await work.schedule()
    assert await jobs.advance(seconds=20) == 1
    await work.schedule()


async def test_an_answer_that_is_lost_is_uncertain_and_its_retry_returns_the_job(
    engine: Engine, jobs: testing.Jobs
) -> None:
    @engine.task
    async def work() -> None: ...

    with jobs.outage(lose_answers=True):
        with pytest.raises(EnqueueUncertain) as caught:
            await work.schedule()
        with pytest.raises(EnqueueUncertain):
            await caught.value.retry()
    job = await caught.value.retry()
    assert job.status is JobStatus.QUEUED
    jobs.assert_scheduled(work, count=1)
    assert await jobs.drain() == 1


async def test_workers_ride_out_an_outage_that_begins_while_a_body_runs(
    engine: Engine, jobs: testing.Jobs
) -> None:
    @engine.task
    async def work() -> None:
        jobs.outage(timedelta(minutes=10))

    await work.schedule()
    before = jobs.now
    with jobs.capture(signals.job_finished) as finished:
        assert await jobs.drain() == 1
    assert finished[0]["err"] is None
    assert jobs.now - before >= timedelta(minutes=10)
    assert (await engine.counts())["default"].running == 0


async def test_workers_of_the_application_ride_out_an_outage(engine: Engine, jobs: testing.Jobs) -> None:
    @engine.task
    async def work() -> None: ...

    async with engine:
        await engine.start_workers(block=False)
        await work.schedule()
        with jobs.outage():
            await until(lambda: not engine.health().is_connected, "the workers have noticed", timeout=20)
            with pytest.raises(BrokerUnavailable):
                await jobs.drain()
        assert await jobs.drain() == 1


async def test_the_seconds_of_an_outage_are_checked(jobs: testing.Jobs) -> None:
    with pytest.raises(InvalidValue, match="outage"):
        jobs.outage(-1)
    with pytest.raises(InvalidValue, match="outage"):
        jobs.outage(seconds="a")  # type: ignore[arg-type]


async def test_an_outage_ends_once_for_all(engine: Engine, jobs: testing.Jobs) -> None:
    with jobs.outage(3600):
        pass
    assert await jobs.drain() == 0
