"""Ends of jobs, as those learn them that wait for the results."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import (
    AiospinachError,
    Broker,
    Engine,
    InvalidValue,
    Job,
    JobFailed,
    JobLost,
    JobStatus,
    MemoryBroker,
    NoResult,
    ResultCancelled,
    ResultExpired,
    UnknownJob,
    UnknownQueue,
    WorkerLost,
    current_job,
)
from aiospinach.brokers import Envelope, Settlement
from aiospinach.failures import describe
from aiospinach.outcome import Action

from ..waiting import until

HOUR = timedelta(hours=1)
SOON = 0.05


async def test_a_failed_job_raises_its_reason_error_and_traceback(engine: Engine) -> None:
    class Hidden(Exception):
        """A class that another process could not import."""

    @engine.task(result_ttl=HOUR, name="break")
    async def fail() -> int:
        raise Hidden("it broke")

    await engine.start_workers(1, block=False)
    job = await engine.schedule("break")
    with pytest.raises(JobFailed, match=r"failed \(exhausted\): .*Hidden: it broke") as caught:
        await engine.result(job, timeout=10)
    error = caught.value
    assert (error.reason, error.message) == ("exhausted", "it broke")
    assert error.error.startswith("tests.results.test_ends.")
    assert error.error.endswith("Hidden")
    [note] = error.__notes__
    assert 'raise Hidden("it broke")' in note
    assert type(error) is JobFailed
    assert isinstance(error, NoResult)
    with pytest.raises(JobFailed, match="it broke"):
        await engine.result(job, timeout=10)


async def test_what_is_left_out_is_no_part_of_the_error(broker: Broker, namespace: str) -> None:
    async with Engine(broker, namespace, leave_out=("messages", "tracebacks", "arguments")) as engine:

        @engine.task(result_ttl=HOUR)
        async def fail(secret: str) -> int:
            raise ValueError(secret)

        await engine.start_workers(1, block=False)
        with pytest.raises(JobFailed) as caught:
            await engine.result(await fail.schedule("classified"), timeout=10)
        assert not hasattr(caught.value, "__notes__")
        assert caught.value.message == ""
        assert caught.value.error == "builtins.ValueError"
        assert "classified" not in str(caught.value)


async def test_a_retry_is_waited_for(engine: Engine) -> None:
    tries = 0

    @engine.task(result_ttl=HOUR, max_retries=2, backoff=lambda _: SOON)
    async def count() -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ValueError("not yet")
        return tries

    await engine.start_workers(1, block=False)
    assert await engine.result(await count.schedule(), timeout=10) == 3


@pytest.mark.parametrize("is_waited_for", [True, False])
@pytest.mark.parametrize("state", ["waiting", "queued", "running"])
async def test_a_cancelled_job_raises_result_cancelled(
    engine: Engine, state: str, is_waited_for: bool
) -> None:
    has_begun = asyncio.Event()

    @engine.task(result_ttl=HOUR)
    async def hang() -> None:
        has_begun.set()
        await asyncio.Event().wait()

    if state == "waiting":
        job = await engine.schedule_at(hang, datetime.now(UTC) + HOUR)
    else:
        job = await hang.schedule()
    if state == "running":
        await engine.start_workers(1, block=False)
        await has_begun.wait()
    waits = [asyncio.create_task(engine.result(job, timeout=10))] if is_waited_for else []
    await until(lambda: all(hub._waits for hub in hubs(engine)), "it is waited for")
    await engine.cancel(job)
    if not waits:
        waits = [asyncio.create_task(engine.result(job, timeout=10))]
    with pytest.raises(ResultCancelled, match=rf"^job '{job.id}' of task '.*hang' was cancelled"):
        await waits[0]


def hubs(engine: Engine) -> list[Any]:
    return [hub for hubs in engine._hubs._by_loop.values() for hub in hubs.values()]


@pytest.mark.parametrize("max_retries", [0, 3])
async def test_a_lost_job_raises_job_lost(engine: Engine, broker: Broker, max_retries: int) -> None:
    @engine.task(result_ttl=HOUR, max_retries=max_retries)
    async def work() -> None: ...

    job = await work.schedule()
    [lease] = (await broker.exchange("default", [], 1)).leases
    detail = describe(WorkerLost("the worker disappeared"), "poison" if max_retries else "lost")
    await broker.exchange("default", [Settlement(lease, Action.FAIL, detail=detail)], 0)
    with pytest.raises(JobLost) as caught:
        await engine.result(job, timeout=10)
    assert isinstance(caught.value, JobFailed)
    assert caught.value.reason == ("poison" if max_retries else "lost")


async def test_a_job_that_nobody_knows_is_no_endless_wait(engine: Engine) -> None:
    @engine.task(result_ttl=HOUR, queue="a")
    async def one() -> None: ...

    @engine.task(result_ttl=HOUR, queue="b")
    async def two() -> None: ...

    with pytest.raises(UnknownJob, match="'nowhere' is not known") as caught:
        await engine.result("nowhere")
    assert not isinstance(caught.value, ResultExpired)
    assert isinstance(caught.value, LookupError)
    with pytest.raises(UnknownJob):
        await engine.result("nowhere", queue="b")
    with pytest.raises(UnknownQueue):
        await engine.result("nowhere", queue="c")


@pytest.mark.parametrize("timeout", [None, 0, 10])
async def test_an_engine_without_tasks_knows_no_job_by_its_id(timeout: float | None, engine: Engine) -> None:
    with pytest.raises(UnknownJob, match=r"'nowhere' is not known: .* has no tasks, and so no queue"):
        await engine.result("nowhere", timeout=timeout)


async def test_an_id_is_found_in_every_queue(engine: Engine) -> None:
    @engine.task(result_ttl=HOUR, queue="a")
    async def one() -> str:
        return "one"

    @engine.task(result_ttl=HOUR, queue="b")
    async def two() -> str:
        return "two"

    await two.options(id="x").schedule()
    wait = asyncio.create_task(engine.result("x", timeout=10))
    await engine.start_workers(1, block=False)
    assert await wait == "two"
    assert await engine.result("x", queue="b", timeout=10) == "two"
    with pytest.raises(UnknownJob):
        await engine.result("x", queue="a", timeout=10)


async def test_a_result_that_is_kept_no_more_has_expired(engine: Engine) -> None:
    @engine.task(result_ttl=0.01)
    async def work() -> int:
        return 1

    job = await work.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    await asyncio.sleep(0.05)
    with pytest.raises(ResultExpired, match="result_ttl"):
        await engine.result(job, timeout=10)
    with pytest.raises(UnknownJob):
        await engine.result(job.id, timeout=10)


async def test_a_duplicate_waits_for_the_stored_job(engine: Engine) -> None:
    @engine.task(result_ttl=HOUR)
    async def echo(word: str) -> str:
        return word

    first = await echo.options(id="x").schedule("first")
    again = await echo.options(id="x").schedule("again")
    assert again.status is JobStatus.NOT_SET
    wait = asyncio.create_task(engine.result(again, timeout=10))
    await engine.start_workers(1, block=False)
    assert await wait == "first"
    assert await engine.result(first, timeout=10) == "first"


async def test_the_result_of_an_earlier_job_of_the_id_is_not_returned(engine: Engine, broker: Broker) -> None:
    @engine.task(result_ttl=HOUR)
    async def echo(word: str) -> str:
        return word

    async def run(word: str, created: int) -> Job[str]:
        envelope = Envelope("x", "echo", b'[["%b"],{}]' % word.encode(), created, result_ttl=60_000)
        envelope.task = echo.name
        await broker.enqueue("default", [envelope])
        await engine.start_workers(1, stop_when_queue_empty=True)
        return envelope.as_job(engine.namespace, "default", JobStatus.QUEUED)

    await broker.open(engine.namespace)
    first = await run("one", 1)
    assert await engine.result(first, timeout=10) == "one"
    second = await run("two", 2)
    assert await engine.result(second, timeout=10) == "two"
    assert await engine.result("x", timeout=10) == "two"
    with pytest.raises(ResultExpired):
        await engine.result(first, timeout=10)


async def test_a_requeued_job_has_its_new_result(engine: Engine) -> None:
    words = iter(["", "good"])

    @engine.task(result_ttl=HOUR)
    async def work() -> str:
        word = next(words)
        if not word:
            raise ValueError
        return word

    await engine.start_workers(1, block=False)
    job = await work.schedule()
    with pytest.raises(JobFailed):
        await engine.result(job, timeout=10)
    assert await engine.requeue(job)
    assert await engine.result(job, timeout=10) == "good"


async def test_a_job_and_its_successor_have_their_own_results(engine: Engine) -> None:
    successors: list[Job[int]] = []

    @engine.task(result_ttl=HOUR)
    async def count(number: int) -> int:
        if number < 3:
            await asyncio.sleep(0.01)  # the moments of creation differ
            successors.append(await count.options(id="x").schedule(number + 1))
        return number

    first = await count.options(id="x").schedule(1)
    wait = asyncio.create_task(engine.result(first, timeout=10))
    await until(lambda: bool(hubs(engine)), "it is waited for")
    await engine.start_workers(1, block=False)
    assert await wait == 1
    await until(lambda: len(successors) == 2, "the last one is scheduled")
    assert await engine.result(successors[1], timeout=10) == 3


async def test_a_task_without_results_is_refused_with_the_remedy(engine: Engine) -> None:
    @engine.task
    async def work() -> None: ...

    job = await work.schedule()
    for how in (job, job.id):
        with pytest.raises(InvalidValue, match=r"task '.*work' keeps no results: give it result_ttl="):
            await engine.result(how, timeout=10)
    with pytest.raises(InvalidValue, match="keeps no results"):
        await engine.results([job])
    with pytest.raises(InvalidValue, match="keeps no results"):
        engine.as_completed([job])


async def test_a_job_that_was_scheduled_without_a_result_ttl_is_refused(
    engine: Engine, broker: Broker
) -> None:
    @engine.task(result_ttl=HOUR, name="work")
    async def work() -> None: ...

    await broker.enqueue("default", [Envelope("x", "work", b"[[],{}]", 1)])
    with pytest.raises(InvalidValue, match="was scheduled when its task 'work' had no result_ttl"):
        await engine.result("x", timeout=10)


async def test_a_job_does_not_wait_for_itself(engine: Engine) -> None:
    refused: list[Exception] = []

    @engine.task(result_ttl=HOUR)
    async def narcissus() -> int:
        me = current_job()
        assert me is not None
        for how in (me, me.id):
            with pytest.raises(InvalidValue, match="awaits its own result") as caught:
                await engine.result(how)
            refused.append(caught.value)
        with pytest.raises(InvalidValue, match="awaits its own result"):
            await engine.results([me])
        return len(refused)

    await engine.start_workers(1, block=False)
    assert await engine.result(await narcissus.schedule(), timeout=10) == 2


async def test_the_error_of_a_child_is_an_ordinary_error_of_its_parent(engine: Engine) -> None:
    tries = 0

    @engine.task(result_ttl=HOUR)
    async def child() -> int:
        await asyncio.Event().wait()
        return 1

    @engine.task(result_ttl=HOUR, max_retries=1, backoff=lambda _: 0)
    async def parent() -> str:
        nonlocal tries
        tries += 1
        if tries > 1:
            return "second try"
        job = await child.schedule()
        await asyncio.sleep(0.05)
        await engine.cancel(job)
        await engine.result(job, timeout=10)
        return "never"

    await engine.start_workers(2, block=False)
    assert await engine.result(await parent.schedule(), timeout=10) == "second try"


async def test_a_child_is_awaited_in_the_body_of_its_parent(engine: Engine) -> None:
    @engine.task(result_ttl=HOUR)
    async def double(number: int) -> int:
        return 2 * number

    @engine.task(result_ttl=HOUR)
    async def total(count: int) -> int:
        jobs = [await double.schedule(number) for number in range(count)]
        return sum(await engine.results(jobs, timeout=10))

    await engine.start_workers(3, block=False)
    assert await engine.result(await total.schedule(10), timeout=10) == 90


@pytest.mark.parametrize("wrong", [None, 3, ["a"], b"a"])
async def test_something_else_than_a_job_is_refused(wrong: Any) -> None:
    engine = Engine(MemoryBroker())
    with pytest.raises(InvalidValue, match="job id"):
        await engine.result(wrong)


@pytest.mark.parametrize("timeout", [-1, "1", float("nan")])
async def test_a_wrong_timeout_is_refused(timeout: Any) -> None:
    engine = Engine(MemoryBroker())
    with pytest.raises(InvalidValue, match=r"result\(timeout=\)"):
        await engine.result("x", timeout=timeout)
    with pytest.raises(InvalidValue, match=r"results\(timeout=\)"):
        await engine.results([], timeout=timeout)
    with pytest.raises(InvalidValue, match=r"as_completed\(timeout=\)"):
        engine.as_completed([], timeout=timeout)


async def test_a_job_of_another_namespace_is_refused(engine: Engine) -> None:
    other = Engine(MemoryBroker(), "elsewhere")

    @other.task(result_ttl=HOUR)
    async def work() -> None: ...

    with pytest.raises(InvalidValue, match="not of the namespace"):
        await engine.result(await work.schedule())


def test_every_error_of_a_result_is_of_one_tree() -> None:
    for kind in (JobFailed, JobLost, ResultCancelled, UnknownJob, ResultExpired):
        assert issubclass(kind, NoResult)
    assert issubclass(NoResult, AiospinachError)
