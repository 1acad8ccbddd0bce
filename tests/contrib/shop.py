"""A shop whose requests schedule jobs: the program of ``test_one_story.py``, in each of its processes.

Every process appends what it exports, logs and sees to a file of its own, as lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import sentry_sdk
import structlog
from fastapi import FastAPI, Request
from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from structlog.contextvars import bind_contextvars, bound_contextvars, merge_contextvars

from aiospinach import Engine, Job, RedisBroker, current_job
from aiospinach.contrib import opentelemetry as otel
from aiospinach.contrib import sentry
from aiospinach.contrib import structlog as job_log

PROCESS = os.environ["SHOP_PROCESS"]
REQUESTS = int(os.environ["SHOP_REQUESTS"])
PATH = Path(os.environ["SHOP_FOLDER"], f"{PROCESS}.jsonl")
_lock = threading.Lock()

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
tenant: ContextVar[str | None] = ContextVar("tenant", default=None)


def note(kind: str, **fields: object) -> None:
    with _lock, PATH.open("a") as file:
        print(json.dumps({"kind": kind, "process": PROCESS} | fields), file=file)


class SpanLines(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            attributes = dict(span.attributes or {})
            note(
                "span",
                name=span.name,
                trace=trace.format_trace_id(span.context.trace_id),
                request_id=attributes.get("request_id"),
                tenant=attributes.get("tenant"),
            )
        return SpanExportResult.SUCCESS


class EventLines(Transport):
    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            note(
                "event",
                **{name: event.get("tags", {}).get(name) for name in ("request_id", "tenant", "trace")},
            )


def log_line(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    note("log", **{name: event.get(name) for name in ("event", "request_id", "tenant", "trace", "job_try")})
    raise structlog.DropEvent


provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(SpanLines()))
tracer = provider.get_tracer("shop")
sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=EventLines, default_integrations=False)
structlog.configure(processors=[merge_contextvars, log_line])
logger = structlog.get_logger()

engine = Engine(RedisBroker(os.environ["SHOP_REDIS"]), os.environ["SHOP_NAMESPACE"])
engine.carry(request_id, tenant)
otel.instrument(engine, parent=True, tracer_provider=provider)
sentry.instrument(engine, retries=True)
job_log.instrument(engine)


def trace_id() -> str:
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)


@engine.around
@contextmanager
def named(job: Job) -> Iterator[None]:
    """The three names on everything that leaves the process during a try."""
    names = {"request_id": request_id.get(), "tenant": tenant.get()}
    trace.get_current_span().set_attributes({name: value or "" for name, value in names.items()})
    sentry_sdk.set_tags(names | {"trace": trace_id()})
    with bound_contextvars(**names, trace=trace_id()):
        yield


ran = 0


@engine.task(max_retries=9, backoff=lambda retry: 1)
async def charge(order: int) -> None:
    global ran
    job = current_job()
    assert job is not None
    note("body", order=order, request_id=request_id.get(), tenant=tenant.get(), trace=trace_id())
    logger.info("charging")
    await asyncio.sleep(0)
    if PROCESS == "first":
        ran += job.retries == 0
        if ran == REQUESTS:
            await engine.stop_workers()
        raise ConnectionError("the bank is away")
    await notify.schedule(order)


@engine.task
def notify(order: int) -> None:
    global ran
    note("thread", order=order, request_id=request_id.get(), tenant=tenant.get(), trace=trace_id())
    with _lock:
        ran += 1
    if ran == REQUESTS:
        engine.blocking.schedule(finish)


@engine.task
async def finish() -> None:
    await engine.stop_workers()


app = FastAPI()


@app.get("/")
async def root() -> None: ...


@app.post("/orders/{order}")
async def take(order: int, request: Request) -> str:
    request_id.set(request.headers["x-request-id"])
    tenant.set(request.headers["x-tenant"])
    with tracer.start_as_current_span("request", context=extract(request.headers), kind=SpanKind.SERVER):
        bind_contextvars(request_id=request_id.get(), tenant=tenant.get(), trace=trace_id())
        await asyncio.sleep(0)
        job = await charge.schedule(order)
        logger.info("scheduled")
    return job.id


async def work() -> None:
    async with engine:
        await engine.start_workers(20)


if __name__ == "__main__":
    sys.exit(asyncio.run(work()))
