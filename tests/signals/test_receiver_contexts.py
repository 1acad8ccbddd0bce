"""Receivers run in the sender's contextvars context, and a cancelled sender waits for them."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from aiospinach import Engine, Job, current_job, signals
from aiospinach.signals import SafeNamedSignal

user: ContextVar[str] = ContextVar("user", default="nobody")
token: ContextVar[contextvars.Token[str]] = ContextVar("token")


@pytest.fixture
def signal() -> SafeNamedSignal:
    return SafeNamedSignal("news")


def in_each_way(function: Callable[..., None]) -> dict[str, Callable[..., Any]]:
    """The same receiver as a plain function, as an async one, and as an async one that yields first."""

    async def at_once(*args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)

    async def later(*args: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        function(*args, **kwargs)

    return {"sync": function, "async": at_once, "later": later}


@pytest.mark.parametrize("resets", ["sync", "async", "later"])
@pytest.mark.parametrize("sets", ["sync", "async", "later"])
async def test_a_context_variable_set_in_job_started_is_visible_until_job_finished(
    engine: Engine, sets: str, resets: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: dict[str, str] = {}
    after: list[str] = []

    def started(namespace: str, job: Job, **kwargs: Any) -> None:
        token.set(user.set(f"user of {job.id}"))

    def finished(namespace: str, job: Job, **kwargs: Any) -> None:
        assert user.get() == f"user of {job.id}"
        user.reset(token.get())
        after.append(user.get())

    signals.job_started.connect(in_each_way(started)[sets])
    signals.job_finished.connect(in_each_way(finished)[resets])

    @engine.task
    async def asynchronous() -> None:
        job = current_job()
        assert job is not None
        seen[job.id] = user.get()

    @engine.task
    def plain() -> None:
        job = current_job()
        assert job is not None
        seen[job.id] = user.get()

    @engine.task(max_retries=1, backoff=lambda attempt: 0)
    async def failing() -> None:
        raise ValueError("wrong")

    jobs = [await task.schedule() for task in (asynchronous, plain, asynchronous, plain)]
    await failing.schedule()
    await engine.start_workers(2, stop_when_queue_empty=True)
    assert seen == {job.id: f"user of {job.id}" for job in jobs}
    assert after == ["nobody"] * 6
    assert user.get() == "nobody"
    assert [r for r in caplog.records if r.name == "aiospinach.signals"] == []


async def test_receivers_of_one_dispatch_share_the_context(engine: Engine) -> None:
    second_is_set = asyncio.Event()
    seen: list[str] = []

    @signals.job_started.connect
    async def one(namespace: str, **kwargs: Any) -> None:
        await second_is_set.wait()
        seen.append(user.get())

    @signals.job_started.connect
    async def two(namespace: str, **kwargs: Any) -> None:
        user.set("two")
        second_is_set.set()

    @engine.task
    async def body() -> None:
        seen.append(user.get())

    await body.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert seen == ["two", "two"]


async def test_jobs_do_not_see_each_others_contexts(engine: Engine) -> None:
    seen: list[str] = []

    @signals.job_started.connect
    async def receiver(namespace: str, **kwargs: Any) -> None:
        seen.append(user.get())
        user.set("a job")

    @engine.task
    async def body() -> None:
        seen.append(user.get())

    for _ in range(3):
        await body.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert seen == ["nobody", "a job"] * 3


@pytest.mark.parametrize("kind", ["sync", "async", "later"])
async def test_an_execution_shares_its_context_with_receivers_where_python_allows(
    engine: Engine, kind: str
) -> None:
    def receiver(namespace: str, **kwargs: Any) -> None:
        user.set(kind)

    signals.job_started.connect(in_each_way(receiver)[kind])

    @engine.task
    async def body() -> str:
        return user.get()

    is_shared = kind == "sync" or sys.version_info >= (3, 12)
    assert await asyncio.create_task(engine.execute(body)) == (kind if is_shared else "nobody")
    assert user.get() == "nobody"


async def test_an_application_signal_sent_in_a_job_shares_the_context_of_the_job(
    engine: Engine, signal: SafeNamedSignal
) -> None:
    seen: list[object] = []

    @signal.connect
    async def receiver(sender: object, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        seen.append(current_job())
        user.set("the receiver")

    @engine.task
    async def body() -> None:
        await signal.send_async("shop")
        seen.append(user.get())

    @signals.job_finished.connect
    async def finished(namespace: str, **kwargs: Any) -> None:
        seen.append(user.get())

    job = await body.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert seen == [job, "the receiver", "the receiver"]


async def test_an_application_signal_sent_in_a_child_task_does_not_change_the_context_of_the_job(
    engine: Engine, signal: SafeNamedSignal, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    @signal.connect
    async def receiver(sender: object, **kwargs: Any) -> None:
        user.set("the receiver")

    async def child() -> None:
        await signal.send_async("shop")
        seen.append(user.get())

    @engine.task
    async def body() -> None:
        user.set("the body")
        await asyncio.create_task(child())
        seen.append(user.get())

    await body.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    expected = "the receiver" if sys.version_info >= (3, 12) else "the body"
    assert seen == [expected, "the body"]
    assert not caplog.records


async def test_an_application_signal_shares_the_context_of_its_task_where_python_allows(
    signal: SafeNamedSignal,
) -> None:
    @signal.connect
    async def receiver(sender: object, **kwargs: Any) -> str:
        seen = user.get()
        user.set("the receiver")
        return seen

    async def sender() -> str:
        user.set("the sender")
        assert await signal.send_async("shop") == [(receiver, "the sender")]
        return user.get()

    expected = "the receiver" if sys.version_info >= (3, 12) else "the sender"
    assert await asyncio.create_task(sender()) == expected


async def test_every_sender_sees_a_context_variable_set_by_a_plain_receiver(signal: SafeNamedSignal) -> None:
    signal.connect(lambda sender, **kwargs: user.set("the receiver"))

    async def asynchronous() -> str:
        await signal.send_async("shop")
        return user.get()

    async def synchronous() -> str:
        signal.send("shop")
        return user.get()

    assert await asyncio.create_task(asynchronous()) == "the receiver"
    assert await asyncio.create_task(synchronous()) == "the receiver"
    assert user.get() == "nobody"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
async def test_a_dispatch_works_under_an_eager_task_factory(signal: SafeNamedSignal) -> None:
    def eager(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=loop, **{**kwargs, "eager_start": True})

    @signal.connect
    async def receiver(sender: object, **kwargs: Any) -> None:
        user.set("the receiver")

    async def sender() -> str:
        assert await signal.send_async("shop") == [(receiver, None)]
        return user.get()

    asyncio.get_running_loop().set_task_factory(eager)
    try:
        assert await asyncio.create_task(sender()) == "the receiver"
    finally:
        asyncio.get_running_loop().set_task_factory(None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
async def test_jobs_and_their_receivers_work_under_the_eager_task_factory(
    engine: Engine, signal: SafeNamedSignal, caplog: pytest.LogCaptureFixture
) -> None:
    if type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
        pytest.skip("uvloop gives Python 3.13.0's factory an argument that it does not take")
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    seen: list[str] = []

    @signals.job_started.connect
    @signal.connect
    async def receiver(sender: object, **kwargs: Any) -> None:
        seen.append(user.get())
        user.set(user.get() + "!")

    @engine.task
    async def body() -> None:
        await signal.send_async("shop")
        await asyncio.create_task(signal.send_async("shop"))
        seen.append(user.get())

    await body.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert seen == ["nobody", "nobody!", "nobody!!", "nobody!!"]
    assert not caplog.records


@pytest.mark.parametrize("kind", ["sync", "async", "later"])
async def test_current_job_works_in_the_receivers_of_a_run(engine: Engine, kind: str) -> None:
    seen: list[object] = []

    def receiver(namespace: str, **kwargs: Any) -> None:
        seen.append(current_job())

    for signal in (signals.job_started, signals.job_schedule_retry, signals.job_failed, signals.job_finished):
        signal.connect(in_each_way(receiver)[kind])

    @engine.task(max_retries=1, backoff=lambda attempt: 0)
    async def failing() -> None:
        raise ValueError("wrong")

    job = await failing.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert seen == [job] * 6


async def test_a_cancelled_sender_waits_for_the_receivers(
    signal: SafeNamedSignal, caplog: pytest.LogCaptureFixture
) -> None:
    begun, allowed = asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    @signal.connect
    async def receiver(sender: object, **kwargs: Any) -> None:
        begun.set()
        await allowed.wait()
        ended.append("in order")

    sending = asyncio.create_task(signal.send_async("shop"))
    await begun.wait()
    for _ in range(3):
        sending.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not sending.done()
    allowed.set()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert ended == ["in order"]
    assert not caplog.records


async def test_a_cancelled_sender_waits_for_receivers_until_their_timeout(
    signal: SafeNamedSignal, caplog: pytest.LogCaptureFixture
) -> None:
    signal.timeout = 0.1
    released = asyncio.Event()
    ended: list[str] = []

    @signal.connect
    async def hangs(sender: object, **kwargs: Any) -> None:
        try:
            await released.wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    @signal.connect
    async def ignores(sender: object, **kwargs: Any) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                ended.append("ignored")

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await signal.send_async("shop")
    assert 0.09 < time.monotonic() - began < 3
    assert sorted(ended) == ["cancelled", "ignored"]
    assert len(caplog.records) == 2
    released.set()


@pytest.mark.parametrize("turns", range(5))
def test_a_program_that_ends_during_a_dispatch_ends_at_once(
    signal: SafeNamedSignal, turns: int, recwarn: pytest.WarningsRecorder
) -> None:
    @signal.connect
    async def receiver(sender: object, **kwargs: Any) -> None:
        await asyncio.Event().wait()

    sendings: list[asyncio.Task[Any]] = []

    async def main() -> None:
        sendings.append(asyncio.create_task(signal.send_async("shop")))
        for _ in range(turns):
            await asyncio.sleep(0)

    began = time.monotonic()
    asyncio.run(main())  # asyncio.run cancels every task, also one that has not begun
    assert time.monotonic() - began < 3
    assert sendings[0].cancelled()
    assert [str(warning.message) for warning in recwarn] == []
