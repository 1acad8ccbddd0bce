"""Waits for many jobs: their order, their limits of time, and what they share."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import (
    Broker,
    BrokerError,
    BrokerUnavailable,
    Done,
    Engine,
    InvalidValue,
    JobFailed,
    MemoryBroker,
    ResultCancelled,
    UnknownJob,
)
from aiospinach.brokers.memory.channels import MemorySubscription
from aiospinach.brokers.questions import Question
from aiospinach.brokers.results import LookResults
from aiospinach.brokers.subscriptions import Subscription
from aiospinach.engine import result_hub

from ..waiting import until
from .test_ends import hubs

HOUR = timedelta(hours=1)


def echo_task(engine: Engine) -> Any:
    @engine.task(result_ttl=HOUR, name="echo")
    async def echo(number: int) -> int:
        if number < 0:
            raise ValueError(f"negative {number}")
        return number

    return echo


async def test_results_are_in_the_order_of_the_jobs(engine: Engine) -> None:
    echo = echo_task(engine)
    jobs = [await echo.schedule(number) for number in range(250)]
    await engine.start_workers(10, block=False)
    assert await engine.results(jobs, timeout=20) == list(range(250))
    assert await engine.results(reversed(jobs), timeout=20) == list(reversed(range(250)))
    assert await engine.results(iter(jobs[:2]), timeout=20) == [0, 1]
    assert await engine.results([]) == []


async def test_results_raise_the_first_error_and_leave_no_wait(engine: Engine) -> None:
    echo = echo_task(engine)
    await engine.start_workers(2, block=False)
    waiting = await engine.schedule_at(echo, later(), 1)
    bad = await echo.schedule(-1)
    with pytest.raises(JobFailed, match="negative -1"):
        await engine.results([waiting, bad], timeout=10)
    await nothing_waits(engine)


async def nothing_waits(engine: Engine) -> None:
    await until(lambda: all(hub._task is None and not hub._waits for hub in hubs(engine)), "no wait is left")


async def test_as_completed_yields_each_end_as_it_comes(engine: Engine) -> None:
    gates = [asyncio.Event() for _ in range(3)]

    @engine.task(result_ttl=HOUR)
    async def gated(number: int) -> int:
        await gates[number].wait()
        if number == 1:
            raise ValueError("one")
        return number

    jobs = [await gated.schedule(number) for number in range(3)]
    await engine.start_workers(3, block=False)
    seen: list[Done[int]] = []
    gates[2].set()
    async for done in engine.as_completed(jobs, timeout=10):
        seen.append(done)
        gates[1 if len(seen) == 1 else 0].set()
    assert [done.job for done in seen] == [jobs[2], jobs[1], jobs[0]]
    assert seen[0].result == 2
    assert seen[0].error is None
    assert isinstance(seen[1].error, JobFailed)
    with pytest.raises(JobFailed, match="one"):
        _ = seen[1].result
    assert seen[2].result == 0
    assert [repr(done).split(" ")[1] for done in seen] == ["done", "JobFailed", "done"]
    await nothing_waits(engine)


async def test_a_job_that_is_given_twice_is_yielded_twice(engine: Engine) -> None:
    echo = echo_task(engine)
    await engine.start_workers(1, block=False)
    job = await echo.schedule(7)
    assert [done.result async for done in engine.as_completed([job, job], timeout=10)] == [7, 7]
    assert await engine.results([job, job], timeout=10) == [7, 7]


async def test_a_left_iteration_leaves_no_wait(engine: Engine) -> None:
    echo = echo_task(engine)
    await engine.start_workers(1, block=False)
    jobs = [await echo.schedule(1), await engine.schedule_at(echo, later(), 2)]
    ends = engine.as_completed(jobs, timeout=10)
    async for done in ends:
        assert done.result == 1
        break
    await ends.aclose()  # type: ignore[attr-defined]
    await nothing_waits(engine)
    engine.as_completed(jobs)  # it begins with the iteration
    await nothing_waits(engine)


def later() -> datetime:
    return datetime.now(UTC) + HOUR


async def test_a_timeout_of_0_asks_the_store_once(engine: Engine) -> None:
    echo = echo_task(engine)
    job = await echo.schedule(5)
    with pytest.raises(TimeoutError, match="has not ended within 0 s"):
        await engine.result(job.id, timeout=0)
    with pytest.raises(UnknownJob):
        await engine.result("unknown", timeout=0)
    await engine.start_workers(1, block=False)
    assert await engine.result(job, timeout=10) == 5
    assert await engine.result(job, timeout=0) == 5
    await nothing_waits(engine)


async def test_a_timeout_ends_only_the_waiting(engine: Engine) -> None:
    echo = echo_task(engine)
    job = await echo.schedule(5)
    with pytest.raises(TimeoutError, match=r"^job '\w+' of task 'echo' has not ended within 0\.05 s"):
        await engine.result(job, timeout=0.05)
    with pytest.raises(TimeoutError, match=r"2 of 2 jobs have not ended within 0\.05 s"):
        await engine.results([job, job], timeout=timedelta(milliseconds=50))
    with pytest.raises(TimeoutError, match="1 of 1 jobs"):
        _ = [done async for done in engine.as_completed([job], timeout=0.05)]
    await nothing_waits(engine)
    await engine.start_workers(1, block=False)
    assert await engine.result(job, timeout=10) == 5


async def test_a_cancelled_wait_leaves_the_others(engine: Engine) -> None:
    echo = echo_task(engine)
    job = await echo.schedule(5)
    waits = [asyncio.create_task(engine.result(job, timeout=10)) for _ in range(3)]
    await until(lambda: sum(len(each) for hub in hubs(engine) for each in hub._waits.values()) == 3)
    waits[0].cancel()
    await asyncio.wait([waits[0]])
    await engine.start_workers(1, block=False)
    assert await asyncio.gather(*waits[1:]) == [5, 5]
    await nothing_waits(engine)


@pytest.mark.parametrize("wrong", ["abc", None, 3])
async def test_jobs_that_are_no_list_are_refused(wrong: Any) -> None:
    engine = Engine(MemoryBroker())
    with pytest.raises(InvalidValue, match=r"results\(\) takes several jobs"):
        await engine.results(wrong)
    with pytest.raises(InvalidValue, match=r"as_completed\(\) takes several jobs"):
        engine.as_completed(wrong)


async def test_a_single_job_or_an_id_in_a_list_is_refused() -> None:
    engine = Engine(MemoryBroker())
    job = await echo_task(engine).schedule(1)
    with pytest.raises(InvalidValue, match="takes several jobs, not Job"):
        await engine.results(job)
    wrong: Any = ["x"]
    with pytest.raises(InvalidValue, match=r"not str: engine\.result\(\) also takes an id"):
        await engine.results(wrong)


async def test_leaving_the_engine_ends_the_waits(broker: Broker, namespace: str) -> None:
    async with Engine(broker, namespace) as engine:
        job = await echo_task(engine).schedule(1)
        wait = asyncio.create_task(engine.result(job))
        await until(lambda: any(hub._waits for hub in hubs(engine)))
    with pytest.raises(BrokerUnavailable, match="the engine was left"):
        await wait
    async with engine:
        await engine.start_workers(1, block=False)
        assert await engine.result(job, timeout=10) == 1


class Watched(MemoryBroker):
    """Counts subscriptions and reads. Reads fail while ``fault`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions = 0
        self.reads: list[int] = []
        self.fault: BaseException | None = None

    def subscribe(self, queue: str) -> Subscription:
        self.subscriptions += 1
        return super().subscribe(queue)

    async def look(self, queue: str, question: Question[Any]) -> Any:
        if isinstance(question, LookResults):
            self.reads.append(len(question.job_ids))
            if self.fault is not None:
                raise self.fault
        return await super().look(queue, question)


async def test_large_results_arrive_in_several_reads(engine: Engine) -> None:
    @engine.task(result_ttl=HOUR)
    async def large(number: int) -> str:
        return str(number) * 100_000

    jobs = [await large.schedule(number) for number in range(10)]
    await engine.start_workers(5, stop_when_queue_empty=True)
    results = await engine.results(jobs, timeout=10)
    assert [(result[0], len(result)) for result in results] == [(str(n), 100_000) for n in range(10)]


async def test_waits_that_begin_together_share_a_subscription_and_a_read(namespace: str) -> None:
    broker = Watched()
    async with Engine(broker, namespace) as engine:
        echo = echo_task(engine)
        jobs = [await echo.schedule(number) for number in range(50)]
        waits = [asyncio.create_task(engine.result(job, timeout=10)) for job in jobs]
        await until(lambda: broker.reads)
        await engine.start_workers(5, block=False)
        assert await asyncio.gather(*waits) == list(range(50))
        assert broker.subscriptions == 2, "the worker has one, too"
        assert broker.reads == [50], "a message carries the result"
        await nothing_waits(engine)


async def test_a_lost_message_delays_a_result_a_little(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_hub, "READ_EVERY", 0.05)
    broker = Watched()
    monkeypatch.setattr(broker._channels, "publish", lambda *_: None)
    async with Engine(broker, namespace) as engine:
        job = await echo_task(engine).schedule(1)
        wait = asyncio.create_task(engine.result(job, timeout=10))
        await until(lambda: broker.reads)
        await engine.start_workers(1, block=False)
        assert await wait == 1
        assert len(broker.reads) > 1


async def test_jobs_are_read_again_after_messages_may_have_been_lost(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_hub, "READ_EVERY", 1000.0)
    monkeypatch.setattr(result_hub, "LISTEN_FOR", 0.05)  # after which next() returns None, as after a loss
    broker = Watched()
    monkeypatch.setattr(broker._channels, "publish", lambda *_: None)
    async with Engine(broker, namespace) as engine:
        job = await echo_task(engine).schedule(1)
        wait = asyncio.create_task(engine.result(job, timeout=10))
        await until(lambda: broker.reads)
        await engine.start_workers(1, block=False)
        assert await wait == 1


async def test_a_store_that_does_not_answer_at_first_is_an_error(namespace: str) -> None:
    broker = Watched()
    broker.enqueue_timeout = 0.2
    async with Engine(broker, namespace) as engine:
        job = await echo_task(engine).schedule(1)
        broker.fault = BrokerUnavailable("no route")
        with pytest.raises(BrokerUnavailable, match="no route"):
            await engine.result(job, timeout=10)
        await nothing_waits(engine)


async def test_a_wait_outlives_an_outage(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    broker = Watched()
    broker.enqueue_timeout = 0.01
    async with Engine(broker, namespace) as engine:
        job = await echo_task(engine).schedule(1)
        wait = asyncio.create_task(engine.result(job, timeout=10))
        await until(lambda: broker.reads)
        broker.fault = BrokerUnavailable("no route")
        [hub] = hubs(engine)
        hub._read_soon([job.id])
        await until(lambda: len(broker.reads) > 3)
        assert not wait.done()
        assert caplog.text.count("results cannot be read, and those that wait for them go on: no route") == 1
        broker.fault = None
        await engine.start_workers(1, block=False)
        assert await wait == 1


async def test_a_store_that_refuses_is_an_error(namespace: str) -> None:
    broker = Watched()
    async with Engine(broker, namespace) as engine:
        job = await echo_task(engine).schedule(1)
        broker.fault = BrokerError("NOPERM")
        with pytest.raises(BrokerError, match="NOPERM"):
            await engine.result(job, timeout=10)
        with pytest.raises(BrokerError, match="NOPERM"):
            await engine.results([job, job], timeout=10)


async def test_a_defect_ends_the_waits_with_its_error(namespace: str) -> None:
    broker = Watched()
    async with Engine(broker, namespace) as engine:
        job = await echo_task(engine).schedule(1)
        broker.fault = ZeroDivisionError("a defect")
        with pytest.raises(ZeroDivisionError):
            await engine.result(job, timeout=10)
        broker.fault = None
        await engine.start_workers(1, block=False)
        assert await engine.result(job, timeout=10) == 1


async def test_a_message_that_comes_before_the_answer_of_the_read_is_not_lost(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job ends after the store has answered the read, and the message is faster than the answer."""
    monkeypatch.setattr(result_hub, "READ_EVERY", 1000.0)
    monkeypatch.setattr(result_hub, "READ_WITHIN", 1000.0)
    is_read, may_answer = asyncio.Event(), asyncio.Event()

    class Slow(Watched):
        async def look(self, queue: str, question: Question[Any]) -> Any:
            answer = await super().look(queue, question)
            if isinstance(question, LookResults) and not is_read.is_set():
                is_read.set()
                await may_answer.wait()
            return answer

    broker = Slow()
    async with Engine(broker, namespace) as engine:
        job = await echo_task(engine).schedule(1)
        wait = asyncio.create_task(engine.result(job, timeout=10))
        await is_read.wait()
        await engine.start_workers(1, stop_when_queue_empty=True)
        [hub] = hubs(engine)
        await until(lambda: job.id in hub._unread)
        may_answer.set()
        assert await wait == 1


class Late(MemorySubscription):
    """Subscribes, and ends, when its events allow it."""

    may_add = asyncio.Event()
    may_end = asyncio.Event()

    async def add(self, channels: Collection[str]) -> None:
        await self.may_add.wait()
        await super().add(channels)

    async def aclose(self) -> None:
        await self.may_end.wait()
        await super().aclose()


class LateBroker(Watched):
    def subscribe(self, queue: str) -> Subscription:
        self.subscriptions += 1
        return Late(self._channels, queue)


async def test_a_job_is_read_again_once_it_is_subscribed_to(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job ends between the first read and the confirmation of the subscription."""
    monkeypatch.setattr(result_hub, "READ_EVERY", 1000.0)
    monkeypatch.setattr(result_hub, "SUBSCRIBE_WITHIN", 0.01)
    monkeypatch.setattr(Late, "may_add", may_add := asyncio.Event())
    Late.may_end.set()
    broker = LateBroker()
    async with Engine(broker, namespace) as engine:
        job = await echo_task(engine).schedule(1)
        wait = asyncio.create_task(engine.result(job, timeout=10))
        await until(lambda: broker.reads)
        await engine.start_workers(1, stop_when_queue_empty=True)
        assert not wait.done()
        may_add.set()
        assert await wait == 1


async def test_a_wait_that_begins_while_others_are_subscribed_is_subscribed_too(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_hub, "READ_EVERY", 1000.0)
    monkeypatch.setattr(result_hub, "SUBSCRIBE_WITHIN", 1000.0)
    monkeypatch.setattr(Late, "may_add", may_add := asyncio.Event())
    Late.may_end.set()
    broker = LateBroker()
    async with Engine(broker, namespace) as engine:
        echo = echo_task(engine)
        jobs = [await echo.schedule(number) for number in range(2)]
        waits = [asyncio.create_task(engine.result(jobs[0], timeout=10))]
        await until(lambda: any(hub._adding for hub in hubs(engine)))
        waits.append(asyncio.create_task(engine.result(jobs[1], timeout=10)))
        await until(lambda: len(hubs(engine)[0]._waits) == 2)
        may_add.set()
        await until(lambda: sum(broker.reads) == 2)
        await engine.start_workers(1, block=False)
        assert await asyncio.gather(*waits) == [0, 1]
        assert broker.reads == [1, 1]


async def test_a_result_that_is_there_does_not_wait_for_the_subscription(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_hub, "SUBSCRIBE_WITHIN", 0.01)
    monkeypatch.setattr(Late, "may_add", asyncio.Event())
    Late.may_end.set()
    async with Engine(LateBroker(), namespace) as engine:
        job = await echo_task(engine).schedule(1)
        await engine.start_workers(1, stop_when_queue_empty=True)
        assert await engine.result(job, timeout=10) == 1
        await nothing_waits(engine)


async def test_a_wait_that_begins_while_the_subscription_ends_is_served(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Late, "may_end", may_end := asyncio.Event())
    monkeypatch.setattr(Late, "may_add", may_add := asyncio.Event())
    may_add.set()
    broker = LateBroker()
    async with Engine(broker, namespace) as engine:
        echo = echo_task(engine)
        await engine.start_workers(1, block=False)
        assert await engine.result(await echo.schedule(1), timeout=10) == 1
        wait = asyncio.create_task(engine.result(await echo.schedule(2), timeout=10))
        await until(lambda: hubs(engine)[0]._waits)
        may_end.set()
        assert await wait == 2
        assert broker.subscriptions == 3, "the worker has one, too"


async def test_many_waits_for_a_cancelled_job_all_learn_it(engine: Engine) -> None:
    job = await echo_task(engine).schedule(1)
    waits = [asyncio.create_task(engine.result(job, timeout=10)) for _ in range(5)]
    await until(lambda: any(hub._waits for hub in hubs(engine)))
    await engine.cancel(job)
    ends = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(end) for end in ends] == [ResultCancelled] * 5
    assert len({id(end) for end in ends}) == 5


async def test_errors_that_nobody_reads_are_not_logged_by_asyncio(broker: Broker, namespace: str) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with Engine(broker, namespace) as engine:
        echo = echo_task(engine)
        jobs = [await engine.schedule_at(echo, later(), number) for number in range(3)]
        waiting = asyncio.create_task(engine.results(jobs))
        await until(lambda: all(wait.is_read for wait in waits_of(engine)) and len(waits_of(engine)) == 3)
    with pytest.raises(BrokerUnavailable, match="was left"):
        await waiting
    del waiting
    gc.collect()
    await asyncio.sleep(0)
    assert reported == []


def waits_of(engine: Engine) -> list[result_hub.Wait]:
    return [wait for hub in hubs(engine) for waits in hub._waits.values() for wait in waits]
