"""Pausing tasks and queues through an engine, on every broker."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import (
    Broker,
    Engine,
    InvalidValue,
    MemoryBroker,
    Pause,
    RetryException,
    Tasks,
    UnknownQueue,
    UnknownTask,
    WouldBlock,
    signals,
)

from .brokers_under_test import BROKERS, MakeBroker
from .waiting import until


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    """An engine on every broker."""
    make: MakeBroker = request.param
    broker: Broker = make()
    async with Engine(broker, namespace) as engine:
        yield engine


class Steps:
    """Two tasks of one queue, which note what they run."""

    def __init__(self, engine: Engine) -> None:
        self.ran: list[str] = []

        @engine.task(name="send", queue="mail")
        async def send(what: str) -> None:
            self.ran.append(what)

        @engine.task(name="other", queue="mail")
        async def other(what: str) -> None:
            self.ran.append(what)

        self.send, self.other = send, other


async def test_a_paused_task_runs_no_job_until_it_is_resumed(engine: Engine) -> None:
    steps = Steps(engine)
    await engine.pause(steps.send, reason="provider is down")
    for what in ("a", "b", "c"):
        await steps.send.schedule(what)
    await steps.other.schedule("x")
    await engine.start_workers(1, block=False)
    await until(lambda: steps.ran == ["x"])
    await steps.other.schedule("y")
    await until(lambda: steps.ran == ["x", "y"])
    assert await engine.resume("send")
    await until(lambda: steps.ran == ["x", "y", "a", "b", "c"])
    assert not await engine.resume(steps.send)
    await engine.stop_workers()


async def test_a_paused_queue_runs_no_job_until_the_pause_ends(engine: Engine) -> None:
    steps = Steps(engine)
    await engine.start_workers(block=False)
    await engine.pause(queue="mail", for_=timedelta(milliseconds=300))
    [pause] = await engine.pauses()
    assert pause.until is not None
    for what in "abcd":
        await steps.send.schedule(what)
    await until(lambda: len(steps.ran) == 4)
    assert datetime.now(UTC) >= pause.until - timedelta(milliseconds=2)
    assert steps.ran == list("abcd")
    assert await engine.pauses() == []
    await engine.stop_workers()


async def test_a_pause_outlives_workers(engine: Engine) -> None:
    steps = Steps(engine)
    await engine.start_workers(block=False)
    await engine.pause(steps.send)
    await engine.stop_workers()
    await steps.send.schedule("a")
    await engine.start_workers(block=False)
    await steps.other.schedule("x")
    await until(lambda: steps.ran == ["x"])
    await engine.stop_workers()
    assert (await engine.counts())["mail"].ready == 1


async def test_pauses_are_listed(engine: Engine) -> None:
    steps = Steps(engine)
    before = datetime.now(UTC) - timedelta(seconds=1)
    await engine.pause(steps.send, for_=600, reason="429, they said")
    await engine.pause(queue="mail")
    await engine.pause("gone", queue="mail", for_=0.001)
    await asyncio.sleep(0.002)
    whole, one = await engine.pauses()
    by = f"{socket.gethostname()}-{os.getpid()}"
    assert whole == Pause(queue="mail", task=None, since=whole.since, until=None, by=by, reason="")
    assert (one.queue, one.task, one.by, one.reason) == ("mail", "send", by, "429, they said")
    assert before <= one.since <= datetime.now(UTC) + timedelta(seconds=1)
    assert one.until is not None
    assert timedelta(seconds=598) < one.until - one.since < timedelta(seconds=602)
    counts = (await engine.counts(queue="mail"))["mail"]
    assert counts.paused
    assert tuple(counts.paused_tasks) == ("send",)
    assert await engine.pauses(queue="mail") == [whole, one]


async def test_a_pause_names_one_thing(engine: Engine) -> None:
    steps = Steps(engine)
    strange = Tasks()

    @strange.task(name="strange")
    async def stranger() -> None: ...

    attempts: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (None, {}, InvalidValue, "a task, or the name of one, or queue="),
        (steps.send, {"queue": "mail"}, InvalidValue, "not both: task 'send' is of queue 'mail'"),
        ("send", {"queue": "other"}, InvalidValue, "not both"),
        ("unknown", {}, UnknownTask, "add queue="),
        (stranger, {"queue": "mail"}, UnknownTask, "strange"),
        (None, {"queue": "web"}, UnknownQueue, "web"),
        ("unknown", {"queue": "web"}, UnknownQueue, "web"),
        ("a b", {"queue": "mail"}, InvalidValue, "task name"),
        (5, {}, InvalidValue, "int"),
    ]
    for task, where, error, named in attempts:
        for call in (engine.pause, engine.resume):
            with pytest.raises(error, match=named):
                await call(task, **where)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"for_": 0}, "pause\\(for_=\\)"),
        ({"for_": "10"}, "pause\\(for_=\\) takes seconds or a timedelta, not str"),
        ({"for_": True}, "bool"),
        ({"for_": -1.0}, "at least"),
        ({"reason": 5}, "pause\\(reason=\\) must be text, not int"),
        ({"reason": "x" * 201}, "1 to 200"),
        ({"reason": "\ud800"}, "surrogate"),
    ]
    for keywords, named in wrong:
        with pytest.raises(InvalidValue, match=named):
            await engine.pause(steps.send, **keywords)
    assert await engine.pauses() == []
    with pytest.raises(UnknownQueue):
        await engine.pauses(queue="web")


async def test_a_pause_of_centuries_is_stored(engine: Engine) -> None:
    steps = Steps(engine)
    await engine.pause(steps.send, for_=1e12)
    [pause] = await engine.pauses()
    assert pause.until is not None
    assert pause.until.year == 9998


async def test_the_ticks_of_a_paused_task_are_skipped(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []

    @engine.task(name="often", queue="mail", periodicity=timedelta(milliseconds=100))
    async def often() -> None:
        ran.append("often")

    caplog.set_level(logging.DEBUG, "aiospinach")
    await engine.pause(often)
    await engine.start_workers(block=False)
    await until(lambda: caplog.text.count("since the task or its queue is paused") >= 3)
    assert ran == []
    await engine.resume(often)
    await until(lambda: bool(ran))
    await engine.stop_workers()
    assert len(ran) < 3 or "often: a tick is skipped" not in caplog.text


@pytest.mark.parametrize("tries", [0, 3])
async def test_a_job_pauses_its_task(engine: Engine, tries: int, caplog: pytest.LogCaptureFixture) -> None:
    """Of 50 jobs at once, each gets one answer of the provider at most until the pause ends."""
    calls: list[float] = []
    free_at = asyncio.get_running_loop().time() + 3600
    loop = asyncio.get_running_loop()
    caplog.set_level(logging.INFO, "aiospinach")

    @engine.task(queue="mail", max_retries=tries)
    async def ask(number: int) -> None:
        calls.append(loop.time())
        await asyncio.sleep(0)
        if loop.time() < free_at:
            raise RetryException("429", at=timedelta(hours=1), pause=True)

    @engine.task(queue="mail")
    async def other() -> None:
        calls.append(0)

    for number in range(120):
        await ask.schedule(number)
    await engine.start_workers(50, block=False)
    await until(lambda: len(calls) >= 1)
    await other.schedule()
    await until(lambda: 0 in calls)
    assert len(calls) - 1 <= 50
    [pause] = await engine.pauses()
    assert pause.task == ask.name
    assert pause.reason == "RetryException: 429"
    assert pause.until is not None
    assert pause.by.startswith(socket.gethostname())
    assert f"task {ask.name}: paused for 3600.0 s" in caplog.text
    free_at, failed = 0, len(calls) - 1
    assert await engine.resume(ask)
    rest = 120 if tries else 120 - failed
    await until(lambda: len(calls) == failed + 1 + rest)
    await engine.stop_workers()
    assert (await engine.counts())["mail"].dead == (0 if tries else failed)


async def test_the_job_that_pauses_its_task_is_first_again(engine: Engine) -> None:
    ran: list[tuple[str, int]] = []

    @engine.task(queue="mail", max_retries=1, backoff=lambda attempt: 0.2)
    async def ask(what: str) -> None:
        if not ran:
            ran.append(("429", 0))
            raise RetryException("429", pause=True)
        ran.append((what, 0))

    for what in "abc":
        await ask.schedule(what)
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert [what for what, _ in ran] == ["429", "a", "b", "c"]


async def test_an_error_that_is_left_out_is_no_reason(namespace: str) -> None:
    async with Engine(MemoryBroker(), namespace, leave_out="messages") as engine:

        @engine.task
        async def ask() -> None:
            raise RetryException("secret", at=timedelta(hours=1), pause=True)

        await ask.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
        [pause] = await engine.pauses()
        assert pause.reason == "RetryException"


async def test_an_idle_worker_of_a_paused_queue_makes_few_calls(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanges = 0
    exchange = MemoryBroker.exchange

    async def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal exchanges
        exchanges += 1
        return await exchange(*args, **kwargs)

    monkeypatch.setattr(MemoryBroker, "exchange", counting)
    async with Engine(MemoryBroker(lease=1.2), namespace) as engine:  # it sweeps every 0.1 s
        steps = Steps(engine)
        await engine.pause(queue="mail")
        for what in "abc":
            await steps.send.schedule(what)
        await engine.start_workers(block=False)
        await asyncio.sleep(0.3)
        assert exchanges <= 12
        await engine.stop_workers()
    assert steps.ran == []


def test_a_plain_program_pauses(namespace: str) -> None:
    engine = Engine(MemoryBroker(), namespace)
    steps = Steps(engine)
    with engine.blocking as blocking:
        blocking.pause(steps.send, for_=60, reason="why")
        blocking.pause(queue="mail")
        assert blocking.resume(queue="mail")
        assert blocking.resume(steps.send)
        assert not blocking.resume(steps.send)


async def test_a_pause_would_block_a_loop(engine: Engine) -> None:
    for call in (engine.blocking.pause, engine.blocking.resume):
        with pytest.raises(WouldBlock):
            call("send")


async def test_the_signal_of_a_pausing_job_is_that_of_a_retry(engine: Engine) -> None:
    retried: list[Any] = []
    signals.job_schedule_retry.connect(
        lambda namespace, job, **_: retried.append(job), engine.namespace, weak=False
    )

    @engine.task(queue="mail", max_retries=1)
    async def ask() -> None:
        raise RetryException("429", at=timedelta(hours=1), pause=True)

    await ask.schedule()
    await engine.start_workers(block=False)
    await until(lambda: bool(retried))
    assert retried[0].retries == 1
    await engine.stop_workers()
