"""A shop whose sign-up sends a mail at once and another one a day later; its tests stand beside it.

    pip install fastapi httpx pytest
    pytest examples/shop

The application runs on Redis: ``uvicorn --app-dir examples/shop shop:app``. Its tests need none.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import FastAPI

from aiospinach import Cron, Engine, RedisBroker, current_job
from aiospinach.contrib.starlette import lifespan

engine = Engine(RedisBroker("redis://localhost:6379/0"), namespace="shop")
app = FastAPI(lifespan=lifespan(engine))
mails: list[str] = []
charges: dict[str, int] = {}


@engine.task(max_retries=5, backoff=lambda retry: timedelta(minutes=20))
async def mail(name: str, text: str) -> None:
    mails.append(f"{text}, {name}!")


@engine.task(max_retries=5)
async def charge(cents: int) -> str:
    job = current_job()
    assert job is not None
    charges.setdefault(job.id, cents)  # the id is the same in each try: nobody pays twice
    return job.id


@engine.task(periodicity=Cron("0 8 * * 1", tz="Europe/Berlin"))
async def weekly_report() -> None:
    mails.append(f"{len(charges)} charges")


@app.post("/users/{name}", status_code=202)
async def sign_up(name: str) -> None:
    await mail.schedule(name, "Welcome")
    await mail.schedule_at(datetime.now(UTC) + timedelta(days=1), name, "How is it going")
