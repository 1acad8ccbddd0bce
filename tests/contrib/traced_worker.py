"""A worker of another process, which runs one job and prints its spans as JSON.

Run with the address of a server, a namespace, and ``True`` or ``False`` for ``parent``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aiospinach import Engine, RedisBroker, signals
from aiospinach.contrib.opentelemetry import instrument


async def main(url: str, namespace: str, parent: str) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    finished = asyncio.Event()
    async with Engine(RedisBroker(url), namespace) as engine:
        instrument(engine, parent=parent == "True", tracer_provider=provider)

        @signals.job_finished.connect_via(namespace)
        def on_finished(namespace: str, **kwargs: Any) -> None:
            finished.set()

        @engine.task(name="bill", max_retries=1)
        async def bill() -> None: ...

        await engine.start_workers(1, block=False)
        async with asyncio.timeout(30):
            await finished.wait()
    spans = [
        {
            "name": span.name,
            "trace": span.context.trace_id if span.context else None,
            "parent": [span.parent.trace_id, span.parent.span_id] if span.parent else None,
            "links": [[link.context.trace_id, link.context.span_id] for link in span.links],
            "retries": dict(span.attributes or {}).get("aiospinach.retries"),
        }
        for span in exporter.get_finished_spans()
    ]
    print(json.dumps(spans))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
