"""``engine.blocking``: the calls of an engine from threads without an event loop."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import pytest

from aiospinach import (
    AiospinachError,
    Batch,
    BatchPartlyStored,
    Blocking,
    Broker,
    BrokerError,
    BrokerUnavailable,
    Engine,
    EnqueueUncertain,
    InvalidArguments,
    InvalidValue,
    Job,
    JobStatus,
    MemoryBroker,
    RedisBroker,
    UnknownTask,
    WouldBlock,
    current_job,
    signals,
)
from aiospinach.brokers.questions import Counts
from aiospinach.workers import listener

from .asking import counts
from .brokers_under_test import BROKERS, MakeBroker, shared_server
from .conftest import Heard
from .servers import Server, free_port
from .waiting import until

NAME = "aiospinach-blocking"
LATER = datetime(2100, 1, 1, tzinfo=UTC)
request_id: ContextVar[str] = ContextVar("request_id", default="none")


@pytest.fixture(params=BROKERS)
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    make: MakeBroker = request.param
    return make


@pytest.fixture
def engine(make_broker: MakeBroker, namespace: str) -> Iterator[Engine]:
    engine = Engine(make_broker(), namespace)

    @engine.task(name="send")
    async def send(to: str, *, subject: str = "") -> None: ...

    with engine.blocking:
        yield engine


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def stored(engine: Engine, queue: str = "default") -> Counts:
    async def look() -> Counts:
        await engine._broker.open(engine.namespace)
        try:
            return await counts(engine._broker, queue)
        finally:
            await engine._broker.aclose()

    return asyncio.run(look())


def in_thread(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


# What the calls do.


def test_each_call_does_what_its_awaitable_twin_does(engine: Engine) -> None:
    job = engine.blocking.schedule("send", "ann", subject="hello")
    assert (job.args, job.kwargs, job.status) == (("ann",), {"subject": "hello"}, JobStatus.QUEUED)
    late = engine.blocking.schedule_at("send", LATER, "ann")
    assert (late.at, late.status) == (LATER, JobStatus.WAITING)
    jobs = engine.blocking.schedule_batch(Batch().schedule("send", "a").schedule("send", "b"))
    assert [job.args for job in jobs] == [("a",), ("b",)]
    assert engine.blocking.cancel(job) is JobStatus.QUEUED
    assert engine.blocking.cancel(late.id, queue="default") is JobStatus.WAITING
    assert engine.blocking.cancel(late.id) is JobStatus.NOT_SET
    assert stored(engine) == Counts(ready=2, running=0, waiting=0, dead=0)


def test_arguments_may_have_the_names_of_parameters_inside(engine: Engine) -> None:
    @engine.task
    async def odd(self: int, task: int, function: int, engine: int, at: int) -> None: ...

    named = {"self": 1, "task": 2, "function": 3, "engine": 4, "at": 5}
    assert engine.blocking.schedule(odd, **named).kwargs == named
    assert engine.blocking.schedule_at(odd, LATER, **named).kwargs == named


def test_errors_are_those_of_the_awaitable_twin(engine: Engine) -> None:
    with pytest.raises(InvalidArguments, match="'unknown'"):
        engine.blocking.schedule("send", "ann", unknown=1)
    with pytest.raises(UnknownTask, match="'sent'"):
        engine.blocking.schedule("sent", "ann")
    with pytest.raises(InvalidValue, match=r"schedule_at\(\)"):
        engine.blocking.schedule_at("send", "tomorrow", "ann")  # type: ignore[call-overload]
    with pytest.raises(InvalidValue, match="takes a Batch, not list"):
        engine.blocking.schedule_batch([])  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="enqueue_timeout"):
        engine.blocking.schedule_batch(Batch(), enqueue_timeout=-1)
    with pytest.raises(InvalidValue, match="takes an EnqueueUncertain, not ValueError"):
        engine.blocking.retry(ValueError())  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="job id"):
        engine.blocking.cancel(7)  # type: ignore[arg-type]
    assert stored(engine) == Counts(ready=0, running=0, waiting=0, dead=0)


def test_a_broker_that_is_away_is_an_error_and_the_next_call_tries_again(namespace: str) -> None:
    engine = Engine(RedisBroker(f"redis://127.0.0.1:{free_port()}", enqueue_timeout=0.05), namespace)
    engine.task(name="send")(lambda: None)
    with engine.blocking:
        for _ in range(2):
            with pytest.raises(BrokerUnavailable):
                engine.blocking.schedule("send")
            with pytest.raises(BrokerUnavailable):
                engine.blocking.cancel("some-id")


def test_a_partly_stored_batch_names_its_jobs(namespace: str) -> None:
    class Broken(MemoryBroker):
        async def enqueue(self, queue: str, *args: Any, **kwargs: Any) -> list[bool]:
            if queue == "second":
                raise BrokerUnavailable("away")
            return await super().enqueue(queue, *args, **kwargs)

    engine = Engine(Broken(), namespace)
    engine.task(name="one", queue="first")(lambda: None)
    engine.task(name="two", queue="second")(lambda: None)
    with engine.blocking, pytest.raises(BatchPartlyStored) as caught:
        engine.blocking.schedule_batch(Batch().schedule("one").schedule("two"))
    assert [job.task_name for job in caught.value.stored] == ["one"]


# Threads.


@pytest.mark.parametrize("make_broker", BROKERS)
def test_many_threads_store_as_many_jobs_as_they_make_calls(engine: Engine) -> None:
    ids: list[str] = []

    def schedule() -> None:
        ids.extend(engine.blocking.schedule("send", str(number)).id for number in range(20))

    callers = [in_thread(schedule) for _ in range(32)]
    for caller in callers:
        caller.join()
    assert len(threads()) == 1
    assert len(set(ids)) == 640
    assert stored(engine).ready == 640


async def test_a_job_scheduled_in_a_thread_wakes_the_workers_of_another_loop(
    make_broker: MakeBroker, namespace: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LISTEN_FOR", 1000.0)

    class Patient(type(make_broker())):  # type: ignore[misc]
        tick_period = 1000.0  # a worker that is not woken finds nothing while this test runs

    broker: Broker = Patient() if make_broker is MemoryBroker else Patient(shared_server().unix_url)
    async with Engine(broker, namespace) as engine:
        ran: list[int] = []

        @engine.task
        async def note(number: int) -> None:
            ran.append(number)

        await engine.start_workers(block=False)
        for number in range(3):
            await asyncio.to_thread(engine.blocking.schedule, note, number)
            await until(lambda: heard.count("job_finished") == number + 1, "the job ran")  # noqa: B023
        assert ran == [0, 1, 2]
        await asyncio.to_thread(engine.blocking.close)


async def test_a_plain_body_of_a_job_schedules_and_cancels(make_broker: MakeBroker, namespace: str) -> None:
    async with Engine(make_broker(), namespace) as engine:
        found: list[Any] = []

        @engine.task
        def parent() -> None:
            found.append(current_job())
            late = engine.blocking.schedule_at(child, LATER, 1)
            found.append(engine.blocking.cancel(late))
            engine.blocking.schedule(child, 2)

        @engine.task
        async def child(number: int) -> None:
            found.append(number)

        job = await parent.schedule()
        await engine.start_workers(stop_when_queue_empty=True)
        await asyncio.to_thread(engine.blocking.close)
    assert found == [job, JobStatus.WAITING, 2]


async def test_a_running_job_is_cancelled_from_a_thread(make_broker: MakeBroker, namespace: str) -> None:
    async with Engine(make_broker(), namespace) as engine:
        is_cancelled, is_running = asyncio.Event(), asyncio.Event()

        @engine.task
        async def wait() -> None:
            is_running.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                is_cancelled.set()
                raise

        await engine.start_workers(block=False)
        job = await wait.schedule()
        await is_running.wait()
        assert await asyncio.to_thread(engine.blocking.cancel, job) is JobStatus.RUNNING
        await is_cancelled.wait()
        await asyncio.to_thread(engine.blocking.close)


def test_a_plain_body_schedules_its_own_successor(make_broker: MakeBroker, namespace: str) -> None:
    engine = Engine(make_broker(), namespace)
    runs: list[int] = []

    @engine.task
    def again(number: int) -> None:
        runs.append(number)
        if number < 3:
            job = engine.blocking.schedule(again.options(id="same"), number + 1)
            assert job.status is JobStatus.QUEUED

    with engine.blocking:
        engine.blocking.schedule(again.options(id="same"), 1)
        asyncio.run(engine.start_workers(stop_when_queue_empty=True))
    assert runs == [1, 2, 3]


# Contexts.


def test_receivers_run_in_the_thread_of_the_calls_and_see_the_context_of_the_caller(
    engine: Engine, namespace: str
) -> None:
    seen: list[tuple[str, str]] = []

    @signals.job_scheduled.connect_via(namespace)
    async def note(sender: str, job: Job, **kwargs: Any) -> None:
        seen.append((request_id.get(), threading.current_thread().name))
        request_id.set("of the receiver")

    def schedule(name: str) -> None:
        request_id.set(name)
        engine.blocking.schedule("send", "ann")
        engine.blocking.schedule_batch(Batch().schedule("send", "ann"))
        assert request_id.get() == name

    for name in ("one", "two"):
        in_thread(lambda: schedule(name)).join()  # noqa: B023
    assert seen == [(name, NAME) for name in ("one", "one", "two", "two")]


def test_a_receiver_that_raises_harms_neither_this_call_nor_the_next(
    engine: Engine, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    @signals.job_scheduled.connect_via(namespace)
    def leave(sender: str, **kwargs: Any) -> None:
        raise SystemExit

    for _ in range(2):
        assert engine.blocking.schedule("send", "ann").status is JobStatus.QUEUED
    assert "raised SystemExit" in caplog.text


# Event loops.

CALLS: list[tuple[str, Callable[[Blocking], object]]] = [
    ("await engine.schedule(...)", lambda blocking: blocking.schedule("send", "ann")),
    ("await engine.schedule_at(...)", lambda blocking: blocking.schedule_at("send", LATER, "ann")),
    ("await engine.schedule_batch(batch)", lambda blocking: blocking.schedule_batch(Batch())),
    ("await engine.cancel(job)", lambda blocking: blocking.cancel("some-id")),
    (
        "await error.retry()",
        lambda blocking: blocking.retry(EnqueueUncertain("", retry=asyncio.Event().wait)),
    ),
    ("await asyncio.to_thread(engine.blocking.close)", lambda blocking: blocking.close()),
]


@pytest.mark.parametrize(("twin", "call"), CALLS)
async def test_a_call_in_a_running_loop_is_refused_with_the_name_of_its_twin(
    twin: str, call: Callable[[Blocking], object], namespace: str
) -> None:
    engine = Engine(MemoryBroker(), namespace)
    engine.task(name="send")(lambda to: None)
    before = threads()
    with pytest.raises(WouldBlock) as caught:
        call(engine.blocking)
    assert twin in str(caught.value)
    assert isinstance(caught.value, (AiospinachError, RuntimeError))
    assert threads() == before


def test_a_call_in_the_loop_of_another_thread_is_refused(engine: Engine) -> None:
    errors: list[BaseException] = []

    async def call() -> None:
        try:
            engine.blocking.schedule("send", "ann")
        except WouldBlock as error:
            errors.append(error)

    in_thread(lambda: asyncio.run(call())).join()
    assert len(errors) == 1
    assert threads() == []


async def test_a_plain_receiver_in_a_loop_is_refused(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Engine(MemoryBroker(), namespace) as engine:
        engine.task(name="send")(lambda to: None)
        signals.job_scheduled.connect_via(namespace)(
            lambda sender, **kwargs: engine.blocking.schedule("send", "bob")
        )
        await engine.schedule("send", "ann")
        assert (await counts(engine._broker, "default")).ready == 1
    assert "await engine.schedule(...)" in caplog.text


def test_a_receiver_in_the_thread_of_the_calls_is_refused_and_does_not_wait_for_itself(
    engine: Engine, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    @signals.job_scheduled.connect_via(namespace)
    def again(sender: str, **kwargs: Any) -> None:
        engine.blocking.schedule("send", "bob")

    engine.blocking.schedule("send", "ann")
    assert stored(engine).ready == 1
    assert "await engine.schedule(...)" in caplog.text


# The end.


def test_leaving_closes_the_thread_and_a_later_call_starts_another(engine: Engine) -> None:
    assert threads() == []  # an engine that makes no call starts none
    with engine.blocking:
        engine.blocking.schedule("send", "ann")
        [first] = threads()
    assert not first.is_alive()
    assert engine.has_ended
    engine.blocking.close()
    engine.blocking.schedule("send", "ann")
    [second] = threads()
    assert second is not first
    assert stored(engine).ready == 2


def test_nothing_is_left_to_the_collector(make_broker: MakeBroker, namespace: str) -> None:
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine = Engine(make_broker(), namespace)
        engine.task(name="send")(lambda to: None)
        for _ in range(3):
            with engine.blocking:
                engine.blocking.schedule("send", "ann")
                with pytest.raises(UnknownTask):
                    engine.blocking.schedule("unknown")
        gc.collect()
    assert [str(each.message) for each in caught if each.category is ResourceWarning] == []


def test_an_error_is_freed_when_its_handler_ends(engine: Engine) -> None:
    engine.blocking.schedule("send", "ann")
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(UnknownTask) as caught:
            engine.blocking.schedule("unknown")
        del caught
        left = [each for each in gc.get_objects() if type(each) is UnknownTask]
        assert [each for each in left if "unknown" in str(each)] == []
    finally:
        gc.enable()


class Held(MemoryBroker):
    """A broker that stores nothing before ``may_store`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.is_called = threading.Event()
        self.may_store = threading.Event()
        self.was_cancelled = threading.Event()

    async def enqueue(self, *args: Any, **kwargs: Any) -> list[bool]:
        self.is_called.set()
        try:
            while not self.may_store.is_set():
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise
        return await super().enqueue(*args, **kwargs)


@pytest.fixture
def held(namespace: str) -> Engine:
    engine = Engine(Held(), namespace)
    engine.task(name="send")(lambda to: None)
    return engine


def test_a_close_waits_for_the_calls_of_other_threads(held: Engine) -> None:
    broker, results = held._broker, list[object]()
    assert isinstance(broker, Held)

    def call() -> None:
        try:
            results.append(held.blocking.schedule("send", "ann").status)
        except BaseException as error:
            results.append(error)

    caller = in_thread(call)
    broker.is_called.wait()
    closer = in_thread(held.blocking.close)
    closer.join(0.05)  # time to do harm, if it does not wait
    broker.may_store.set()
    caller.join()
    closer.join()
    assert results == [JobStatus.QUEUED]
    assert threads() == []


def test_calls_go_on_while_another_thread_closes_again_and_again(engine: Engine) -> None:
    jobs: list[Job] = []
    is_over = threading.Event()

    def schedule() -> None:
        jobs.extend(engine.blocking.schedule("send", str(number)) for number in range(50))

    def close() -> None:
        while not is_over.is_set():
            engine.blocking.close()

    closer = in_thread(close)
    callers = [in_thread(schedule) for _ in range(4)]
    for caller in callers:
        caller.join()
    is_over.set()
    closer.join()
    assert len(jobs) == 200
    assert stored(engine).ready == 200


def raise_in_main(number: signal.Signals, broker: Held) -> None:
    """Raise a signal in the main thread, while a call of it waits for the broker."""
    broker.is_called.wait()
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, number)


def test_an_interrupted_call_ends_and_is_cancelled(held: Engine) -> None:
    broker = held._broker
    assert isinstance(broker, Held)

    in_thread(lambda: raise_in_main(signal.SIGINT, broker))
    try:
        with pytest.raises(KeyboardInterrupt):
            held.blocking.schedule("send", "ann")
        assert broker.was_cancelled.wait(5)
    finally:
        broker.may_store.set()
    held.blocking.schedule("send", "bob")  # the thread goes on
    held.blocking.close()


def test_no_room_for_a_thread_is_an_error_and_leaves_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start"):
            engine.blocking.schedule("send", "ann")
    gc.collect()  # an open loop would warn, and warnings are errors
    assert engine.blocking.schedule("send", "ann").status is JobStatus.QUEUED


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server().start()
    yield server
    server.close()


def test_all_threads_share_a_connection_which_ends_with_the_close(server: Server, namespace: str) -> None:
    engine = Engine(RedisBroker(server.url), namespace)
    engine.task(name="send")(lambda: None)
    with server.client() as client:

        def connections() -> int:
            return len(client.client_list()) - 1  # without this one

        callers = [in_thread(lambda: engine.blocking.schedule("send")) for _ in range(10)]
        for caller in callers:
            caller.join()
        assert connections() == 1
        engine.blocking.close()
        while connections():  # the server notices it a moment later
            pass


def test_a_server_that_hangs_does_not_hold_up_the_close(server: Server, namespace: str) -> None:
    engine = Engine(RedisBroker(server.url, enqueue_timeout=0.1), namespace)
    engine.task(name="send")(lambda: None)
    engine.blocking.schedule("send")
    server.pause()
    try:
        with pytest.raises(BrokerError):
            engine.blocking.schedule("send")
        engine.blocking.close()
    finally:
        server.resume()
    assert threads() == []
