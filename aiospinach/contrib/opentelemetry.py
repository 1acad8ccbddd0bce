"""Spans and metrics of jobs for OpenTelemetry, of which only the API is needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from typing import Any, NamedTuple

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Status, StatusCode

from aiospinach import Engine, InvalidValue, Job, RetryException, __version__, signals

from .connections import Connections
from .opentelemetry_attributes import (
    CLIENT_ID,
    ERROR_TYPE,
    MESSAGE_ID,
    OUTCOME,
    RETRIES,
    attributes_of,
    name_of,
    outcome_of,
)
from .opentelemetry_metrics import Metrics

LONGEST_HEADER = 1024
"""Characters of a header that are carried at most: baggage may be long, and headers of jobs are few bytes."""

_sending: ContextVar[Span | None] = ContextVar("aiospinach_opentelemetry_sending", default=None)
"""The span of the schedule call that is under way in this context."""
_running: ContextVar[_Run | None] = ContextVar("aiospinach_opentelemetry_run", default=None)


def instrument(
    engine: Engine,
    *,
    parent: bool = False,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> Callable[[], None]:
    """Make a span for each schedule call and for each try of a job, and count both.

    The span of a try begins a trace of its own, with a link to the span of the schedule call. With
    ``parent`` it is a child of that span, and all tries are in its trace. The providers are the global ones
    by default. No argument, result or message of an error is exported.

    Returns a function that undoes this; a second call of it does nothing. Raises InvalidValue if the
    namespace of the engine is instrumented already.
    """
    if not isinstance(parent, bool):
        raise InvalidValue(f"opentelemetry.instrument(parent=) takes a bool, not {type(parent).__name__}")
    with Connections("opentelemetry", engine) as connections:
        spans = Spans(trace.get_tracer("aiospinach", __version__, tracer_provider), parent=parent)
        counts = Metrics(engine, meter_provider or metrics.get_meter_provider())
        connections.on_undo(counts.close)
        connections.on_undo(engine.carry(spans.carry))
        connections.add(signals.worker_started, spans.on_worker_started)
        connections.add(signals.worker_started, counts.on_worker_started)
        connections.add(signals.job_scheduled, spans.on_scheduled)
        connections.add(signals.job_scheduled, counts.on_scheduled)
        connections.add(signals.job_started, spans.on_started)
        connections.add(signals.job_started, counts.on_started)
        connections.add(signals.job_finished, spans.on_finished)
        connections.add(signals.job_finished, counts.on_finished)
        return connections.undo


class _Run(NamedTuple):
    """The span of a try that is under way."""

    span: Span
    began: int
    token: Token[Context]
    outer: _Run | None
    """The try whose body awaits this one by ``engine.execute``."""


class Spans:
    """Makes the spans of one engine."""

    def __init__(self, tracer: trace.Tracer, *, parent: bool) -> None:
        self._tracer = tracer
        self._parent = parent
        self._worker_name = ""

    def carry(self) -> Mapping[str, str]:
        """Begin the span of a schedule call, and return the headers that lead to it.

        ``on_scheduled`` ends the span. The span of a call that fails is never ended, and so never exported;
        the next call in its context replaces it.
        """
        span = self._tracer.start_span("schedule", kind=SpanKind.PRODUCER)
        _sending.set(span)
        headers: dict[str, str] = {}
        inject(headers, context=trace.set_span_in_context(span))
        return {name: value for name, value in headers.items() if len(value) <= LONGEST_HEADER}

    def on_worker_started(self, namespace: str, worker_name: str, **kwargs: Any) -> None:
        self._worker_name = worker_name

    def on_scheduled(self, namespace: str, job: Job, **kwargs: Any) -> None:
        if (span := _take_sending(_context_of(job))) is None:
            return
        span.update_name(f"schedule {job.task_name}")
        span.set_attributes(attributes_of(job, "schedule", "send") | {MESSAGE_ID: job.id})
        span.end()

    def on_started(self, namespace: str, job: Job, **kwargs: Any) -> None:
        came_with, links = _context_of(job), []
        sender = trace.get_current_span(came_with).get_span_context()
        if _take_sending(came_with) is not None:  # it was not scheduled: engine.execute() runs it here
            came_with = context.get_current()
        elif sender.is_valid and not self._parent:
            links.append(Link(sender))
            came_with = trace.set_span_in_context(INVALID_SPAN, came_with)
        attributes = attributes_of(job, "process", "process") | {MESSAGE_ID: job.id, RETRIES: job.retries}
        if self._worker_name:
            attributes[CLIENT_ID] = self._worker_name
        began = time.time_ns()
        span = self._tracer.start_span(
            f"process {job.task_name}",
            context=came_with,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=links,
            start_time=began,
        )
        token = context.attach(trace.set_span_in_context(span, came_with))
        _running.set(_Run(span, began, token, _running.get()))

    def on_finished(
        self, namespace: str, job: Job, err: BaseException | None, duration: float, **kwargs: Any
    ) -> None:
        """End the span when the body ended: this signal also waits for the store."""
        run = _running.get()
        if run is None:
            return
        _running.set(run.outer)
        outcome = outcome_of(job)
        run.span.set_attribute(OUTCOME, outcome)
        if err is not None:
            run.span.set_attribute(ERROR_TYPE, name_of(err))
        if outcome in ("failed", "lost") or (outcome == "retried" and not isinstance(err, RetryException)):
            run.span.set_status(Status(StatusCode.ERROR))
        run.span.end(end_time=run.began + int(duration * 1_000_000_000))
        context.detach(run.token)


def _take_sending(came_with: Context) -> Span | None:
    """The span of the call that is under way, if the headers lead to it. It is taken once."""
    span = _sending.get()
    sender = trace.get_current_span(came_with).get_span_context()
    if span is None or not sender.is_valid or sender.span_id != span.get_span_context().span_id:
        return None  # no SDK, or a job of another call
    _sending.set(None)
    return span


def _context_of(job: Job) -> Context:
    """The context that the headers of a job lead to; it has nothing of the caller's context."""
    return extract(job.headers, context=Context())
