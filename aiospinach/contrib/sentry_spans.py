"""The two ways to make spans for Sentry: transactions with child spans, and streamed spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import sentry_sdk

ORIGIN = "auto.queue.aiospinach"
PUBLISH = "queue.publish"
PROCESS = "queue.process"


class SpanApi(Protocol):
    """Makes the spans of jobs in one of the two ways."""

    def begin_publish(self) -> Any:
        """Begin the span of a schedule call. Returns None if no span is active that it can belong to."""

    def begin_process(self, headers: Mapping[str, str], name: str) -> Any:
        """Begin the span of a try, in the trace that the headers lead to, and make it the active one."""

    def end(
        self, span: Any, name: str, data: Mapping[str, Any], *, is_error: bool, at: float | None = None
    ) -> None:
        """End a span, now or ``at`` a moment in seconds since 1970."""


class Transactions:
    """Spans that are sent together with their transaction."""

    def begin_publish(self) -> Any:
        if sentry_sdk.get_current_span() is None:
            return None
        return sentry_sdk.start_span(op=PUBLISH, name="schedule", origin=ORIGIN)

    def begin_process(self, headers: Mapping[str, str], name: str) -> Any:
        continued = sentry_sdk.continue_trace(
            dict(headers), op=PROCESS, name=name, source="task", origin=ORIGIN
        )
        transaction = sentry_sdk.start_transaction(continued)
        sentry_sdk.get_current_scope().span = transaction
        return transaction

    def end(
        self, span: Any, name: str, data: Mapping[str, Any], *, is_error: bool, at: float | None = None
    ) -> None:
        span.description = name
        for key, value in data.items():
            span.set_data(key, value)
        span.set_status("internal_error" if is_error else "ok")
        span.finish(end_timestamp=at)


class StreamedSpans:
    """Spans that are sent one by one, which newer releases of the SDK have."""

    def begin_publish(self) -> Any:
        from sentry_sdk import traces

        if traces.get_current_span() is None:
            return None
        attributes: dict[str, Any] = {"sentry.op": PUBLISH, "sentry.origin": ORIGIN}
        return traces.start_span("schedule", attributes, active=False)

    def begin_process(self, headers: Mapping[str, str], name: str) -> Any:
        from sentry_sdk import traces

        traces.continue_trace(dict(headers))
        attributes: dict[str, Any] = {
            "sentry.op": PROCESS,
            "sentry.origin": ORIGIN,
            "sentry.segment.name.source": "task",
        }
        return traces.start_span(name, attributes, parent_span=None)

    def end(
        self, span: Any, name: str, data: Mapping[str, Any], *, is_error: bool, at: float | None = None
    ) -> None:
        span.name = name
        span.set_attributes(dict(data))
        span.status = "error" if is_error else "ok"
        span.end(at)


_TRANSACTIONS = Transactions()
_STREAMED_SPANS = StreamedSpans()


def api_of(client: Any) -> SpanApi:
    """The way that ``sentry_sdk.init(trace_lifecycle=)`` has chosen."""
    options = client.options
    experiments = options.get("_experiments") or {}
    lifecycle = options.get("trace_lifecycle") or experiments.get("trace_lifecycle")
    return _STREAMED_SPANS if lifecycle == "stream" else _TRANSACTIONS
