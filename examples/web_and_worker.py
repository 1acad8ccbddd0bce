"""A web application that only schedules jobs, and workers in other processes that run them.

    pip install fastapi uvicorn
    export REDIS_URL=redis://localhost:6379/0
    uvicorn --app-dir examples web_and_worker:app
    python examples/web_and_worker.py          as many of these as there is work for

    curl -X POST localhost:8000/reports -H "Content-Type: application/json" -d '{"id": "may", "lines": 3}' \\
        -H "X-Request-ID: r-17"

answers ``{"id":"may","is_new":true}``, and a worker prints ``report may has 3 lines, for request r-17``: the
id of the request travels with the job. Posting the same id again within 10 minutes answers
``"is_new":false`` and runs nothing. While Redis cannot be reached the answer is 503, and the client may post
again: because of the id the report is made once.

    curl -X POST localhost:8000/quarters -H "Content-Type: application/json" -d '{"id": "q2", "lines": 9}'

stores three reports with one call, or none of them. Without an id of the request the worker prints ``-``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

from aiospinach import BrokerError, Engine, JobStatus, RedisBroker
from aiospinach.contrib.fastapi import Jobs, jobs

engine = Engine(RedisBroker(os.environ.get("REDIS_URL", "redis://localhost:6379/0")), namespace="reports")
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
engine.carry(request_id)


@engine.task(max_retries=3, timeout=60)
async def report(id: str, lines: int) -> None:
    print(f"report {id} has {lines} lines, for request {request_id.get() or '-'}", flush=True)


@asynccontextmanager
async def connected(app: FastAPI) -> AsyncIterator[None]:
    async with engine:  # and no start_workers: this process runs no job
        yield


async def remember(x_request_id: Annotated[str | None, Header()] = None) -> None:
    request_id.set(x_request_id)


app = FastAPI(lifespan=connected, dependencies=[Depends(remember)])


class Order(BaseModel):
    id: str
    lines: int


@app.post("/reports", status_code=202)
async def order(order: Order) -> dict[str, object]:
    try:
        job = await report.options(id=order.id).schedule(order.id, order.lines)
    except BrokerError as error:
        raise HTTPException(503, "try again later") from error
    return {"id": job.id, "is_new": job.status is JobStatus.QUEUED}


@app.post("/quarters", status_code=202)
async def order_quarter(order: Order, jobs: Annotated[Jobs, Depends(jobs(engine))]) -> dict[str, list[str]]:
    ids = [f"{order.id}-{month}" for month in (1, 2, 3)]
    for id in ids:
        jobs.schedule(report.options(id=id), id, order.lines)
    return {"ids": ids}  # the answer is sent when the jobs are stored, or else it is 503


async def work() -> None:
    async with engine:
        await engine.start_workers(number=10)  # until SIGTERM or SIGINT


if __name__ == "__main__":
    sys.exit(asyncio.run(work()))
