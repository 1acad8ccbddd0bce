"""No body begins on a lease that has ended; whether a suspected lease is lost, the store decides."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any

import pytest

from aiospinach import Broker, BrokerUnavailable, Engine, Interrupted, JobStatus, LeaseLost, signals
from aiospinach.brokers.records import (
    NO_PARKING,
    ExchangeResult,
    Parking,
    RenewResult,
    Settlement,
    TickResult,
)

from .. import asking
from ..brokers_under_test import BROKERS, MakeBroker
from ..conftest import Heard
from ..waiting import until
from .job_results import finish_of, reasons_of_death

LEASE = 0.5


class Network:
    """The network between the workers and their broker, which a test delays or cuts."""

    def __init__(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        self._broker = broker
        self.is_cut: set[str] = set()
        self.holds_answers = False
        """Whether the next answer with jobs is delayed until ``let_go`` is set."""
        self.let_go = asyncio.Event()
        self.held_since: float | None = None
        """When the exchange was sent whose answer is delayed."""
        self._exchange, self._renew, self.tick = broker.exchange, broker.renew, broker.tick
        monkeypatch.setattr(broker, "exchange", self.exchange)
        monkeypatch.setattr(broker, "renew", self.renew)
        monkeypatch.setattr(broker, "tick", self._tick)

    @property
    def trust(self) -> float:
        return self._broker.lease - self._broker.margin

    def cut(self, *methods: str) -> None:
        self.is_cut = {*(methods or ("exchange", "renew", "tick"))}

    def heal(self) -> None:
        self.is_cut.clear()

    async def exchange(
        self, queue: str, settled: Sequence[Settlement], want: int, parking: Parking = NO_PARKING
    ) -> ExchangeResult:
        self._check("exchange")
        sent_at = time.monotonic()
        answer = await self._exchange(queue, settled, want)
        if answer.leases and self.holds_answers:
            self.holds_answers, self.held_since = False, sent_at
            await self.let_go.wait()
        return answer

    async def renew(self, queue: str, leases: Collection[str]) -> RenewResult:
        self._check("renew")
        return await self._renew(queue, leases)

    async def _tick(self, queue: str) -> TickResult:
        self._check("tick")
        return await self.tick(queue)

    def _check(self, method: str) -> None:
        if method in self.is_cut:
            raise BrokerUnavailable("the network is cut")


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Broker:
    make: MakeBroker = request.param
    return make(lease=LEASE)


@pytest.fixture
def network(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(broker, monkeypatch)


@pytest.fixture
async def engine(broker: Broker, namespace: str) -> AsyncIterator[Engine]:
    async with Engine(broker, namespace) as engine:
        yield engine


def pool_of(engine: Engine) -> Any:
    return engine._workers.pool


def run_of(engine: Engine) -> Any:
    [run] = pool_of(engine).runs
    return run


class Body:
    """A task with an async or plain body that counts its starts, and waits until it may end."""

    def __init__(self, engine: Engine, *, is_async: bool, **options: Any) -> None:
        self.began = 0
        self.cancelled = 0
        self.fails = False
        self.may_end = threading.Event()

        async def in_loop() -> str:
            self.began += 1
            try:
                while not self.may_end.is_set():
                    await asyncio.sleep(0.002)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return self._end()

        def in_thread() -> str:
            self.began += 1
            assert self.may_end.wait(30)
            return self._end()

        function: Callable[[], Any] = in_loop if is_async else in_thread
        self.task = engine.task(name="body", **options)(function)

    def _end(self) -> str:
        if self.fails:
            raise ValueError("of its own")
        return "ended"


KINDS = pytest.mark.parametrize("is_async", [True, False], ids=["async", "plain"])
RETRIES = pytest.mark.parametrize("max_retries", [0, 3])


# A lease that ends before the body begins.


@KINDS
@RETRIES
async def test_no_job_begins_on_a_lease_that_ended_before_the_answer_arrived(
    engine: Engine,
    network: Network,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    is_async: bool,
    max_retries: int,
) -> None:
    body = Body(engine, is_async=is_async, max_retries=max_retries)
    body.may_end.set()
    network.holds_answers = True
    job = await body.task.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: network.held_since is not None)
    assert network.held_since is not None
    over = network.held_since + network.trust
    await until(lambda: time.monotonic() > over)
    network.let_go.set()
    finish = await finish_of(heard, job)
    await engine.stop_workers()
    # The job was released, and was leased again by the next exchange.
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_finished"]
    assert body.began == 1
    assert (finish["result"], finish["job"].crashes, finish["job"].retries) == ("ended", 0, 0)
    assert "arrived after their leases had ended" in caplog.text


@KINDS
@RETRIES
async def test_no_body_begins_if_the_lease_ended_during_the_receivers(
    engine: Engine, network: Network, heard: Heard, is_async: bool, max_retries: int
) -> None:
    body = Body(engine, is_async=is_async, max_retries=max_retries)
    body.may_end.set()
    times = 0

    async def slow(namespace: str, **kwargs: Any) -> None:
        nonlocal times
        times += 1
        if times == 1:
            network.cut("renew")
            run = run_of(engine)
            await until(lambda: time.monotonic() > run.body.trusted_until)

    signals.job_started.connect(slow, engine.namespace)
    job = await body.task.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: heard.count("job_finished") == 2)
    await engine.stop_workers()
    first, second = (kwargs for name, kwargs in heard if name == "job_finished")
    assert heard.names(job.id) == ["job_scheduled", *["job_started", "job_finished"] * 2]
    assert (first["job"].status, first["result"]) == (JobStatus.QUEUED, None)
    assert isinstance(first["err"], Interrupted)
    assert (second["err"], second["result"], second["job"].crashes) == (None, "ended", 0)
    assert body.began == 1


async def test_no_plain_function_begins_if_the_lease_ended_before_its_thread_started(
    engine: Engine, network: Network, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = Body(engine, is_async=False)
    body.may_end.set()
    await engine.start_workers(1, block=False)
    threads = pool_of(engine).state.threads
    run_in_thread = threads.run

    async def late(*call: Any) -> Any:
        monkeypatch.setattr(threads, "run", run_in_thread)
        network.cut("renew")
        run = run_of(engine)
        await until(lambda: time.monotonic() > run.body.trusted_until)
        return await run_in_thread(*call)

    monkeypatch.setattr(threads, "run", late)
    await body.task.schedule()
    await until(lambda: heard.count("job_finished") == 2)
    await engine.stop_workers()
    errors = [kwargs["err"] for name, kwargs in heard if name == "job_finished"]
    assert isinstance(errors[0], Interrupted)
    assert errors[1] is None
    assert body.began == 1


async def test_a_body_on_a_late_lease_is_cancelled_before_another_worker_gets_the_job(
    engine: Engine, broker: Broker, network: Network, heard: Heard
) -> None:
    broker.lease = 2.0
    body = Body(engine, is_async=True, max_retries=3)
    network.holds_answers = True
    job = await body.task.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: network.held_since is not None)
    assert network.held_since is not None
    middle = network.held_since + network.trust / 2
    await until(lambda: time.monotonic() > middle)
    pool_of(engine).watchdog._bell.ring()  # the watchdog checks, and finds no run
    await until(lambda: pool_of(engine).runs.watched_until > middle + network.trust)
    network.cut()
    network.let_go.set()
    await until(lambda: body.began)
    found: list[Any] = []
    while not found:  # as another worker does, whose network works
        await asyncio.sleep(0.002)
        found += (await network.tick("default")).expired
    assert body.cancelled == 1
    assert found[0].job.id == job.id
    network.heal()
    finish = await finish_of(heard, job)
    await engine.stop_workers()
    assert isinstance(finish["err"], LeaseLost)


async def test_a_lease_that_arrived_late_is_renewed_at_once(
    engine: Engine, broker: Broker, network: Network, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.lease = 3.0
    body = Body(engine, is_async=True)
    network.holds_answers = True
    job = await body.task.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: network.held_since is not None)
    assert network.held_since is not None
    late = network.held_since + 0.6 * network.trust
    pool = pool_of(engine)
    await until(lambda: time.monotonic() > late)
    pool.watchdog._bell.ring()
    monkeypatch.setattr(pool.heartbeat, "_beat", lambda: None)  # no regular heartbeat meanwhile
    await until(lambda: pool.runs.watched_until > late + network.trust / 2)
    network.let_go.set()
    await until(lambda: body.began)
    run = run_of(engine)
    await until(lambda: run.body.trusted_until > run.lease.trusted_until)
    monkeypatch.undo()
    body.may_end.set()
    assert (await finish_of(heard, job))["err"] is None
    await engine.stop_workers()


# A lease that is suspected to be lost.


@RETRIES
async def test_a_plain_function_succeeds_if_its_suspected_lease_was_not_lost(
    engine: Engine,
    broker: Broker,
    network: Network,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    max_retries: int,
) -> None:
    body = Body(engine, is_async=False, max_retries=max_retries)
    job = await body.task.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: body.began)
    network.cut("renew", "tick")
    await until(lambda: run_of(engine).is_suspected)
    network.heal()
    body.may_end.set()
    finish = await finish_of(heard, job)
    await engine.stop_workers()
    assert (finish["result"], finish["err"], finish["job"].status) == ("ended", None, JobStatus.SUCCEEDED)
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_finished"]
    assert body.began == 1
    counts = await asking.counts(broker, "default")
    assert (counts.ready, counts.running, counts.waiting, counts.dead) == (0, 0, 0, 0)
    [record] = [r for r in caplog.records if "may lose its lease" in r.getMessage()]
    assert "goes on" in record.getMessage()


async def test_a_plain_function_that_raises_on_a_suspected_lease_fails_with_its_error(
    engine: Engine, broker: Broker, network: Network, heard: Heard
) -> None:
    body = Body(engine, is_async=False)
    body.fails = True
    job = await body.task.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: body.began)
    network.cut("renew", "tick")
    await until(lambda: run_of(engine).is_suspected)
    network.heal()
    body.may_end.set()
    finish = await finish_of(heard, job)
    await engine.stop_workers()
    assert isinstance(finish["err"], ValueError)
    assert await reasons_of_death(broker) == {job.id: "exhausted"}


async def test_an_async_body_on_a_suspected_lease_is_released_without_a_crash(
    engine: Engine, network: Network, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    body = Body(engine, is_async=True, max_retries=1)
    job = await body.task.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: body.began)
    network.cut("renew", "tick")
    await until(lambda: heard.count("job_finished"))
    network.heal()
    body.may_end.set()
    await until(lambda: heard.count("job_finished") == 2)
    await engine.stop_workers()
    first, second = (kwargs for name, kwargs in heard if name == "job_finished")
    assert isinstance(first["err"], Interrupted)
    assert first["job"].status is JobStatus.QUEUED
    assert (second["result"], second["job"].crashes, second["job"].retries) == ("ended", 0, 0)
    assert (body.began, body.cancelled) == (2, 1)
    assert heard.names(job.id) == ["job_scheduled", *["job_started", "job_finished"] * 2]
    [record] = [r for r in caplog.records if "may lose its lease" in r.getMessage()]
    assert record.levelno == logging.WARNING
    assert "is cancelled" in record.getMessage()
    assert "lost its lease" not in caplog.text


async def test_an_at_most_once_body_on_a_suspected_lease_fails(
    engine: Engine, broker: Broker, network: Network, heard: Heard
) -> None:
    body = Body(engine, is_async=True)
    job = await body.task.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: body.began)
    network.cut("renew", "tick")
    await until(lambda: heard.count("job_finished"))
    network.heal()
    await engine.stop_workers()
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_failed", "job_finished"]
    assert isinstance(heard.last("job_failed")["err"], Interrupted)
    assert await reasons_of_death(broker) == {job.id: "interrupted"}


@KINDS
async def test_the_outcome_of_a_body_is_ignored_if_its_suspected_lease_was_lost(
    engine: Engine,
    broker: Broker,
    network: Network,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    is_async: bool,
) -> None:
    body = Body(engine, is_async=is_async, max_retries=3)
    job = await body.task.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: body.began)
    network.cut()
    await until(lambda: run_of(engine).is_suspected)
    found: list[Any] = []
    while not found:
        await asyncio.sleep(0.002)
        found += (await network.tick("default")).expired
    network.heal()
    body.may_end.set()
    finish = await finish_of(heard, job)
    assert isinstance(finish["err"], LeaseLost)
    assert finish["job"].status is JobStatus.NOT_SET
    assert "lost its lease" in caplog.text
    await engine.stop_workers()
    counts = await asking.counts(broker, "default")
    assert (counts.running + counts.waiting + counts.ready, counts.dead) == (1, 0)  # another worker has it


async def test_the_cleanup_of_a_body_on_a_suspected_lease_is_not_cancelled(
    engine: Engine, broker: Broker, network: Network, heard: Heard
) -> None:
    cleaning, may_end, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @engine.task
    async def job() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await may_end.wait()
            cleaned.set()

    scheduled = await job.schedule()
    await engine.start_workers(1, block=False)
    await until(lambda: heard.count("job_started"))
    network.cut("renew", "tick")
    await cleaning.wait()
    run = run_of(engine)
    run.cancel(LeaseLost("as after a renewal"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not cleaned.is_set()
    may_end.set()
    await finish_of(heard, scheduled)
    assert cleaned.is_set()
    await engine.stop_workers()


# A body that never began.


@KINDS
async def test_a_stop_releases_an_at_most_once_job_whose_body_has_not_begun(
    engine: Engine, broker: Broker, heard: Heard, is_async: bool
) -> None:
    body = Body(engine, is_async=is_async)
    in_receiver, may_continue = asyncio.Event(), asyncio.Event()

    async def slow(namespace: str, **kwargs: Any) -> None:
        in_receiver.set()
        await may_continue.wait()

    signals.job_started.connect(slow, engine.namespace)
    job = await body.task.schedule()
    await engine.start_workers(1, block=False, shutdown_timeout=0)
    await in_receiver.wait()
    stopping = asyncio.create_task(engine.stop_workers())
    await until(lambda: pool_of(engine).state.is_ending_now)
    may_continue.set()
    await stopping
    finish = await finish_of(heard, job)
    assert isinstance(finish["err"], Interrupted)
    assert finish["job"].status is JobStatus.QUEUED
    assert heard.names(job.id) == ["job_scheduled", "job_started", "job_finished"]
    body.may_end.set()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert body.began == 1
    assert await reasons_of_death(broker) == {}
