"""Metrics of jobs, queues and signals, read as a scrape reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest

from aiospinach import (
    AbortException,
    Batch,
    Engine,
    InvalidValue,
    MemoryBroker,
    RedisBroker,
    current_job,
    signals,
)
from aiospinach.contrib import queue_cache
from aiospinach.contrib.prometheus import instrument

from ..brokers_under_test import MakeBroker
from ..waiting import until
from .conftest import lose_a_worker, receivers_of


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


@pytest.fixture(autouse=True)
def undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Depths are refreshed at each scrape, and no test leaves a task behind."""
    caches: list[queue_cache.QueueCache] = []
    init = queue_cache.QueueCache.__init__

    def keep(self: queue_cache.QueueCache, engine: Engine) -> None:
        init(self, engine)
        caches.append(self)

    monkeypatch.setattr(queue_cache.QueueCache, "__init__", keep)
    yield
    for cache in caches:
        cache.close()


class Scrape:
    """The values of one scrape."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._samples = [sample for metric in registry.collect() for sample in metric.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the values whose labels include these."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def series(self, prefix: str = "") -> set[tuple[str, str]]:
        return {
            (sample.name, str(sorted(sample.labels.items())))
            for sample in self._samples
            if sample.name.startswith(prefix)
        }


async def scrape(registry: CollectorRegistry) -> Scrape:
    """Scrape in a thread, as the server of prometheus_client does."""
    return await asyncio.to_thread(Scrape, registry)


async def test_each_job_counts_once_by_its_outcome(any_engine: Engine, registry: CollectorRegistry) -> None:
    engine = any_engine
    instrument(engine, registry)

    @engine.task(name="succeed")
    async def succeed() -> None: ...

    @engine.task(name="retry", max_retries=2, backoff=lambda retry: 0)
    async def retry() -> None:
        job = current_job()
        assert job is not None
        if job.retries < 2:
            raise ValueError

    @engine.task(name="fail", queue="glass", max_retries=2)
    async def fail() -> None:
        raise AbortException

    @engine.task(name="cancel")
    async def cancel() -> None:
        job = current_job()
        assert job is not None
        await engine.cancel(other)
        await engine.cancel(job)
        await asyncio.Event().wait()

    for task in (succeed, succeed, retry, fail, cancel):
        await task.schedule()
    other = await succeed.schedule_at(datetime.now(UTC) + timedelta(hours=1))
    await engine.start_workers(5, stop_when_queue_empty=True)
    with pytest.raises(AbortException):
        await engine.execute(fail)
    found = await scrape(registry)
    labels = {"namespace": engine.namespace}
    jobs = {
        (task, outcome): found.value("aiospinach_jobs_total", task=task, outcome=outcome, **labels)
        for task in ("succeed", "retry", "fail", "cancel")
        for outcome in ("succeeded", "failed", "cancelled")
    }
    assert {key: value for key, value in jobs.items() if value} == {
        ("succeed", "succeeded"): 2,
        ("succeed", "cancelled"): 1,  # a job that never ran
        ("retry", "succeeded"): 1,
        ("fail", "failed"): 2,  # one of them without a broker
        ("cancel", "cancelled"): 1,
    }
    assert found.value("aiospinach_job_retries_total", task="retry", queue="default", **labels) == 2
    assert found.value("aiospinach_job_duration_seconds_count", task="retry", **labels) == 3
    assert found.value("aiospinach_jobs_total", queue="glass", **labels) == 2
    assert found.value("aiospinach_signal_sent_total", signal="job_finished") >= 8


async def test_a_job_that_executes_another_counts_once(
    any_engine: Engine, registry: CollectorRegistry
) -> None:
    engine = any_engine
    instrument(engine, registry)

    @engine.task(name="inner")
    async def inner() -> None: ...

    @engine.task(name="outer")
    async def outer() -> None:
        await engine.execute(inner)
        raise ValueError

    await outer.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    found = await scrape(registry)
    assert found.value("aiospinach_jobs_total", task="outer", outcome="failed") == 1
    assert found.value("aiospinach_jobs_total", task="inner", outcome="succeeded") == 1


async def test_a_job_whose_worker_died_counts_as_failed(
    make_broker: MakeBroker, namespace: str, registry: CollectorRegistry
) -> None:
    async with Engine(make_broker(lease=0.2), namespace) as engine:
        instrument(engine, registry)

        @engine.task(name="work")
        async def work() -> None: ...

        await work.schedule()
        await lose_a_worker(engine)
        await engine.start_workers(1, block=False)
        labels = {"task": "work", "outcome": "failed"}
        await until(lambda: Scrape(registry).value("aiospinach_jobs_total", **labels), "the job failed")
        await engine.stop_workers()
        assert (await scrape(registry)).value("aiospinach_jobs_total", **labels) == 1


async def test_the_delay_is_the_time_since_the_moment_of_the_job(
    engine: Engine, registry: CollectorRegistry
) -> None:
    instrument(engine, registry)

    @engine.task
    async def work() -> None: ...

    await work.schedule_at(datetime.now(UTC) - timedelta(seconds=40))
    await work.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    found = await scrape(registry)
    assert found.value("aiospinach_job_delay_seconds_count") == 2
    assert found.value("aiospinach_job_delay_seconds_bucket", le="30.0") == 1
    assert 40 <= found.value("aiospinach_job_delay_seconds_sum") < 100


async def test_the_depth_of_queues_is_read_at_a_scrape(
    any_engine: Engine, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = any_engine
    monkeypatch.setattr(queue_cache, "REFRESHED_EVERY", 0.01)
    instrument(engine, registry)

    @engine.task(queue="mail")
    async def work() -> None: ...

    await work.schedule_at(datetime.now(UTC) - timedelta(seconds=40))
    await work.schedule()
    await work.schedule_at(datetime.now(UTC) + timedelta(hours=1))
    found = await scrape(registry)
    labels = {"namespace": engine.namespace, "queue": "mail"}
    assert found.value("aiospinach_queue_jobs", state="ready", **labels) == 2
    assert found.value("aiospinach_queue_jobs", state="waiting", **labels) == 1
    assert found.value("aiospinach_queue_jobs", **labels) == 3
    assert 40 <= found.value("aiospinach_queue_oldest_seconds", **labels) < 100
    assert found.value("aiospinach_queue_workers", **labels) == 0
    await engine.start_workers(1, "mail", block=False)
    seen: list[Scrape] = []

    def is_done() -> bool:  # within the event loop: a scrape there shows what the last refresh found
        seen.append(Scrape(registry))
        return seen[-1].value("aiospinach_queue_workers", **labels) >= 1 and (
            seen[-1].value("aiospinach_queue_jobs", state="ready", **labels) == 0
        )

    await until(is_done, "the workers and the empty line are seen")


async def test_scrapes_within_five_seconds_share_one_look_at_the_store(
    engine: Engine, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    @engine.task
    async def work() -> None: ...

    calls = 0
    counts = engine.counts

    async def count() -> Any:
        nonlocal calls
        calls += 1
        return await counts()

    monkeypatch.setattr(engine, "counts", count)
    instrument(engine, registry)
    for _ in range(5):
        assert ("aiospinach_queue_workers" in str((await scrape(registry)).series())) is True
    assert calls == 1


async def test_a_store_that_hangs_does_not_hold_up_a_scrape(
    engine: Engine, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    @engine.task
    async def work() -> None: ...

    async def hang() -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(engine, "counts", hang)
    monkeypatch.setattr(queue_cache, "WAIT_AT_MOST", 0.01)
    instrument(engine, registry)
    assert (await scrape(registry)).series("aiospinach_queue") == set()
    assert Scrape(registry).series("aiospinach_queue") == set()


async def test_depths_that_could_not_be_refreshed_vanish(
    engine: Engine, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    @engine.task
    async def work() -> None: ...

    instrument(engine, registry)
    assert (await scrape(registry)).series("aiospinach_queue") != set()
    monkeypatch.setattr(queue_cache, "KEPT_FOR", 0.0)
    assert (await scrape(registry)).series("aiospinach_queue") == set()


async def test_a_store_that_is_away_is_asked_again(
    engine: Engine, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    @engine.task
    async def work() -> None: ...

    monkeypatch.setattr(queue_cache, "REFRESHED_EVERY", 0.01)
    counts, failures = engine.counts, 0

    async def fail_at_first() -> Any:
        nonlocal failures
        if failures < 3:
            failures += 1
            await RedisBroker("redis://127.0.0.1:1").open("away")
        return await counts()

    monkeypatch.setattr(engine, "counts", fail_at_first)
    instrument(engine, registry)
    await until(lambda: Scrape(registry).series("aiospinach_queue"), "the depths are known")
    assert failures == 3


async def test_the_refreshes_end_when_nobody_scrapes_and_with_the_engine(
    namespace: str, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_cache, "REFRESHED_EVERY", 0.01)
    before = asyncio.all_tasks()
    async with Engine(MemoryBroker(), namespace) as engine:

        @engine.task
        async def work() -> None: ...

        instrument(engine, registry)
        await scrape(registry)
        await until(lambda: not asyncio.all_tasks() - before, "a scrape in a thread asks once")
        Scrape(registry)
        await until(lambda: asyncio.all_tasks() - before, "a scrape in the loop has them refreshed")
        monkeypatch.setattr(queue_cache, "WANTED_FOR", 0.0)
        Scrape(registry)
        await until(lambda: not asyncio.all_tasks() - before, "the refreshes end")
        monkeypatch.setattr(queue_cache, "WANTED_FOR", 60.0)
        Scrape(registry)
        await until(lambda: asyncio.all_tasks() - before, "the refreshes begin again")
    await until(lambda: not asyncio.all_tasks() - before, "the refreshes end with the engine")


async def test_a_scrape_without_an_event_loop_has_no_depths(
    registry: CollectorRegistry, namespace: str
) -> None:
    def in_a_loop_that_has_ended() -> None:
        async def main() -> None:
            engine = Engine(MemoryBroker(), namespace)
            engine.task(name="work")(print)
            instrument(engine, registry)

        asyncio.run(main())
        assert Scrape(registry).series("aiospinach_queue") == set()

    await asyncio.to_thread(in_a_loop_that_has_ended)


async def test_ten_thousand_jobs_make_no_more_series_than_one(
    engine: Engine, registry: CollectorRegistry
) -> None:
    instrument(engine, registry)

    @engine.task(name="work")
    async def work(secret: str) -> None: ...

    async def run(number: int) -> Scrape:
        batch = Batch()
        for job in range(number):
            batch.schedule(work.options(id=f"job-{number}-{job}"), "canary")
        await engine.schedule_batch(batch)
        await engine.start_workers(100, stop_when_queue_empty=True)
        return await scrape(registry)

    first = await run(1)
    second = await run(10_000)
    assert second.value("aiospinach_jobs_total", task="work") == 10_001
    assert second.series("aiospinach_job") == first.series("aiospinach_job")
    assert len(second.series()) <= len(first.series()) + 10  # of the signals and queues
    assert b"canary" not in generate_latest(registry)
    assert b"job-1-0" not in generate_latest(registry)


async def test_a_password_is_in_no_label(
    make_broker: MakeBroker, namespace: str, registry: CollectorRegistry
) -> None:
    broker = RedisBroker("redis://user:canary-password@127.0.0.1:1", enqueue_timeout=0.05)
    engine = Engine(broker, namespace)

    @engine.task
    async def work() -> None: ...

    instrument(engine, registry)
    await scrape(registry)
    assert b"canary" not in generate_latest(registry)


async def test_engines_share_a_registry(engine: Engine, registry: CollectorRegistry) -> None:
    async with Engine(MemoryBroker(), f"{engine.namespace}-other") as other:
        undo_first, undo_other = instrument(engine, registry), instrument(other, registry)
        for each in (engine, other):
            task = each.task(name="work")(asyncio.sleep)
            await task.schedule(0)
            await each.start_workers(stop_when_queue_empty=True)
        found = await scrape(registry)
        for each in (engine, other):
            assert found.value("aiospinach_jobs_total", namespace=each.namespace) == 1
            assert (
                "aiospinach_queue_workers",
                str([("namespace", each.namespace), ("queue", "default")]),
            ) in (found.series())
        assert generate_latest(registry).count(b"# TYPE aiospinach_queue_jobs gauge") == 1
        undo_first()
        assert f"'{engine.namespace}'" not in str((await scrape(registry)).series("aiospinach_queue"))
        undo_other()
        assert Scrape(registry).series() == set()


async def test_undo_leaves_no_receiver_and_no_metric(engine: Engine, registry: CollectorRegistry) -> None:
    undo = instrument(engine, registry)
    assert receivers_of(engine.namespace)
    with pytest.raises(InvalidValue, match="instrument again"):
        instrument(engine, CollectorRegistry())
    undo()
    undo()
    assert receivers_of(engine.namespace) == []
    assert generate_latest(registry) == b""
    instrument(engine, registry)()


async def test_a_name_that_is_taken_is_refused_and_leaves_nothing(
    engine: Engine, registry: CollectorRegistry
) -> None:
    taken = Counter("aiospinach_job_retries", "My own.", registry=registry)
    with pytest.raises(ValueError, match="aiospinach_job_retries"):
        instrument(engine, registry)
    assert receivers_of(engine.namespace) == []
    registry.unregister(taken)
    instrument(engine, registry)()


async def test_only_a_registry_is_taken(engine: Engine) -> None:
    with pytest.raises(InvalidValue, match="takes a CollectorRegistry, not str"):
        instrument(engine, "registry")  # type: ignore[arg-type]


async def test_a_receiver_that_hangs_costs_jobs_no_more_than_the_time_limit(
    namespace: str, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    async with Engine(MemoryBroker(), namespace, signal_timeout=0.01) as engine:
        instrument(engine, registry)
        ran: list[int] = []

        @signals.job_started.connect_via(namespace)
        async def hang(namespace: str, **kwargs: Any) -> None:
            await asyncio.Event().wait()

        @engine.task
        async def work(number: int) -> None:
            ran.append(number)

        before = signals.job_started.stats().timed_out
        for number in range(5):
            await work.schedule(number)
        await engine.start_workers(stop_when_queue_empty=True)
        assert sorted(ran) == [0, 1, 2, 3, 4]
        found = await scrape(registry)
        assert found.value("aiospinach_signal_timed_out_total", signal="job_started") == before + 5
        caplog.clear()


async def test_the_registry_of_the_process_is_the_default(engine: Engine) -> None:
    undo = instrument(engine)
    assert Scrape(REGISTRY).series("aiospinach_signal_sent_total")
    undo()
    assert Scrape(REGISTRY).series("aiospinach") == set()
