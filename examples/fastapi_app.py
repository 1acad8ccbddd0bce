"""A web application whose server also runs its jobs, in the same process and event loop.

    pip install fastapi uvicorn
    uvicorn --app-dir examples fastapi_app:app

    curl -X POST localhost:8000/sums -H "Content-Type: application/json" -d '{"a": 1, "b": 2}'

answers at once, with status 202 and ``{"id":"<id>","status":"pending","result":null}``, and then

    curl localhost:8000/results/<id>

gives ``{"id":"<id>","status":"succeeded","result":3}``. ``/ready`` is for a readiness probe.
On SIGTERM or SIGINT the server ends when its running jobs have. With ``--workers 2`` each process has jobs
and results of its own.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from aiospinach import Engine, Job, MemoryBroker, signals
from aiospinach.contrib.starlette import lifespan

KEPT = 1000

engine = Engine(MemoryBroker(), namespace="sums")
app = FastAPI(lifespan=lifespan(engine, number=10))


class Sum(BaseModel):
    a: int
    b: int


class Result(BaseModel):
    id: str
    status: str
    result: int | None = None


results: dict[str, Result] = {}
"""The results of the latest jobs, oldest first."""


@engine.task(name="add", timeout=30)
async def add(a: int, b: int) -> int:
    return a + b


@signals.job_finished.connect_via(engine.namespace)
async def keep(namespace: str, job: Job, result: Any, **kwargs: Any) -> None:
    results[job.id] = Result(id=job.id, status=job.status.value, result=result)
    while len(results) > KEPT:
        del results[next(iter(results))]


@app.post("/sums", status_code=202)
async def schedule(sum: Sum) -> Result:
    job = await add.schedule(sum.a, sum.b)
    return results.setdefault(job.id, Result(id=job.id, status="pending"))


@app.get("/results/{id}")
async def result(id: str) -> Result:
    if id not in results:
        raise HTTPException(404, "no such job, or one of long ago")
    return results[id]


@app.get("/ready")
async def ready() -> dict[str, Any]:
    """The health of the workers; 503 while they do not run or cannot reach the broker."""
    health = engine.health()
    if not health.is_connected:
        raise HTTPException(503, msgspec.structs.asdict(health))
    return msgspec.structs.asdict(health)
