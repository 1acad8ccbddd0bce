"""Many jobs, slow receivers and pools cancelled in the middle: no job or signal is lost, on every broker."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from aiospinach import Broker, Engine, Interrupted, Job, JobStatus, signals
from aiospinach.signals import SafeNamedSignal

from ..conftest import ALL_SIGNALS, Heard
from ..waiting import until

QUEUE = "default"
MakeBroker = Callable[..., Broker]


@pytest.mark.large
async def test_no_signal_of_10_000_jobs_is_lost_with_async_receivers(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", logger="aiospinach")  # hides thousands of errors of the bodies
    caplog.set_level("WARNING", logger="aiospinach.signals")
    received: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    workers: list[str] = []
    is_plain = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    count = 2_000 if is_plain else 10_000  # uvloop is faster

    @engine.task(max_retries=1, backoff=lambda attempt: 0)
    async def body(number: int) -> int:
        if number % 5 == 1 or (number % 5 == 2 and retries.get() == 0):
            raise ValueError("wrong")
        return number

    def listen(signal: SafeNamedSignal) -> None:
        @signal.connect_via(engine.namespace)
        async def receiver(namespace: str, job: Job, **kwargs: Any) -> None:
            # A run is identified by the number of retries before it; signals after a retry carry one more.
            run = job.retries - (job.status is JobStatus.WAITING)
            if signal is signals.job_started:
                retries.set(run)
            received[job.id, run].append(f"{signal.name} begins")
            await asyncio.sleep(0)
            received[job.id, run].append(f"{signal.name} ends")

    for signal in ALL_SIGNALS:
        if signal.name.startswith("job"):
            listen(signal)

    @signals.worker_started.connect_via(engine.namespace)
    @signals.worker_terminated.connect_via(engine.namespace)
    async def of_the_pool(namespace: str, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        workers.append(kwargs["worker_name"])

    def both(*names: str) -> list[str]:
        return [f"{name} {part}" for name in names for part in ("begins", "ends")]

    jobs = [await body.schedule(number) for number in range(count)]
    await engine.start_workers(10, stop_when_queue_empty=True)
    for number, job in enumerate(jobs):
        runs: list[tuple[str, ...]]
        if number % 5 == 1:
            runs = [("job_schedule_retry", "job_finished"), ("job_failed", "job_finished")]
        elif number % 5 == 2:
            runs = [("job_schedule_retry", "job_finished"), ("job_finished",)]
        else:
            runs = [("job_finished",)]
        for run, after in enumerate(runs):
            before = ("job_scheduled", "job_started") if run == 0 else ("job_started",)
            assert received.pop((job.id, run)) == both(*before, *after)
    assert received == {}
    assert len(workers) == 2
    assert len(set(workers)) == 1
    assert not [record for record in caplog.records if record.name == "aiospinach.signals"]


retries: ContextVar[int] = ContextVar("retries")


@pytest.mark.parametrize("number", [1, 2, 5])
async def test_slow_receivers_keep_at_most_twice_the_number_of_jobs_alive(
    engine: Engine, number: int
) -> None:
    bodies = alive = sent = 0
    most_bodies = most_alive = 0
    finished: list[int] = []
    gate = asyncio.Event()

    @signals.job_started.connect_via(engine.namespace)
    async def started(namespace: str, **kwargs: Any) -> None:
        nonlocal alive, most_alive
        alive += 1
        most_alive = max(most_alive, alive)
        await asyncio.sleep(0)

    @signals.job_finished.connect_via(engine.namespace)
    async def slow(namespace: str, job: Job, **kwargs: Any) -> None:
        nonlocal alive
        await gate.wait()
        await asyncio.sleep(0.002)
        finished.append(job.args[0])
        alive -= 1

    def job_tasks() -> int:
        coroutines = [task.get_coro() for task in asyncio.all_tasks()]
        return sum(getattr(coroutine, "__qualname__", "") == "Execution._main" for coroutine in coroutines)

    @engine.task
    async def body(index: int) -> None:
        nonlocal bodies, most_bodies, sent
        bodies += 1
        most_bodies = max(most_bodies, bodies)
        sent += 1
        assert job_tasks() <= 2 * number
        await asyncio.sleep(0)
        bodies -= 1

    for index in range(60):
        await body.schedule(index)
    await engine.start_workers(number, block=False)
    await until(lambda: sent == 2 * number)
    for _ in range(200):  # no other job begins while the receivers hang
        await asyncio.sleep(0)
    assert sent == job_tasks() == 2 * number
    gate.set()
    await until(lambda: len(finished) == 60)
    await engine.stop_workers()
    assert most_bodies == number
    assert most_alive == 2 * number
    assert sorted(finished) == list(range(60))


@pytest.mark.parametrize("how", ["the starter", "every task"])
@pytest.mark.parametrize(
    "where", ["job_started", "job_schedule_retry", "job_failed", "job_finished", "worker_started"]
)
async def test_a_pool_cancelled_during_a_dispatch_finishes_it(
    engine: Engine, heard: Heard, where: str, how: str
) -> None:
    begun = asyncio.Event()
    allowed = asyncio.Event()
    entered = left = 0

    @engine.task(max_retries=1, backoff=lambda attempt: 0)
    async def body(number: int) -> None:
        if number % 2:
            raise ValueError("wrong")

    async def receiver(namespace: str, **kwargs: Any) -> None:
        nonlocal entered, left
        entered += 1
        begun.set()
        await allowed.wait()
        left += 1

    getattr(signals, where).connect_via(engine.namespace)(receiver)
    before = asyncio.all_tasks()
    for number in range(20):
        await body.schedule(number)
    starting = asyncio.create_task(engine.start_workers(4))
    await begun.wait()
    if how == "every task":
        for task in asyncio.all_tasks() - before:
            if "ReceiverRun.main" not in repr(task):
                task.cancel()
    else:
        starting.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not starting.done()
    allowed.set()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert entered == left > 0
    assert heard.count("job_started") == heard.count("job_finished")
    assert heard.count("worker_started") == heard.count("worker_terminated") == 1
    assert heard.names()[-1] == "worker_terminated"
    pairs: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for name, kwargs in heard:
        if name in ("job_started", "job_finished"):
            job = kwargs["job"]
            run = job.retries - (job.status is JobStatus.WAITING)
            pairs[job.id, run].append(name)
            if name == "job_finished" and job.status is JobStatus.QUEUED:
                assert isinstance(kwargs["err"], Interrupted)
                pairs.pop((job.id, run))  # released: it may start again
    assert all(names == ["job_started", "job_finished"] for names in pairs.values())
    # Released jobs run later, and no job is lost.
    await engine.start_workers(4, stop_when_queue_empty=True)
    ended = {
        kwargs["job"].args[0]: kwargs["job"].status
        for name, kwargs in heard
        if name == "job_finished" and kwargs["job"].status in (JobStatus.SUCCEEDED, JobStatus.FAILED)
    }
    assert ended == {n: JobStatus.FAILED if n % 2 else JobStatus.SUCCEEDED for n in range(20)}


async def test_a_cancelled_pool_waits_for_hanging_receivers_until_their_timeout(
    make_broker: MakeBroker, namespace: str, heard: Heard
) -> None:
    begun = asyncio.Event()

    @signals.job_finished.connect_via(namespace)
    async def hangs(namespace: str, **kwargs: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with Engine(make_broker(), namespace, signal_timeout=0.05) as engine:

        @engine.task
        async def body() -> None:
            pass

        for _ in range(4):
            await body.schedule()
        starting = asyncio.create_task(engine.start_workers(4))
        await begun.wait()
        starting.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await starting
    assert heard.count("job_started") == heard.count("job_finished")
    assert heard.names()[-1] == "worker_terminated"


@pytest.mark.parametrize("turns", range(12))
def test_a_program_that_ends_while_jobs_and_receivers_run_shuts_down_cleanly(
    make_broker: MakeBroker, namespace: str, heard: Heard, turns: int
) -> None:
    engine = Engine(make_broker(), namespace)

    @engine.task(max_retries=1)
    async def body() -> None:
        await asyncio.sleep(0)

    for signal in ALL_SIGNALS:

        @signal.connect_via(namespace)
        async def receiver(namespace: str, **kwargs: Any) -> None:
            await asyncio.sleep(0)

    async def main() -> None:
        for _ in range(10):
            await body.schedule()
        await engine.start_workers(2, block=False)
        for _ in range(turns):
            await asyncio.sleep(0)

    async def bounded() -> None:
        async with asyncio.timeout(10):
            await main()

    loop_ended = asyncio.run(bounded())  # asyncio.run cancels all remaining tasks
    assert loop_ended is None
    assert heard.count("job_started") == heard.count("job_finished")
    assert heard.count("worker_started") == heard.count("worker_terminated") == 1
