"""Spans and metrics of jobs, in the exporters and readers of the real SDK."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from aiospinach import (
    Batch,
    BrokerError,
    Engine,
    InvalidValue,
    MemoryBroker,
    RedisBroker,
    RetryException,
    current_job,
    signals,
)
from aiospinach.contrib.opentelemetry import instrument

from ..brokers_under_test import shared_server
from ..waiting import until
from . import ROOT
from .conftest import receivers_of


class Spans:
    """A provider that keeps the spans in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def all(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span


class Metrics:
    """A provider whose metrics are read from memory."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def points(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def value(self, name: str, **attributes: str) -> float:
        """The sum of the values whose attributes include these."""
        found = {key.replace("_", "."): value for key, value in attributes.items()}
        values = [
            float(point.value)
            for point in self.points(name)
            if found.items() <= dict(point.attributes).items()
        ]
        return sum(values)


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    metrics = Metrics()
    yield metrics
    metrics.provider.shutdown()


def id_of(span: ReadableSpan | None) -> tuple[int, int]:
    assert span is not None
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def links_of(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def parent_of(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


@pytest.mark.parametrize("parent", [False, True])
async def test_a_request_its_job_a_retry_and_a_child_job_are_one_story(
    any_engine: Engine, spans: Spans, parent: bool
) -> None:
    engine = any_engine
    undo = instrument(engine, parent=parent, tracer_provider=spans.provider)

    @engine.task(name="bill", queue="mail", max_retries=1, backoff=lambda retry: 0)
    async def bill() -> None:
        with spans.tracer.start_as_current_span("query"):
            job = current_job()
            assert job is not None
            if job.retries == 0:
                raise LookupError
        await receipt.schedule()

    @engine.task(name="receipt")
    def receipt() -> None:
        with spans.tracer.start_as_current_span("print"):
            pass

    with spans.tracer.start_as_current_span("request"):
        job = await bill.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    undo()
    request, sent = spans.one("request"), spans.one("schedule bill")
    assert parent_of(sent) == id_of(request)
    assert sent.kind is SpanKind.PRODUCER
    first, second = spans.named("process bill")
    sent_by_job, received = spans.one("schedule receipt"), spans.one("process receipt")
    assert parent_of(sent_by_job) == id_of(second)
    for run, sender in ((first, sent), (second, sent), (received, sent_by_job)):
        assert run.kind is SpanKind.CONSUMER
        assert (parent_of(run), links_of(run)) == ((id_of(sender), []) if parent else (None, [id_of(sender)]))
    assert [parent_of(span) for span in spans.named("query")] == [id_of(first), id_of(second)]
    assert parent_of(spans.one("print")) == id_of(received)
    traces = {id_of(span)[0] for span in spans.all()}
    assert len(traces) == (1 if parent else 4)  # of the request, and of each try
    assert dict(sent.attributes or {}) == {
        "messaging.system": "aiospinach",
        "messaging.operation.name": "schedule",
        "messaging.operation.type": "send",
        "messaging.destination.name": "mail",
        "messaging.message.id": job.id,
        "aiospinach.namespace": engine.namespace,
        "aiospinach.task": "bill",
    }
    attributes = dict(first.attributes or {})
    assert attributes.pop("messaging.client.id")
    assert attributes == {
        "messaging.system": "aiospinach",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "mail",
        "messaging.message.id": job.id,
        "aiospinach.namespace": engine.namespace,
        "aiospinach.task": "bill",
        "aiospinach.retries": 0,
        "aiospinach.outcome": "retried",
        "error.type": "LookupError",
    }
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert dict(second.attributes or {})["aiospinach.retries"] == 1
    assert dict(second.attributes or {})["aiospinach.outcome"] == "succeeded"


@pytest.mark.parametrize("parent", [False, True])
async def test_a_retry_in_another_process_is_of_the_same_story(
    namespace: str, spans: Spans, parent: bool
) -> None:
    url = shared_server().unix_url
    async with Engine(RedisBroker(url), namespace) as engine:
        undo = instrument(engine, parent=parent, tracer_provider=spans.provider)

        @signals.job_schedule_retry.connect_via(namespace)
        async def leave_it_to_others(namespace: str, **kwargs: Any) -> None:
            await engine.stop_workers()

        @engine.task(name="bill", max_retries=1, backoff=lambda retry: 0.3)
        async def bill() -> None:
            raise LookupError

        with spans.tracer.start_as_current_span("request"):
            await bill.schedule()
        await engine.start_workers(1)
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.contrib.traced_worker", url, namespace, str(parent)),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        output, _ = await program.communicate()
        undo()
    assert program.returncode == 0
    [other] = json.loads(output)
    sent = spans.one("schedule bill")
    assert other["name"] == "process bill"
    assert other["retries"] == 1
    if parent:
        assert tuple(other["parent"]) == id_of(sent)
        assert other["trace"] == id_of(spans.one("request"))[0]
    else:
        assert [tuple(link) for link in other["links"]] == [id_of(sent)]


async def test_a_span_of_a_try_lasts_as_long_as_the_body(engine: Engine, spans: Spans) -> None:
    instrument(engine, tracer_provider=spans.provider)
    durations: list[float] = []

    @signals.job_finished.connect_via(engine.namespace)
    async def finished(namespace: str, duration: float, **kwargs: Any) -> None:
        durations.append(duration)
        await asyncio.sleep(0.05)

    @engine.task(name="work")
    async def work() -> None:
        await asyncio.sleep(0.02)

    await work.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    span = spans.one("process work")
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time == pytest.approx(durations[0] * 1e9, abs=1000)


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "planned", "cancelled", "released"])
async def test_the_outcome_and_the_error_of_a_try(engine: Engine, spans: Spans, outcome: str) -> None:
    instrument(engine, tracer_provider=spans.provider)

    @engine.task(name="work", max_retries=1, backoff=lambda retry: 0)
    async def work() -> None:
        job = current_job()
        assert job is not None
        if outcome == "failed":
            raise BrokerError("canary")
        if outcome == "planned" and job.retries == 0:
            raise RetryException
        if outcome == "cancelled":
            await engine.cancel(job)
            await asyncio.Event().wait()
        if outcome == "released":
            stopping.append(asyncio.create_task(engine.stop_workers()))
            await asyncio.Event().wait()

    stopping: list[asyncio.Task[None]] = []
    await work.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True, shutdown_timeout=0.01)
    for task in stopping:
        await task
    span = spans.named("process work")[0]
    attributes = dict(span.attributes or {})
    expected = {
        "succeeded": ("succeeded", None, StatusCode.UNSET),
        "failed": ("retried", "aiospinach.BrokerError", StatusCode.ERROR),
        "planned": ("retried", "aiospinach.RetryException", StatusCode.UNSET),
        "cancelled": ("cancelled", "aiospinach.JobCancelled", StatusCode.UNSET),
        "released": ("released", "aiospinach.Interrupted", StatusCode.UNSET),
    }
    found = attributes["aiospinach.outcome"], attributes.get("error.type"), span.status.status_code
    assert found == expected[outcome]
    assert "canary" not in span.to_json()


async def test_a_batch_and_concurrent_calls_have_spans_of_their_own(engine: Engine, spans: Spans) -> None:
    instrument(engine, tracer_provider=spans.provider)

    @engine.task(name="work")
    async def work(number: int) -> None: ...

    batch = Batch()
    for number in range(3):
        batch.schedule(work, number)
    with spans.tracer.start_as_current_span("request") as request:
        await engine.schedule_batch(batch)
        await asyncio.gather(*(work.schedule(number) for number in range(5)))
    await engine.start_workers(stop_when_queue_empty=True)
    sent = {id_of(span): span for span in spans.named("schedule work")}
    assert all(parent_of(span) == id_of(spans.one("request")) for span in sent.values())
    assert request.is_recording() is False
    links = [link for run in spans.named("process work") for link in links_of(run)]
    assert len(links) == 8
    assert set(links) == set(sent)


async def test_a_call_that_fails_and_a_duplicate_have_no_span(
    engine: Engine, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    instrument(engine, tracer_provider=spans.provider)

    @engine.task(name="work")
    async def work() -> None: ...

    await work.options(id="one").schedule()
    await work.options(id="one").schedule()
    assert len(spans.named("schedule work")) == 1

    async def refuse(*args: Any, **kwargs: Any) -> Any:
        raise BrokerError("full")

    with monkeypatch.context() as patch:
        patch.setattr(engine._broker, "enqueue", refuse)
        for _ in range(3):
            with pytest.raises(BrokerError, match="full"):
                await work.schedule()
    assert len(spans.all()) == 1
    job = await work.schedule()
    second = spans.named("schedule work")[1]
    assert dict(second.attributes or {})["messaging.message.id"] == job.id


async def test_baggage_reaches_the_job_unless_it_is_long(engine: Engine, spans: Spans) -> None:
    instrument(engine, tracer_provider=spans.provider)
    seen: list[object] = []

    @engine.task(name="work")
    async def work() -> None:
        seen.append(baggage.get_baggage("tenant"))

    for value in ("acme", "x" * 2000):
        token = context.attach(baggage.set_baggage("tenant", value))
        try:
            await work.schedule()
        finally:
            context.detach(token)
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert seen == ["acme", None]


async def test_a_plain_caller_in_a_thread_has_its_span_in_the_story(engine: Engine, spans: Spans) -> None:
    instrument(engine, tracer_provider=spans.provider)

    @engine.task(name="work")
    async def work() -> None: ...

    def request() -> None:
        with engine.blocking as blocking, spans.tracer.start_as_current_span("request"):
            blocking.schedule(work)

    await asyncio.to_thread(request)
    assert parent_of(spans.one("schedule work")) == id_of(spans.one("request"))


@pytest.mark.parametrize("parent", [False, True])
async def test_a_job_that_runs_inline_is_a_child_of_its_caller(
    engine: Engine, spans: Spans, parent: bool
) -> None:
    instrument(engine, parent=parent, tracer_provider=spans.provider)

    @engine.task(name="work")
    async def work() -> None: ...

    with spans.tracer.start_as_current_span("request") as request:
        await engine.execute(work)
        assert trace.get_current_span() is request
    run = spans.one("process work")
    assert (parent_of(run), links_of(run)) == (id_of(spans.one("request")), [])
    assert len(spans.all()) == 2


async def test_a_job_that_executes_another_has_a_span(engine: Engine, spans: Spans) -> None:
    instrument(engine, tracer_provider=spans.provider)

    @engine.task(name="inner")
    async def inner() -> None: ...

    @engine.task(name="outer")
    async def outer() -> None:
        await engine.execute(inner)

    await outer.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert parent_of(spans.one("process inner")) == id_of(spans.one("process outer"))


async def test_concurrent_jobs_do_not_mix(engine: Engine, spans: Spans) -> None:
    instrument(engine, tracer_provider=spans.provider)

    @engine.task(name="work")
    async def work(number: int) -> None:
        await asyncio.sleep(0)
        job = current_job()
        assert job is not None
        with spans.tracer.start_as_current_span("inner") as span:
            span.set_attribute("job", job.id)
            await asyncio.sleep(0)

    for number in range(200):
        await work.schedule(number)
    await engine.start_workers(200, stop_when_queue_empty=True)
    jobs = {
        id_of(run): dict(run.attributes or {})["messaging.message.id"] for run in spans.named("process work")
    }
    assert len(jobs) == 200
    inner = spans.named("inner")
    assert len(inner) == 200
    for span in inner:
        parent = parent_of(span)
        assert parent is not None
        assert jobs[parent] == dict(span.attributes or {})["job"]


async def test_no_argument_result_or_password_is_exported(
    namespace: str, spans: Spans, metrics: Metrics
) -> None:
    async with Engine(MemoryBroker(), namespace) as engine:
        instrument(engine, tracer_provider=spans.provider, meter_provider=metrics.provider)

        @engine.task(name="work", max_retries=1, backoff=lambda retry: 0)
        async def work(secret: str) -> str:
            job = current_job()
            assert job is not None
            if job.retries == 0:
                raise ValueError(secret)
            return secret

        await work.schedule("canary")
        await engine.start_workers(stop_when_queue_empty=True)
        text = "".join(span.to_json() for span in spans.all())
        text += str([metrics.points(name) for name in NAMES])
    assert "process work" in text
    assert "canary" not in text


NAMES = (
    "messaging.client.sent.messages",
    "messaging.client.consumed.messages",
    "messaging.process.duration",
    "aiospinach.queue.jobs",
    "aiospinach.queue.oldest",
    "aiospinach.queue.workers",
)


async def test_a_password_of_the_broker_is_in_no_span(namespace: str, spans: Spans, metrics: Metrics) -> None:
    broker = RedisBroker("redis://user:canary@127.0.0.1:1", enqueue_timeout=0.05)
    engine = Engine(broker, namespace)
    instrument(engine, tracer_provider=spans.provider, meter_provider=metrics.provider)

    @engine.task(name="work")
    async def work() -> None: ...

    with (
        pytest.raises(BrokerError),
        spans.tracer.start_as_current_span("request", record_exception=True),
    ):
        await work.schedule()
    text = "".join(span.to_json() for span in spans.all())
    assert "request" in text
    assert "canary" not in text


async def test_jobs_and_depths_are_measured(any_engine: Engine, metrics: Metrics) -> None:
    engine = any_engine
    instrument(engine, meter_provider=metrics.provider)

    @engine.task(name="work", queue="mail", max_retries=1, backoff=lambda retry: 0)
    async def work() -> None:
        job = current_job()
        assert job is not None
        if job.retries == 0:
            raise ValueError

    await work.schedule()
    await work.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    await work.schedule_at(datetime.now(UTC) - timedelta(seconds=40))
    mail = {"messaging_destination_name": "mail", "aiospinach_namespace": engine.namespace}
    assert metrics.value("messaging.client.sent.messages", aiospinach_task="work", **mail) == 3
    assert metrics.value("messaging.client.consumed.messages", aiospinach_task="work", **mail) == 4
    counts = {
        (point.attributes["aiospinach.outcome"], point.attributes.get("error.type")): point.count
        for point in metrics.points("messaging.process.duration")
    }
    assert counts == {("retried", "ValueError"): 2, ("succeeded", None): 2}
    depths = await asyncio.to_thread(
        lambda: [
            metrics.value("aiospinach.queue.jobs", aiospinach_state="ready", **mail),
            metrics.value("aiospinach.queue.oldest", **mail),
            metrics.value("aiospinach.queue.jobs", **mail),
        ]
    )
    assert depths[0] == depths[2] == 1
    assert 40 <= depths[1] < 100


async def test_ten_thousand_jobs_make_no_more_points_than_one(engine: Engine, metrics: Metrics) -> None:
    instrument(engine, meter_provider=metrics.provider)

    @engine.task(name="work")
    async def work(number: int) -> None: ...

    async def run(first: int, count: int) -> dict[str, int]:
        batch = Batch()
        for number in range(first, first + count):
            batch.schedule(work.options(id=f"job-{number}"), number)
        await engine.schedule_batch(batch)
        await engine.start_workers(100, stop_when_queue_empty=True)
        return await asyncio.to_thread(lambda: {name: len(metrics.points(name)) for name in NAMES})

    points = await run(0, 1)
    assert await run(1, 10_000) == points
    assert metrics.value("messaging.client.consumed.messages") == 10_001


class Hanging(SpanExporter):
    """An exporter whose collector does not answer."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.calls = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.calls += 1
        self.release.wait(60)
        return SpanExportResult.SUCCESS


async def test_an_exporter_that_hangs_costs_jobs_nothing(engine: Engine) -> None:
    exporter = Hanging()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=64, max_export_batch_size=8, schedule_delay_millis=10)
    )
    undo = instrument(engine, tracer_provider=provider)
    ran: list[int] = []

    @engine.task(name="work")
    async def work(number: int) -> None:
        ran.append(number)

    try:
        longest = 0.0
        for number in range(300):
            began = time.perf_counter()
            await work.schedule(number)
            longest = max(longest, time.perf_counter() - began)
        await until(lambda: exporter.calls, "the exporter hangs")
        await engine.start_workers(50, stop_when_queue_empty=True)
        assert sorted(ran) == list(range(300))
        assert longest < 30  # the exporter hangs for a minute
        assert exporter.calls == 1
    finally:
        undo()
        exporter.release.set()
        await asyncio.to_thread(provider.shutdown)


async def test_undo_leaves_no_receiver_and_no_header(engine: Engine, spans: Spans, metrics: Metrics) -> None:
    undo = instrument(engine, tracer_provider=spans.provider, meter_provider=metrics.provider)
    assert receivers_of(engine.namespace) == [
        "job_finished",
        "job_scheduled",
        "job_started",
        "worker_started",
    ]
    with pytest.raises(InvalidValue, match="instrument again"):
        instrument(engine, tracer_provider=spans.provider)

    @engine.task(name="work")
    async def work() -> None: ...

    assert "traceparent" in (await work.schedule()).headers
    undo()
    undo()
    assert receivers_of(engine.namespace) == []
    assert (await work.schedule()).headers == {}
    await engine.start_workers(stop_when_queue_empty=True)
    assert len(spans.all()) == 1
    assert await asyncio.to_thread(metrics.points, "aiospinach.queue.jobs") == []
    instrument(engine, tracer_provider=spans.provider, meter_provider=metrics.provider)()


async def test_a_request_that_is_not_sampled_has_no_spans(engine: Engine) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrument(engine, parent=True, tracer_provider=provider)

    @engine.task(name="work")
    async def work() -> None: ...

    job = await work.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert int(job.headers["traceparent"].rpartition("-")[2], 16) & 1 == 0
    assert exporter.get_finished_spans() == ()


async def test_without_an_sdk_jobs_run_as_before(engine: Engine) -> None:
    instrument(engine)
    ran: list[int] = []

    @engine.task(name="work")
    async def work(number: int) -> None:
        ran.append(number)

    job = await work.schedule(1)
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == [1]
    assert job.headers == {}


@pytest.mark.parametrize("value", [None, 1, "yes"])
async def test_parent_is_a_flag(engine: Engine, value: Any) -> None:
    with pytest.raises(InvalidValue, match="takes a bool"):
        instrument(engine, parent=value)
    assert receivers_of(engine.namespace) == []
