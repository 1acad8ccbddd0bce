"""Receivers that raise, hang, block or interfere do not affect jobs, on every broker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from aiospinach import Broker, Engine, JobStatus, current_job, signals
from aiospinach.exceptions import InvalidValue
from aiospinach.signals import SafeNamedSignal

from ..conftest import ALL_SIGNALS, Heard

QUEUE = "default"
MakeBroker = Callable[..., Broker]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "aiospinach.signals"]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong"),
        asyncio.CancelledError("own"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        Unprintable(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_receivers_that_raise_on_every_signal_affect_no_job(
    engine: Engine, heard: Heard, kind: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def sync(namespace: str, **kwargs: Any) -> None:
        raise error

    async def asynchronous(namespace: str, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        raise error

    for signal in ALL_SIGNALS:
        if signal is not signals.worker_started:  # an error of its receivers fails the start
            signal.connect(sync if kind == "sync" else asynchronous)

    @engine.task(max_retries=1, backoff=lambda attempt: 0)
    async def failing() -> None:
        raise LookupError("the body's own")

    @engine.task
    async def succeeding() -> int:
        return 7

    @engine.task
    async def cancelled() -> None:
        job = current_job()
        assert job is not None
        await engine.cancel(job)
        await asyncio.Event().wait()

    for task in (failing, succeeding, cancelled):
        await task.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    counts = {signal.name: heard.count(signal.name) for signal in ALL_SIGNALS}
    assert counts == {
        "job_scheduled": 3,
        "job_started": 4,
        "job_schedule_retry": 1,
        "job_failed": 1,
        "job_cancelled": 1,
        "job_finished": 4,
        "job_progress": 0,
        "task_unknown": 0,
        "worker_started": 1,
        "worker_terminated": 1,
    }
    finished = [kwargs["job"].status for name, kwargs in heard if name == "job_finished"]
    assert sorted(status.name for status in finished) == ["CANCELLED", "FAILED", "SUCCEEDED", "WAITING"]
    errors = [record for record in caplog.records if record.name == "aiospinach.signals"]
    assert len(errors) == sum(counts.values()) - counts["worker_started"]
    for record in errors:
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        assert record.exc_info[1] is error
        assert ("asynchronous" if kind == "async" else "sync") in record.getMessage()
        about_a_job = "signal job_" in record.getMessage()
        assert ("<Job " in record.getMessage()) is about_a_job
    error.__traceback__ = error.__context__ = None


@pytest.mark.parametrize(
    ("of_the_engine", "of_the_signal", "limit"),
    [(0.02, None, "0.02 s"), (60, 0.03, "0.03 s"), (timedelta(milliseconds=40), None, "0.04 s")],
)
async def test_a_hanging_receiver_is_cancelled_after_the_timeout_of_signal_or_engine(
    make_broker: MakeBroker,
    namespace: str,
    heard: Heard,
    of_the_engine: float | timedelta,
    of_the_signal: float | None,
    limit: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    signals.job_started.timeout = of_the_signal

    @signals.job_started.connect_via(namespace)
    async def hangs(namespace: str, **kwargs: Any) -> None:
        await asyncio.Event().wait()

    async with Engine(make_broker(), namespace, signal_timeout=of_the_engine) as engine:

        @engine.task
        async def body() -> int:
            return 7

        job = await body.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
    assert heard.last("job_finished")["result"] == 7
    [message] = logged(caplog)
    assert "signal job_started: receiver" in message
    assert f"hangs took longer than {limit} and was cancelled" in message
    assert job.id in message


async def test_the_timeout_of_the_signal_overrides_that_of_the_engine(
    make_broker: MakeBroker, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    signals.job_started.timeout = 30
    ended: list[bool] = []

    @signals.job_started.connect_via(namespace)
    async def slow(namespace: str, **kwargs: Any) -> None:
        await asyncio.sleep(0.1)
        ended.append(True)

    async with Engine(make_broker(), namespace, signal_timeout=0.01) as engine:

        @engine.task
        async def body() -> None:
            assert ended == [True]

        await body.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
    assert ended == [True]
    assert not caplog.records


async def test_the_timeout_of_the_engine_applies_to_signals_outside_of_jobs(
    make_broker: MakeBroker, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    for signal in (signals.job_scheduled, signals.job_cancelled, signals.job_started):

        @signal.connect_via(namespace)
        async def hangs(namespace: str, **kwargs: Any) -> None:
            await asyncio.Event().wait()

    async with Engine(make_broker(), namespace, signal_timeout=0.02) as engine:

        @engine.task
        async def body() -> int:
            return 7

        job = await body.schedule()
        assert await engine.cancel(job) is JobStatus.QUEUED
        assert await engine.execute(body) == 7
    messages = logged(caplog)
    assert len(messages) == 3
    for message in messages:
        assert "hangs took longer than 0.02 s" in message


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", None])
async def test_the_timeout_of_an_engine_is_a_positive_number_of_seconds(
    make_broker: MakeBroker, seconds: Any
) -> None:
    with pytest.raises(InvalidValue, match="signal_timeout"):
        Engine(make_broker(), signal_timeout=seconds)


async def test_a_receiver_that_ignores_its_cancellation_is_abandoned_and_the_job_runs(
    make_broker: MakeBroker, namespace: str, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    async def ignores(namespace: str, **kwargs: Any) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    for signal in ALL_SIGNALS:
        if signal is not signals.worker_started:  # the start waits for its receivers without a timeout
            signal.connect_via(namespace)(ignores)

    async with Engine(make_broker(), namespace, signal_timeout=0.01) as engine:

        @engine.task
        async def body() -> int:
            return 7

        job = await body.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
    assert heard.last("job_finished")["result"] == 7
    messages = logged(caplog)
    release.set()
    assert len(messages) == 4
    for message in messages:
        assert "ignores took longer than 0.01 s and ignores its cancellation and is left behind" in message
    assert sum(job.id in message for message in messages) == 3


async def test_a_blocking_receiver_is_logged_and_the_job_runs(
    engine: Engine, heard: Heard, receivers_are_slow: None, caplog: pytest.LogCaptureFixture
) -> None:
    @signals.job_started.connect_via(engine.namespace)
    def blocks(namespace: str, **kwargs: Any) -> None:
        time.sleep(0.11)

    @engine.task
    async def body() -> None:
        pass

    await body.schedule()
    await body.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    [message] = logged(caplog)
    assert "signal job_started: receiver" in message
    assert "blocks blocked the event loop for" in message
    assert heard.count("job_finished") == 2


async def test_a_slow_receiver_of_one_job_does_not_delay_other_jobs(engine: Engine) -> None:
    order: list[int] = []
    release = asyncio.Event()

    @signals.job_started.connect_via(engine.namespace)
    async def receiver(namespace: str, job: Any, **kwargs: Any) -> None:
        if job.args[0] == 0:
            await release.wait()

    @engine.task
    async def body(number: int) -> None:
        order.append(number)
        if number == 9:
            release.set()

    for number in range(10):
        await body.schedule(number)
    await engine.start_workers(2, stop_when_queue_empty=True)
    assert order == [*range(1, 10), 0]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_receiver_may_schedule_a_job(engine: Engine, heard: Heard, kind: str) -> None:
    scheduled: list[asyncio.Task[Any]] = []

    @engine.task
    async def first() -> None:
        pass

    @engine.task
    async def second(of: str) -> None:
        pass

    def sync(namespace: str, job: Any, **kwargs: Any) -> None:
        if job.task_name == first.name:
            scheduled.append(asyncio.get_running_loop().create_task(second.schedule(job.id)))

    async def asynchronous(namespace: str, job: Any, **kwargs: Any) -> None:
        if job.task_name == first.name:
            await second.schedule(job.id)

    for signal in (signals.job_scheduled, signals.job_started, signals.job_finished):
        signal.connect_via(engine.namespace)(sync if kind == "sync" else asynchronous)
    job = await first.schedule()
    await asyncio.gather(*scheduled)
    await engine.start_workers(1, stop_when_queue_empty=True)
    started = [kwargs["job"] for name, kwargs in heard if name == "job_started"]
    assert sorted(job.args for job in started) == [(), *[(job.id,)] * 3]
    assert heard.count("job_finished") == 4


async def test_receivers_may_connect_and_disconnect_others_while_jobs_run(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def make(number: int) -> Callable[..., Any]:
        async def receiver(namespace: str, **kwargs: Any) -> None:
            calls.append(number)
            signals.job_finished.disconnect(receiver)
            signals.job_finished.connect(make(number + 1))

        return receiver

    @engine.task
    async def body() -> None:
        pass

    signals.job_finished.connect(make(0))
    for _ in range(20):
        await body.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert calls[0] == 0
    assert set(calls) == set(range(max(calls) + 1))
    assert len(calls) == 20
    assert not caplog.records


async def test_a_receiver_that_cancels_other_tasks_harms_no_job(engine: Engine, heard: Heard) -> None:
    cancelled: list[str] = []

    @signals.job_started.connect_via(engine.namespace)
    async def receiver(namespace: str, **kwargs: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            cancelled.append(namespace)
            raise

    @engine.task
    async def body() -> int:
        return 7

    await body.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert cancelled == [engine.namespace]
    assert heard.last("job_finished")["result"] == 7


async def test_a_muted_signal_is_not_sent_by_the_engine(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def body() -> None:
        pass

    with signals.job_started.muted(), signals.worker_started.muted():
        await body.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
    assert heard.names() == ["job_scheduled", "job_finished", "worker_terminated"]


@pytest.mark.parametrize("signal", ALL_SIGNALS, ids=lambda signal: signal.name)
def test_every_signal_is_public_and_documents_its_keywords(signal: SafeNamedSignal) -> None:
    assert getattr(signals, signal.name) is signal
    assert signal.name in signals.__all__
    assert signal.__doc__
    assert "Keyword" in signal.__doc__
