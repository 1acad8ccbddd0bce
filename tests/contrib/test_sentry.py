"""Errors and spans of jobs, in the transport of the real SDK."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from aiospinach import (
    AbortException,
    BrokerError,
    Engine,
    InvalidValue,
    RedisBroker,
    RetryException,
    current_job,
    signals,
)
from aiospinach.contrib.sentry import instrument

from ..brokers_under_test import MakeBroker
from ..waiting import until
from .conftest import lose_a_worker, receivers_of

LIFECYCLES = [None, "stream"]
# Not written out below: events have lines of source code.
CANARIES = ["-".join(["canary", number]) for number in "12"]


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.envelopes: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)


class Sent:
    """What the SDK has sent."""

    def __init__(self, transport: Kept) -> None:
        self._transport = transport

    @property
    def text(self) -> str:
        sentry_sdk.get_client().flush()
        return "".join(envelope.serialize().decode() for envelope in self._transport.envelopes)

    @property
    def events(self) -> list[dict[str, Any]]:
        found = [envelope.get_event() for envelope in self._transport.envelopes]
        return [dict(event) for event in found if event is not None]

    @property
    def spans(self) -> list[dict[str, Any]]:
        """Transactions, their spans and streamed spans, in one form."""
        sentry_sdk.get_client().flush()
        found = []
        for envelope in self._transport.envelopes:
            transaction: Any = envelope.get_transaction_event()
            if transaction is not None:
                root = transaction["contexts"]["trace"]
                root["description"] = transaction["transaction"]
                root["start_timestamp"] = transaction["start_timestamp"]
                root["timestamp"] = transaction["timestamp"]
                found += [_in_one_form(span) for span in (root, *transaction["spans"])]
            for item in envelope.items:
                if item.type == "span":
                    streamed: Any = json.loads(item.get_bytes())
                    found += [_streamed_in_one_form(span) for span in streamed["items"]]
        return found

    def spans_of(self, op: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["op"] == op]


def _in_one_form(span: dict[str, Any]) -> dict[str, Any]:
    return {
        "op": span.get("op"),
        "name": span.get("description"),
        "trace": span["trace_id"],
        "id": span["span_id"],
        "parent": span.get("parent_span_id"),
        "data": span.get("data", {}),
        "is_error": span.get("status") == "internal_error",
        "seconds": (span["timestamp"] - span["start_timestamp"]).total_seconds()
        if not isinstance(span["timestamp"], (str, float))
        else None,
    }


def _streamed_in_one_form(span: dict[str, Any]) -> dict[str, Any]:
    data = {key: value["value"] for key, value in span["attributes"].items()}
    return {
        "op": data.get("sentry.op"),
        "name": span["name"],
        "trace": span["trace_id"],
        "id": span["span_id"],
        "parent": span.get("parent_span_id"),
        "data": data,
        "is_error": span["status"] == "error",
        "seconds": span["end_timestamp"] - span["start_timestamp"],
    }


Start = Callable[..., Sent]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the SDK, with what it would send kept in memory."""

    def init(lifecycle: str | None = None, **options: Any) -> Sent:
        transport = Kept()
        chosen: dict[str, Any] = {} if lifecycle is None else {"trace_lifecycle": lifecycle}
        sentry_sdk.init(
            dsn="http://key@127.0.0.1:9/1",
            transport=transport,
            default_integrations=False,
            auto_enabling_integrations=False,
            enable_backpressure_handling=False,  # a thread
            integrations=[LoggingIntegration(), DedupeIntegration()],
            **(chosen | {"traces_sample_rate": 1.0} | options),
        )
        return Sent(transport)

    yield init
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


@contextlib.contextmanager
def request_span(lifecycle: str | None) -> Iterator[tuple[str, str]]:
    """A span of a web request; yields its trace and its id."""
    if lifecycle == "stream":
        from sentry_sdk import traces

        with traces.start_span("request") as streamed:
            yield streamed.trace_id, streamed.span_id
    else:
        with sentry_sdk.start_transaction(op="http.server", name="request") as transaction:
            yield transaction.trace_id, transaction.span_id


@pytest.mark.parametrize("lifecycle", LIFECYCLES)
async def test_a_request_its_job_and_a_retry_are_one_trace(
    any_engine: Engine, start: Start, lifecycle: str | None
) -> None:
    engine, sent = any_engine, start(lifecycle)
    undo = instrument(engine)

    @engine.task(name="bill", queue="mail", max_retries=1, backoff=lambda retry: 0)
    async def bill() -> None:
        job = current_job()
        assert job is not None
        if job.retries == 0:
            raise LookupError

    with request_span(lifecycle) as (trace, request):
        job = await bill.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    undo()
    assert set(job.headers) == {"sentry-trace", "baggage"}
    [publish] = sent.spans_of("queue.publish")
    assert (publish["trace"], publish["parent"], publish["name"]) == (trace, request, "bill")
    runs = sent.spans_of("queue.process")
    assert [(run["trace"], run["parent"], run["name"]) for run in runs] == [
        (trace, publish["id"], "bill")
    ] * 2
    assert [run["is_error"] for run in runs] == [True, False]
    for span in (publish, *runs):
        assert span["data"]["messaging.message.id"] == job.id
        assert span["data"]["messaging.destination.name"] == "mail"
        assert span["data"]["messaging.system"] == "aiospinach"
    assert [run["data"]["messaging.message.retry.count"] for run in runs] == [0, 1]
    assert all(0 <= run["data"]["messaging.message.receive.latency"] < 60_000 for run in runs)
    assert sent.events == []


@pytest.mark.parametrize("lifecycle", LIFECYCLES)
async def test_a_final_failure_is_one_event_in_the_trace_of_the_job(
    any_engine: Engine, start: Start, lifecycle: str | None
) -> None:
    engine, sent = any_engine, start(lifecycle)
    instrument(engine)

    @engine.task(name="fail", max_retries=1, backoff=lambda retry: 0)
    async def fail() -> None:
        sentry_sdk.add_breadcrumb(message="before the error")
        raise LookupError("no such order")

    job = await fail.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    [event] = sent.events
    [error] = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("LookupError", "no such order")
    assert error["mechanism"]["type"] == "aiospinach"
    assert error["mechanism"]["handled"] is False
    assert event["contexts"]["job"] == {
        "id": job.id,
        "task": "fail",
        "queue": "default",
        "namespace": engine.namespace,
        "try": 2,
        "max_retries": 1,
    }
    assert event["tags"] == {"aiospinach.task": "fail", "aiospinach.queue": "default"}
    assert event["transaction"] == "fail"
    crumbs = [crumb["message"] for crumb in event["breadcrumbs"]["values"]]
    assert crumbs.count("before the error") == 1  # the first try has another scope
    runs = {run["id"]: run["trace"] for run in sent.spans_of("queue.process")}
    trace = event["contexts"]["trace"]
    assert runs[trace["span_id"]] == trace["trace_id"]


async def test_an_error_that_the_log_shows_with_its_traceback_is_one_event(
    any_engine: Engine, start: Start
) -> None:
    sent = start()
    instrument(any_engine)

    @any_engine.task(name="fail")
    async def fail() -> None:
        raise LookupError

    await fail.schedule()
    await any_engine.start_workers(stop_when_queue_empty=True)
    [event] = sent.events
    assert event["exception"]["values"][0]["mechanism"]["type"] == "aiospinach"


async def test_an_error_that_the_job_has_captured_is_one_event(engine: Engine, start: Start) -> None:
    sent = start()
    instrument(engine)

    @engine.task(name="fail")
    async def fail() -> None:
        try:
            raise LookupError
        except LookupError:
            sentry_sdk.capture_exception()
            raise

    await fail.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert len(sent.events) == 1


async def test_a_job_whose_worker_died_is_one_event(
    make_broker: MakeBroker, namespace: str, start: Start
) -> None:
    sent = start()
    async with Engine(make_broker(lease=0.2), namespace) as engine:
        instrument(engine)

        @engine.task(name="work")
        async def work() -> None: ...

        await work.schedule()
        await lose_a_worker(engine)
        await engine.start_workers(1, block=False)
        await until(lambda: sent.events, "the job failed")
    [event] = sent.events
    assert event["exception"]["values"][0]["type"] == "WorkerLost"


async def test_retries_are_events_if_they_are_asked_for(engine: Engine, start: Start) -> None:
    sent = start()
    instrument(engine, retries=True)

    @engine.task(name="fail", max_retries=2, backoff=lambda retry: 0)
    async def fail() -> None:
        raise LookupError

    await fail.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    handled = [event["exception"]["values"][0]["mechanism"]["handled"] for event in sent.events]
    assert handled == [True, True, False]


async def test_a_planned_retry_is_no_event_and_no_error(engine: Engine, start: Start) -> None:
    sent = start()
    instrument(engine, retries=True)

    @engine.task(name="wait", max_retries=1, backoff=lambda retry: 0)
    async def wait() -> None:
        raise RetryException

    await wait.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert sent.events == []
    assert [run["is_error"] for run in sent.spans_of("queue.process")] == [False, False]


async def test_an_aborted_job_is_an_event_and_a_cancelled_one_is_not(engine: Engine, start: Start) -> None:
    sent = start()
    instrument(engine)

    @engine.task(name="abort", max_retries=3)
    async def abort() -> None:
        raise AbortException("in vain")

    @engine.task(name="cancel")
    async def cancel() -> None:
        job = current_job()
        assert job is not None
        await engine.cancel(job)
        await asyncio.Event().wait()

    await abort.schedule()
    await cancel.schedule()
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert [event["transaction"] for event in sent.events] == ["abort"]
    assert {run["name"]: run["is_error"] for run in sent.spans_of("queue.process")} == {
        "abort": True,
        "cancel": False,
    }


async def test_what_a_job_logs_and_captures_itself_is_an_event_with_the_job(
    engine: Engine, start: Start
) -> None:
    sent = start()
    instrument(engine)

    @engine.task(name="work")
    def work() -> None:  # in a thread
        logging.getLogger("shop").error("no such order")

    job = await work.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    [event] = sent.events
    assert event["logentry"]["message"] == "no such order"
    assert event["contexts"]["job"]["id"] == job.id


@pytest.mark.parametrize("lifecycle", LIFECYCLES)
async def test_concurrent_jobs_do_not_mix(engine: Engine, start: Start, lifecycle: str | None) -> None:
    sent = start(lifecycle)
    instrument(engine)

    @engine.task(name="fail")
    async def fail(number: int) -> None:
        for step in range(3):
            sentry_sdk.add_breadcrumb(message=f"step {step} of {number}")
            await asyncio.sleep(0)
        sentry_sdk.set_tag("number", str(number))
        await asyncio.sleep(0)
        raise LookupError(f"number {number}")

    sentry_sdk.add_breadcrumb(message="of the worker")
    for number in range(200):
        await fail.schedule(number)
    await engine.start_workers(200, stop_when_queue_empty=True)
    events = sent.events
    assert len(events) == 200
    numbers = set()
    for event in events:
        number = event["tags"]["number"]
        numbers.add(number)
        assert event["exception"]["values"][0]["value"] == f"number {number}"
        crumbs = [crumb["message"] for crumb in event["breadcrumbs"]["values"] if crumb["type"] != "log"]
        assert crumbs == [f"step {step} of {number}" for step in range(3)]
    assert len(numbers) == 200
    assert "number" not in sentry_sdk.get_isolation_scope()._tags


@pytest.mark.filterwarnings("ignore:The send_default_pii option:DeprecationWarning")
@pytest.mark.parametrize("lifecycle", LIFECYCLES)
@pytest.mark.parametrize("pii", [False, True])
async def test_arguments_are_sent_if_personal_data_may_be(
    engine: Engine, start: Start, lifecycle: str | None, pii: bool
) -> None:
    sent = start(lifecycle, send_default_pii=pii)
    instrument(engine)

    @engine.task(name="fail")
    async def fail(secret: str, *, other: str) -> None:
        try:
            raise KeyError
        except KeyError as error:
            raise LookupError from error

    with request_span(lifecycle):
        await fail.schedule(CANARIES[0], other=CANARIES[1])
    await engine.start_workers(stop_when_queue_empty=True)
    text = sent.text
    assert "queue.process" in text
    assert [canary in text for canary in CANARIES] == [pii, pii]
    if pii:
        job = sent.events[0]["contexts"]["job"]
        assert (job["args"], job["kwargs"]) == ([CANARIES[0]], {"other": CANARIES[1]})


@pytest.mark.parametrize("queues", [False, True])
async def test_the_setting_for_data_of_queues_counts_more(engine: Engine, start: Start, queues: bool) -> None:
    sent = start(data_collection={"queues": queues})
    instrument(engine)

    @engine.task(name="fail")
    async def fail(secret: str) -> None:
        raise LookupError

    await fail.schedule(CANARIES[0])
    await engine.start_workers(stop_when_queue_empty=True)
    assert ("args" in sent.events[0]["contexts"]["job"]) is queues
    assert (CANARIES[0] in sent.text) is queues


async def test_a_password_of_the_broker_is_in_no_event(namespace: str, start: Start) -> None:
    sent = start()
    broker = RedisBroker("redis://user:canary@127.0.0.1:1", enqueue_timeout=0.05)
    engine = Engine(broker, namespace)
    instrument(engine)

    @engine.task(name="work")
    async def work() -> None: ...

    with request_span(None), pytest.raises(BrokerError) as caught:
        await work.schedule()
    sentry_sdk.capture_message(str(caught.value))
    assert "request" in sent.text
    assert "canary" not in sent.text


async def test_a_call_that_fails_has_no_span(
    engine: Engine, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = start()
    instrument(engine)

    @engine.task(name="work")
    async def work() -> None: ...

    async def refuse(*args: Any, **kwargs: Any) -> Any:
        raise BrokerError("full")

    with request_span(None):
        with monkeypatch.context() as patch:
            patch.setattr(engine._broker, "enqueue", refuse)
            with pytest.raises(BrokerError):
                await work.schedule()
        job = await work.schedule()
    [publish] = sent.spans_of("queue.publish")
    assert publish["data"]["messaging.message.id"] == job.id


async def test_a_job_that_runs_inline_leaves_the_scope_of_its_caller(engine: Engine, start: Start) -> None:
    sent = start()
    instrument(engine)
    scope = sentry_sdk.get_isolation_scope()

    @engine.task(name="work")
    async def work() -> None:
        sentry_sdk.set_tag("inner", "1")
        raise LookupError

    with request_span(None) as (trace, request), pytest.raises(LookupError):
        await engine.execute(work)
    assert sentry_sdk.get_isolation_scope() is scope
    [run] = sent.spans_of("queue.process")
    assert (run["trace"], run["parent"]) == (trace, request)
    assert sent.spans_of("queue.publish") == []
    sentry_sdk.capture_message("outside")
    [event] = sent.events  # the caller has the error of the job
    assert "inner" not in event.get("tags", {})


@pytest.mark.parametrize("lifecycle", LIFECYCLES)
async def test_a_job_that_executes_another_has_a_span(
    engine: Engine, start: Start, lifecycle: str | None
) -> None:
    sent = start(lifecycle)
    instrument(engine)
    scope = sentry_sdk.get_isolation_scope()

    @engine.task(name="inner")
    async def inner() -> None: ...

    @engine.task(name="outer")
    async def outer() -> None:
        await engine.execute(inner)

    await outer.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    runs = {run["name"]: run for run in sent.spans_of("queue.process")}
    assert runs["inner"]["parent"] == runs["outer"]["id"]
    assert sentry_sdk.get_isolation_scope() is scope


class Slow(Transport):
    """A transport that raises."""

    def capture_envelope(self, envelope: Envelope) -> None:
        raise OSError("no network")


async def test_a_transport_that_fails_changes_no_job(
    engine: Engine, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    start()
    sentry_sdk.get_client().transport = Slow()
    instrument(engine)
    failed: list[str] = []

    @signals.job_failed.connect_via(engine.namespace)
    def on_failed(namespace: str, job: Any, **kwargs: Any) -> None:
        failed.append(job.id)

    @engine.task(name="fail")
    async def fail() -> None:
        raise LookupError

    job = await fail.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert failed == [job.id]
    sentry_sdk.get_client().transport = None
    assert "no network" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("lifecycle", LIFECYCLES)
@pytest.mark.parametrize("rate", [0.0, None])
async def test_without_spans_an_error_is_in_the_trace_of_the_request(
    engine: Engine, start: Start, lifecycle: str | None, rate: float | None
) -> None:
    sent = start(lifecycle, traces_sample_rate=rate)
    instrument(engine)

    @engine.task(name="fail")
    async def fail() -> None:
        raise LookupError

    with contextlib.nullcontext() if rate is None else request_span(lifecycle):
        sentry_sdk.capture_message("in the request")
        await fail.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    in_request, in_job = sent.events
    assert in_job["contexts"]["job"]["task"] == "fail"
    assert in_job["contexts"]["trace"]["trace_id"] == in_request["contexts"]["trace"]["trace_id"]
    assert sent.spans == []


async def test_without_a_client_jobs_run_as_before(engine: Engine) -> None:
    instrument(engine)
    ran: list[int] = []

    @engine.task(name="work")
    async def work(number: int) -> None:
        ran.append(number)
        raise LookupError

    job = await work.schedule(1)
    await engine.start_workers(stop_when_queue_empty=True)
    assert ran == [1]
    assert job.headers == {}


async def test_undo_leaves_no_receiver_and_no_header(engine: Engine, start: Start) -> None:
    start()
    undo = instrument(engine, retries=True)
    assert receivers_of(engine.namespace) == [
        "job_failed",
        "job_finished",
        "job_schedule_retry",
        "job_scheduled",
        "job_started",
    ]
    with pytest.raises(InvalidValue, match="instrument again"):
        instrument(engine)

    @engine.task(name="work")
    async def work() -> None: ...

    assert "sentry-trace" in (await work.schedule()).headers
    undo()
    undo()
    assert receivers_of(engine.namespace) == []
    assert (await work.schedule()).headers == {}


async def test_retries_is_a_flag(engine: Engine) -> None:
    with pytest.raises(InvalidValue, match="takes a bool, not str"):
        instrument(engine, retries="yes")  # type: ignore[arg-type]
