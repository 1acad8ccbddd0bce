"""Errors and spans of jobs for Sentry."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, NamedTuple

import sentry_sdk
from sentry_sdk.utils import event_from_exception

from aiospinach import Engine, InvalidValue, Job, JobStatus, RetryException, signals

from .connections import Connections
from .sentry_spans import SpanApi, api_of

TRACE_HEADER = "sentry-trace"
BAGGAGE_HEADER = "baggage"
SUCCESSFUL = (JobStatus.SUCCEEDED, JobStatus.CANCELLED, JobStatus.QUEUED)
"""States after which a try has no error: the job was put back, or somebody cancelled it."""

_sending: ContextVar[_Sending | None] = ContextVar("aiospinach_sentry_sending", default=None)
"""The schedule call that is under way in this context."""
_running: ContextVar[_Run | None] = ContextVar("aiospinach_sentry_run", default=None)


def instrument(engine: Engine, *, retries: bool = False) -> Callable[[], None]:
    """Report jobs that failed for ever, and make spans for schedule calls and tries of jobs.

    Each try has an isolation scope of its own, so that tags and breadcrumbs stay in it. ``retries`` also
    reports errors after which a job is tried again. RetryException is never reported. Arguments, and the
    local variables of the traceback, are sent only if the client may send personal data.

    Call it before or after ``sentry_sdk.init``. Returns a function that undoes this; a second call of it does
    nothing. Raises InvalidValue if the namespace of the engine is instrumented already.
    """
    if not isinstance(retries, bool):
        raise InvalidValue(f"sentry.instrument(retries=) takes a bool, not {type(retries).__name__}")
    with Connections("sentry", engine) as connections:
        connections.on_undo(engine.carry(_carry))
        connections.add(signals.job_scheduled, _on_scheduled)
        connections.add(signals.job_started, _on_started)
        connections.add(signals.job_failed, _on_failed)
        connections.add(signals.job_finished, _on_finished)
        if retries:
            connections.add(signals.job_schedule_retry, _on_failed)
        return connections.undo


class _Sending(NamedTuple):
    """The span of a schedule call."""

    api: SpanApi
    span: Any
    traceparent: str


class _Run(NamedTuple):
    """The scope and the span of a try."""

    isolation: AbstractContextManager[sentry_sdk.Scope]
    api: SpanApi
    span: Any
    job: Job
    """As it was when the try began: a retry has another moment and number."""
    began: float
    outer: _Run | None
    """The try whose body awaits this one by ``engine.execute``."""


def _carry() -> Mapping[str, str]:
    """Begin the span of a schedule call, and return the headers that lead to it.

    ``_on_scheduled`` ends the span. The span of a call that fails is never ended, and so never sent.
    """
    client = sentry_sdk.get_client()
    if not client.is_active():
        return {}
    api = api_of(client)
    span = api.begin_publish()
    if span is None:
        _sending.set(None)
        return _headers_here()
    found = dict(sentry_sdk.get_current_scope().iter_trace_propagation_headers(span=span))
    _sending.set(_Sending(api, span, found.get(TRACE_HEADER, "")))
    return found


def _on_scheduled(namespace: str, job: Job, **kwargs: Any) -> None:
    if (sending := _take_sending(job)) is not None:
        sending.api.end(sending.span, job.task_name, _message_of(job), is_error=False)


def _on_started(namespace: str, job: Job, **kwargs: Any) -> None:
    client = sentry_sdk.get_client()
    if not client.is_active():
        return
    is_inline = _take_sending(job) is not None  # it was not scheduled: engine.execute() runs it here
    headers = _headers_here() if is_inline else job.headers
    isolation = sentry_sdk.isolation_scope()
    scope = isolation.__enter__()
    scope.clear_breadcrumbs()
    scope.set_tags({"aiospinach.task": job.task_name, "aiospinach.queue": job.queue})
    scope.set_context("job", _described(job, with_arguments=_may_send_arguments(client)))
    scope.set_transaction_name(job.task_name, source="task")
    # Both are needed: of an event with an error, an error processor is the first to see it.
    scope.add_error_processor(lambda event, exc_info: None if _is_of_log(event, job) else event)
    scope.add_event_processor(lambda event, hint: None if _is_of_log(event, job) else event)
    api = api_of(client)
    span = api.begin_process(headers, job.task_name)
    _running.set(_Run(isolation, api, span, job, time.time(), _running.get()))


def _on_failed(namespace: str, job: Job, err: BaseException, **kwargs: Any) -> None:
    if isinstance(err, RetryException):
        return
    client = sentry_sdk.get_client()
    event, hint = event_from_exception(
        err,
        client_options=dict(client.options),
        mechanism={"type": "aiospinach", "handled": job.status is not JobStatus.FAILED},
    )
    if not _may_send_arguments(client):
        _remove_variables(event)
    sentry_sdk.capture_event(event, hint=hint)


def _on_finished(namespace: str, job: Job, err: BaseException | None, duration: float, **kwargs: Any) -> None:
    run = _running.get()
    if run is None:
        return
    _running.set(run.outer)
    is_error = job.status not in SUCCESSFUL and not isinstance(err, RetryException)
    latency = max(0.0, run.began - run.job.at.timestamp()) * 1000
    data = _message_of(job) | {
        "messaging.message.retry.count": run.job.retries,
        "messaging.message.receive.latency": latency,
    }
    try:
        run.api.end(run.span, job.task_name, data, is_error=is_error, at=run.began + duration)
    finally:
        run.isolation.__exit__(None, None, None)


def _take_sending(job: Job) -> _Sending | None:
    """The schedule call that is under way, if the headers of the job lead to it. It is taken once."""
    sending = _sending.get()
    if sending is None or job.headers.get(TRACE_HEADER) != sending.traceparent:
        return None  # no span, or a job of another call
    _sending.set(None)
    return sending


def _headers_here() -> Mapping[str, str]:
    """The headers that lead to the current context."""
    headers = {TRACE_HEADER: sentry_sdk.get_traceparent(), BAGGAGE_HEADER: sentry_sdk.get_baggage()}
    return {name: value for name, value in headers.items() if value}


def _message_of(job: Job) -> dict[str, Any]:
    return {
        "messaging.system": "aiospinach",
        "messaging.message.id": job.id,
        "messaging.destination.name": job.queue,
    }


def _described(job: Job, *, with_arguments: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": job.id,
        "task": job.task_name,
        "queue": job.queue,
        "namespace": job.namespace,
        "try": job.retries + 1,
        "max_retries": job.max_retries,
    }
    return described | ({"args": job.args, "kwargs": job.kwargs} if with_arguments else {})


def _remove_variables(event: Any) -> None:
    """Remove the local variables from the traceback: those of the body hold the arguments."""
    for error in event["exception"]["values"]:
        for frame in (error.get("stacktrace") or {}).get("frames", ()):
            frame.pop("vars", None)


def _may_send_arguments(client: Any) -> bool:
    """The newer setting names the data of queues; the older one is about all personal data."""
    collected = client.options.get("data_collection")
    if collected and collected.get("provided_by_user"):
        return bool(collected.get("queues"))
    return bool(client.should_send_default_pii())


def _is_of_log(event: Mapping[str, Any], job: Job) -> bool:
    """A line of our own log about the job: its error is reported once, by ``_on_failed``."""
    return event.get("logger") == "aiospinach" and event.get("extra", {}).get("job_id") == job.id
