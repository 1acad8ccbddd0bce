"""Each verdict of ``engine.explain``, produced for real on every broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from aiospinach import Broker, Engine, Explanation, InvalidValue, Job, JobStatus, UnknownQueue, Verdict
from aiospinach.brokers.records import Envelope, Settlement
from aiospinach.outcome import Action

from .brokers_under_test import BROKERS, MakeBroker

LEASE = 1.2


class Stage:
    """An engine whose tasks hold on until they are released."""

    def __init__(self, engine: Engine, broker: Broker) -> None:
        self.engine = engine
        self.broker = broker
        self.release = asyncio.Event()
        self.started: list[str] = []

        @engine.task(queue="mail", name="limited", max_concurrency=2)
        async def limited() -> None:
            await self.hold()

        @engine.task(queue="mail", name="plain")
        async def plain() -> None:
            await self.hold()

        @engine.task(queue="mail", name="broken")
        async def broken() -> None:
            raise ValueError("a secret")

        @engine.task(queue="mail", name="retried", max_retries=3, backoff=lambda attempt: 600.0)
        async def retried() -> None:
            raise ValueError("a secret")

        self.limited, self.plain, self.broken, self.retried = limited, plain, broken, retried

    async def hold(self) -> None:
        self.started.append("one")
        await self.release.wait()

    async def work(self, number: int = 2) -> str:
        """Start workers; returns their name, once they have reported."""
        await self.engine.start_workers(number, "mail", block=False)
        while not (workers := await self.engine.workers()):
            await asyncio.sleep(0.005)
        return workers[0].name

    async def until(self, job: Job | str, verdict: Verdict) -> Explanation:
        """Explain the job until it has the verdict."""
        return await self.until_it(lambda: self.engine.explain(job), lambda why: why.verdict is verdict)

    @staticmethod
    async def until_it(
        explain: Callable[[], Awaitable[Explanation]], condition: Callable[[Explanation], bool]
    ) -> Explanation:
        async with asyncio.timeout(15):
            while not condition(why := await explain()):
                await asyncio.sleep(0.005)
        return why


@pytest.fixture(params=BROKERS)
async def stage(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Stage]:
    make: MakeBroker = request.param
    broker = make(lease=LEASE)
    async with Engine(broker, namespace) as engine:
        stage = Stage(engine, broker)
        yield stage
        stage.release.set()


async def test_no_worker_consumes_the_queue(stage: Stage) -> None:
    job = await stage.plain.schedule()
    why = await stage.engine.explain(job)
    assert (why.verdict, why.workers, why.ahead) == (Verdict.NO_WORKER, 0, 0)
    assert str(why) == "waits: no live worker consumes the queue mail"
    assert why.job == job
    assert why.job is not None
    assert why.job.status is JobStatus.QUEUED


async def test_it_is_queued_behind_others(stage: Stage) -> None:
    await stage.work(1)
    first = await stage.plain.schedule()
    await stage.until(first, Verdict.RUNNING)
    others = [await stage.plain.schedule() for _ in range(4)]
    await stage.engine.cancel(others[1])
    why = await stage.engine.explain(others[3].id)
    assert (why.verdict, why.ahead, why.workers) == (Verdict.QUEUED, 2, 1)
    assert str(why) == "is queued: 2 jobs are ahead of it in line"


async def test_it_is_not_due(stage: Stage) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=5)
    job = await stage.plain.schedule_at(at)
    why = await stage.engine.explain(job)
    assert (why.verdict, why.until) == (Verdict.NOT_DUE, at)
    assert str(why) == f"waits: it is due at {at:%Y-%m-%d %H:%M:%S} UTC, in 5 h"


async def test_it_is_tried_again_later(stage: Stage) -> None:
    await stage.work()
    job = await stage.retried.schedule()
    why = await stage.until(job, Verdict.RETRY)
    assert "after builtins.ValueError (retry 1 of 3)" in str(why)
    assert why.until is not None
    assert why.until > datetime.now(UTC) + timedelta(seconds=500)
    assert why.job is not None
    assert (why.job.status, why.job.error) == (JobStatus.WAITING, "builtins.ValueError")
    assert "secret" not in str(why)


async def test_its_task_is_at_its_limit(stage: Stage) -> None:
    worker = await stage.work(5)
    jobs = [await stage.limited.schedule() for _ in range(5)]
    why = await stage.until_it(
        lambda: stage.engine.explain(jobs[4]), lambda why: why.holders == {worker: 2} and why.ahead == 2
    )
    assert why.verdict is Verdict.AT_LIMIT
    lines = {
        f"waits: task limited runs 2 of 2 on {worker} (2); 2 jobs{where}"
        for where in (" of task limited are ahead of it", " are ahead of it in line")
    }
    assert str(why) in lines


async def test_live_workers_do_not_know_its_task(stage: Stage) -> None:
    await stage.work()
    await stage.broker.enqueue("mail", [Envelope("a", "nobodys", b"[[],{}]")])
    await stage.until("a", Verdict.PARKED)  # as soon as a worker has met it
    await stage.engine.stop_workers()
    why = await stage.engine.explain("a")
    assert str(why).endswith("no live worker knows its task nobodys")
    assert why.job is not None
    assert (why.job.status, why.job.task_name) == (JobStatus.WAITING, "nobodys")


async def test_a_worker_that_does_not_know_its_task_has_not_met_it(stage: Stage) -> None:
    await stage.work(1)
    await stage.until(await stage.plain.schedule(), Verdict.RUNNING)  # no slot is free
    await stage.broker.enqueue("mail", [Envelope("a", "nobodys", b"[[],{}]")])
    why = await stage.engine.explain("a")
    assert why.verdict is Verdict.UNKNOWN_TASK
    assert str(why) == "waits: the live worker of the queue mail does not know task nobodys"


async def test_it_runs(stage: Stage) -> None:
    worker = await stage.work()
    before = datetime.now(UTC) - timedelta(seconds=1)  # the worker reckons with the clock of the store
    job = await stage.plain.schedule()
    why = await stage.until(job, Verdict.RUNNING)
    assert why.job is not None
    assert why.job.started_at is not None
    assert before <= why.job.started_at <= datetime.now(UTC) + timedelta(seconds=1)
    assert (why.job.status, why.job.worker) == (JobStatus.RUNNING, worker)
    assert str(why).startswith("has run since ")
    assert str(why).endswith(f" s, on {worker}")


async def test_it_was_cancelled_and_still_runs(stage: Stage) -> None:
    worker = await stage.work()

    @stage.engine.task(queue="mail")
    async def stubborn() -> None:
        stage.started.append("stubborn")
        while not stage.release.is_set():
            try:
                await stage.release.wait()
            except asyncio.CancelledError:
                stage.started.append("cancelled")

    job = await stubborn.schedule()
    await stage.until(job, Verdict.RUNNING)
    assert await stage.engine.cancel(job) is JobStatus.RUNNING
    why = await stage.until(job, Verdict.CANCELLING)
    assert str(why) == f"is cancelled, and its body still runs on {worker}"


async def test_it_is_lost_and_then_judged(stage: Stage) -> None:
    await stage.broker.open(stage.engine.namespace)
    job = await stage.plain.schedule()
    [lease] = (await stage.broker.exchange("mail", [], 1)).leases  # by a worker that then disappears
    assert (await stage.engine.explain(job)).verdict is Verdict.RUNNING
    why = await stage.until(job, Verdict.LOST)
    assert "the lease of a worker that has not reported ended at" in str(why)
    assert why.until is not None
    while not (expired := (await stage.broker.tick("mail")).expired):
        await asyncio.sleep(0.01)
    why = await stage.engine.explain(job)
    assert why.verdict is Verdict.LOST
    assert "another worker decides what becomes of it" in str(why)
    await stage.broker.exchange("mail", [Settlement(expired[0], Action.DONE)], 0)
    assert (await stage.engine.explain(job)).verdict is Verdict.UNKNOWN
    assert lease.job.id == job.id


async def test_it_is_dead(stage: Stage) -> None:
    await stage.work()
    job = await stage.broken.schedule()
    why = await stage.until(job, Verdict.DEAD)
    assert str(why).endswith(": exhausted (no retry was left), builtins.ValueError")
    assert why.job is not None
    assert (why.job.status, why.job.error) == (JobStatus.FAILED, "builtins.ValueError")
    assert "secret" not in str(why)


async def test_it_is_unknown(stage: Stage) -> None:
    await stage.work()
    stage.release.set()
    job = await stage.plain.schedule()
    for sought in (await ended(stage, job), "never-stored"):
        why = await stage.engine.explain(sought)
        assert (why.verdict, why.job) == (Verdict.UNKNOWN, None)


async def ended(stage: Stage, job: Job) -> Job:
    await stage.until(job, Verdict.UNKNOWN)
    return job


async def test_its_task_or_its_queue_is_paused(stage: Stage) -> None:
    await stage.work()
    job = await stage.plain.schedule_at(datetime.now(UTC) + timedelta(milliseconds=50))
    await stage.engine.pause(stage.plain, for_=600, reason="429 by the mail server")
    why = await stage.until(job, Verdict.TASK_PAUSED)
    assert why.until is not None
    assert datetime.now(UTC) + timedelta(seconds=500) < why.until
    assert str(why).startswith("waits: task plain has been paused since ")
    assert str(why).endswith(" UTC: 429 by the mail server")
    await stage.engine.pause(queue="mail")
    why = await stage.until(job, Verdict.QUEUE_PAUSED)
    assert why.until is None
    assert str(why).endswith(", until it is resumed")
    await stage.engine.resume(queue="mail")
    await stage.until(job, Verdict.TASK_PAUSED)
    await stage.engine.resume(stage.plain)
    await stage.until(job, Verdict.RUNNING)


async def test_it_has_ended_and_its_result_is_kept(stage: Stage) -> None:
    @stage.engine.task(queue="mail", result_ttl=60)
    async def add() -> int:
        return 3

    cancelled = await add.schedule()
    await stage.engine.cancel(cancelled)
    why = await stage.engine.explain(cancelled)
    assert why.verdict is Verdict.ENDED
    assert str(why).startswith("has ended: it was cancelled at ")
    await stage.work()
    why = await stage.until(await add.schedule(), Verdict.ENDED)
    assert str(why).startswith("has ended: it succeeded at ")
    assert str(why).endswith(", and its result is kept")


async def test_the_stack_of_a_running_job_is_shown(stage: Stage) -> None:
    await stage.work(3)
    job = await stage.plain.schedule()
    await stage.until(job, Verdict.RUNNING)
    why = await stage.until_it(lambda: stage.engine.explain(job, stack=True), lambda why: bool(why.stack))
    assert why.stack is not None
    assert "test_explain.py" in why.stack[0]
    assert any(frame.endswith("hold") for frame in why.stack)
    assert str(why).splitlines() == [why.sentence, *(f"  {frame}" for frame in why.stack)]
    queued = await stage.plain.schedule_at(datetime.now(UTC) + timedelta(hours=1))
    assert (await stage.engine.explain(queued, stack=True)).stack is None
    assert (await stage.engine.explain(job)).stack is None
    with pytest.raises(InvalidValue, match="stack="):
        await stage.engine.explain(job, stack=1)  # type: ignore[arg-type]


async def test_an_id_is_looked_for_in_every_queue(stage: Stage) -> None:
    @stage.engine.task(queue="web")
    async def other() -> None: ...

    job = await other.options(id="one").schedule()
    for found in (
        await stage.engine.explain("one"),
        await stage.engine.explain("one", queue="web"),
        await stage.engine.explain(job),
    ):
        assert (found.verdict, found.job) == (Verdict.NO_WORKER, job)
    assert (await stage.engine.explain("one", queue="mail")).verdict is Verdict.UNKNOWN
    with pytest.raises(UnknownQueue):
        await stage.engine.explain("one", queue="nobodys")
    with pytest.raises(InvalidValue):
        await stage.engine.explain(7)  # type: ignore[arg-type]
