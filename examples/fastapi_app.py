"""A web application whose server also runs its jobs, in the same process and event loop.

    pip install fastapi uvicorn
    uvicorn --app-dir examples fastapi_app:app

    curl -X POST localhost:8000/sums -H "Content-Type: application/json" -d '{"a": 1, "b": 2}'

answers at once, with status 202 and ``{"id":"<id>","status":"pending","result":null}``, and then

    curl "localhost:8000/results/<id>?wait=10"

answers as soon as the job has ended, or after 10 seconds: ``{"id":"<id>","status":"done","result":3}``.

    curl localhost:8000/jobs/<id>

explains in a sentence where the job is: ``{"id":"<id>","verdict":"ended","sentence":"..."}``. ``/ready`` is
for a readiness probe. On SIGTERM or SIGINT the server ends when its running jobs have. With ``--workers 2``
each process has jobs and results of its own.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel

from aiospinach import Engine, JobFailed, MemoryBroker, ResultCancelled, UnknownJob, Verdict
from aiospinach.contrib.starlette import lifespan

engine = Engine(MemoryBroker(), namespace="sums")
app = FastAPI(lifespan=lifespan(engine, number=10))


class Sum(BaseModel):
    a: int
    b: int


class Result(BaseModel):
    id: str
    status: str
    result: int | None = None


@engine.task(name="add", timeout=30, result_ttl=timedelta(hours=1))
async def add(a: int, b: int) -> int:
    return a + b


@app.post("/sums", status_code=202)
async def schedule(sum: Sum) -> Result:
    job = await add.schedule(sum.a, sum.b)
    return Result(id=job.id, status="pending")


@app.get("/results/{id}")
async def result(id: str, wait: Annotated[float, Query(ge=0, le=30)] = 0) -> Result:
    """The result of a job, for which the answer waits up to ``wait`` seconds."""
    try:
        return Result(id=id, status="done", result=await engine.result(id, timeout=wait))
    except TimeoutError:
        return Result(id=id, status="pending")
    except JobFailed:
        return Result(id=id, status="failed")
    except ResultCancelled:
        return Result(id=id, status="cancelled")
    except UnknownJob as unknown:
        raise HTTPException(404, "no such job, or one of long ago") from unknown


@app.get("/jobs/{id}")
async def explain(id: str) -> dict[str, str]:
    why = await engine.explain(id)
    if why.verdict is Verdict.UNKNOWN:
        raise HTTPException(404, why.sentence)
    return {"id": id, "verdict": why.verdict.value, "sentence": why.sentence}


@app.get("/ready")
async def ready() -> dict[str, Any]:
    """The health of the workers; 503 while they do not run or cannot reach the broker."""
    health = engine.health()
    if not health.is_connected:
        raise HTTPException(503, msgspec.structs.asdict(health))
    return msgspec.structs.asdict(health)
