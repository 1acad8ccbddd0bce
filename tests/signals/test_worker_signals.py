"""Signals of the workers, and receivers that stop the workers, on every broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from aiospinach import Broker, BrokerUnavailable, Engine, JobStatus, current_job, progress, signals
from aiospinach.brokers.records import Envelope
from aiospinach.signals import SafeNamedSignal

from ..asking import counts
from ..conftest import ALL_SIGNALS, Heard
from ..waiting import until

QUEUE = "default"
MakeBroker = Callable[..., Broker]


async def test_a_pool_starts_once_and_terminates_once_under_one_name(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def body() -> None:
        pass

    for _ in range(20):
        await body.schedule()
    await engine.start_workers(5, stop_when_queue_empty=True)
    assert heard.count("worker_started") == heard.count("worker_terminated") == 1
    name = heard.last("worker_started")["worker_name"]
    assert isinstance(name, str)
    assert name
    assert heard.last("worker_terminated") == {"worker_name": name}
    assert heard.names().index("worker_started") == 20
    assert heard.names()[-1] == "worker_terminated"


async def test_every_pool_has_a_unique_name(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def body() -> None:
        pass

    for _ in range(2):
        await engine.start_workers(block=False)
        await engine.stop_workers()
    assert heard.names() == ["worker_started", "worker_terminated"] * 2
    assert len({kwargs["worker_name"] for _, kwargs in heard}) == 2


async def test_workers_fetch_after_the_receivers_of_worker_started_have_ended(
    engine: Engine, broker: Broker
) -> None:
    seen: list[int] = []

    @signals.worker_started.connect_via(engine.namespace)
    async def receiver(namespace: str, **kwargs: Any) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        seen.append((await counts(broker, QUEUE)).ready)

    @engine.task
    async def body() -> None:
        seen.append(-1)

    await body.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert seen == [1, -1]


async def test_no_worker_started_is_sent_if_the_start_fails(
    engine: Engine, broker: Broker, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: Any) -> None:
        raise BrokerUnavailable("gone")

    @engine.task
    async def body() -> None:
        pass

    monkeypatch.setattr(broker, "register", away)
    with pytest.raises(BrokerUnavailable):
        await engine.start_workers(block=False)
    monkeypatch.undo()
    assert heard == []


async def test_worker_terminated_is_sent_after_the_drain(engine: Engine, broker: Broker) -> None:
    seen: list[str] = []
    begun, allowed = asyncio.Event(), asyncio.Event()

    @signals.job_finished.connect_via(engine.namespace)
    async def finished(namespace: str, **kwargs: Any) -> None:
        await asyncio.sleep(0.02)
        seen.append("finished")

    @signals.worker_terminated.connect_via(engine.namespace)
    async def terminated(namespace: str, **kwargs: Any) -> None:
        assert (await counts(broker, QUEUE)).running == 0
        seen.append("terminated")

    @engine.task
    async def body() -> None:
        begun.set()
        await allowed.wait()
        seen.append("body")

    await body.schedule()
    await engine.start_workers(block=False)
    await begun.wait()
    stopping = asyncio.create_task(engine.stop_workers())
    await asyncio.sleep(0)
    assert seen == []
    allowed.set()
    await stopping
    assert seen == ["body", "finished", "terminated"]


async def test_nothing_is_sent_after_worker_terminated(engine: Engine, heard: Heard) -> None:
    late: list[str] = []
    terminated = asyncio.Event()

    @engine.task(periodicity=timedelta(milliseconds=100))
    async def tick() -> None:
        pass

    def listen(signal: SafeNamedSignal) -> None:
        @signal.connect_via(engine.namespace)
        async def receiver(namespace: str, **kwargs: Any) -> None:
            if terminated.is_set():
                late.append(f"{signal.name} was sent")
            await asyncio.sleep(0.25)
            if terminated.is_set():
                late.append(f"{signal.name} was still being received")

    for signal in ALL_SIGNALS:
        if signal is not signals.worker_terminated:
            listen(signal)

    @signals.worker_terminated.connect_via(engine.namespace)
    def end(namespace: str, **kwargs: Any) -> None:
        terminated.set()

    await engine.start_workers(block=False)
    await until(lambda: heard.count("job_scheduled") >= 3)
    await engine.stop_workers()
    assert heard.names()[-1] == "worker_terminated"
    await asyncio.sleep(0.3)  # three periods, longer than any receiver takes
    assert late == []
    assert heard.names()[-1] == "worker_terminated"


async def test_a_stop_during_worker_started_sends_worker_terminated_after_it(
    engine: Engine, heard: Heard
) -> None:
    begun = asyncio.Event()

    @engine.task
    async def body() -> None:
        pass

    @signals.worker_started.connect_via(engine.namespace)
    async def receiver(namespace: str, **kwargs: Any) -> None:
        begun.set()
        await asyncio.sleep(0.02)

    starting = asyncio.create_task(engine.start_workers())
    await begun.wait()
    await engine.stop_workers()
    await starting
    assert heard.names() == ["worker_started", "worker_terminated"]


async def test_a_hanging_receiver_of_worker_terminated_delays_the_end_until_its_timeout(
    make_broker: MakeBroker, namespace: str, heard: Heard
) -> None:
    ran: list[bool] = []
    async with Engine(make_broker(), namespace, signal_timeout=0.02) as engine:

        @engine.task
        async def body() -> None:
            ran.append(True)

        @signals.worker_terminated.connect_via(namespace)
        async def receiver(namespace: str, **kwargs: Any) -> None:
            await asyncio.Event().wait()

        await body.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
    assert ran == [True]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("signal", ALL_SIGNALS, ids=lambda signal: signal.name)
async def test_a_receiver_of_any_signal_may_stop_the_workers(
    engine: Engine, heard: Heard, signal: SafeNamedSignal, kind: str
) -> None:
    stops: list[asyncio.Task[None]] = []
    called = asyncio.Event()

    def sync(namespace: str, **kwargs: Any) -> None:
        called.set()
        stops.append(asyncio.get_running_loop().create_task(engine.stop_workers()))

    async def asynchronous(namespace: str, **kwargs: Any) -> None:
        called.set()
        await engine.stop_workers()

    @engine.task(max_retries=1, backoff=lambda attempt: 0)
    async def failing() -> None:
        raise ValueError("wrong")

    @engine.task
    async def scheduling() -> None:
        await failing.schedule()

    @engine.task
    async def cancelled() -> None:
        progress(1)
        job = current_job()
        assert job is not None
        assert await engine.cancel(job) is JobStatus.RUNNING
        await asyncio.Event().wait()

    if signal is signals.task_unknown:
        await engine._broker.enqueue("default", [Envelope("a", "unknown", b"[[],{}]")])
    for task in (scheduling, cancelled):
        await task.schedule()
    signal.connect_via(engine.namespace)(sync if kind == "sync" else asynchronous)
    is_last = signal is signals.worker_terminated
    async with asyncio.timeout(10):
        await engine.start_workers(3, stop_when_queue_empty=is_last)
        await asyncio.gather(*stops)
    assert called.is_set()
    assert heard.count("worker_started") == heard.count("worker_terminated") == 1
    assert heard.names()[-1] == "worker_terminated"
    assert heard.count("job_started") == heard.count("job_finished")
    await engine.start_workers(block=False)
    await engine.stop_workers()
    assert heard.count("worker_terminated") == 2


async def test_a_receiver_outside_of_the_workers_waits_until_they_have_stopped(
    engine: Engine, heard: Heard
) -> None:
    seen: list[int] = []

    @engine.task
    async def body() -> None:
        pass

    @signals.job_scheduled.connect_via(engine.namespace)
    async def receiver(namespace: str, **kwargs: Any) -> None:
        await engine.stop_workers()
        seen.append(heard.count("worker_terminated"))

    await engine.start_workers(block=False)
    async with asyncio.timeout(10):
        await body.schedule()
    assert seen == [1]


async def test_workers_of_two_engines_send_their_own_namespace(
    make_broker: MakeBroker, namespace: str, heard: Heard
) -> None:
    @signals.worker_started.connect
    @signals.worker_terminated.connect
    async def receiver(sender: str, **kwargs: Any) -> None:
        senders.append(sender)

    senders: list[str] = []
    other = f"{namespace}-other"
    async with Engine(make_broker(), namespace) as one, Engine(make_broker(), other) as two:
        for engine in (one, two):

            @engine.task
            async def body() -> None:
                pass

            await engine.start_workers(block=False)
        await one.stop_workers()
        await two.stop_workers()
    assert senders == [namespace, other, namespace, other]
    assert heard.names() == ["worker_started", "worker_terminated"]
