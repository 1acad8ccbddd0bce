"""Trace, measure and log the same jobs. Everything is kept in memory, and nothing is sent.

    pip install 'aiospinach[opentelemetry,prometheus,structlog]' opentelemetry-sdk
    python examples/observability.py

A request schedules an order, which is tried twice and schedules a mail. The program prints the events that
the jobs log, then the spans, each with its parent or with the span that it is linked to, and then metrics.
"""

import asyncio
import logging
from datetime import timedelta

import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from aiospinach import Engine, MemoryBroker, RetryException, current_job
from aiospinach.contrib import opentelemetry, prometheus
from aiospinach.contrib import structlog as job_log

exporter, provider, registry = InMemorySpanExporter(), TracerProvider(), CollectorRegistry()
provider.add_span_processor(SimpleSpanProcessor(exporter))
renderer = structlog.processors.KeyValueRenderer(sort_keys=True, key_order=["event", "task_name", "job_try"])
structlog.configure(processors=[structlog.contextvars.merge_contextvars, renderer])
logging.getLogger("aiospinach").setLevel(logging.ERROR)  # a planned retry is a warning

engine = Engine(MemoryBroker(), namespace="shop")
opentelemetry.instrument(engine, tracer_provider=provider)
prometheus.instrument(engine, registry)
job_log.instrument(engine)
log = structlog.get_logger()


@engine.task(name="order", max_retries=1)
async def order(number: int) -> None:
    job = current_job()
    if job is not None and job.retries == 0:
        log.info("out of stock")
        raise RetryException("out of stock", at=timedelta(0))
    log.info("shipped")
    await mail.schedule(number)


@engine.task(name="mail")
def mail(number: int) -> None:
    log.info("sent")


def print_spans() -> None:
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans if span.context}
    for span in spans:
        origins = [names[link.context.span_id] for link in span.links]
        if span.parent is not None:
            origins.append(names[span.parent.span_id])
        print(f"{span.name}, from {', '.join(origins) or 'nowhere'}")


def print_metrics() -> None:
    for task in ("order", "mail"):
        labels = {"namespace": "shop", "task": task, "queue": "default"}
        ended = registry.get_sample_value("aiospinach_jobs_total", labels | {"outcome": "succeeded"})
        retries = registry.get_sample_value("aiospinach_job_retries_total", labels)
        print(f"{task}: {ended:.0f} succeeded, {retries or 0:.0f} retries")


async def main() -> None:
    with provider.get_tracer("shop").start_as_current_span("request"):
        await order.schedule(1)
    await engine.start_workers(stop_when_queue_empty=True)


if __name__ == "__main__":
    asyncio.run(main())
    print_spans()
    print_metrics()
