"""Engines with some of everything, and clients of their web views."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from aiospinach import Broker, Engine, JobStatus, progress
from aiospinach.contrib.web import Access, web_view

from ..brokers_under_test import BROKERS, MakeBroker

OWN = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says about a form of the view itself."""
EVERYTHING = Access.ALL | Access.SCHEDULE
CANARY = "canary-4711"
"""Stands in arguments and headers of jobs, and may be on no page."""


def allow(access: Access) -> Callable[[Any], Access]:
    """A check that lets every request do this."""
    return lambda request: access


def client_of(app: ASGIApp, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://view.test", headers={**OWN, **headers}
    )


def view_of(engine: Engine, access: Access = EVERYTHING, **options: Any) -> httpx.AsyncClient:
    """A client of a view that lets it do this."""
    return client_of(web_view(engine, access=allow(access), **options))


class Shop:
    """An engine that has jobs of each status."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ran: list[tuple[Any, ...]] = []
        self._end = asyncio.Event()

        @engine.task(name="hold", queue="mail")
        async def hold(secret: str = CANARY) -> None:
            progress(450, 1000, "rows")
            await self._end.wait()

        @engine.task(name="send", queue="mail", max_retries=2)
        async def send(to: str) -> None:
            self.ran.append((to,))

        @engine.task(name="charge", queue="payments")
        async def charge(order: int, secret: str) -> None:
            raise {0: KeyError, 1: ValueError}[order % 2]("no such card")

        @engine.task(name="poll", queue="payments", periodicity=timedelta(hours=7))
        async def poll() -> None: ...

        self.hold, self.send, self.charge = hold, send, charge

    async def fill(self) -> None:
        """Have two jobs wait, one queued, one running and five dead."""
        for order in range(5):
            job = self.charge.options(id=f"charge-{order}", key="tenant-1")
            await job.schedule(order, CANARY)
        await self.engine.start_workers(1, "payments", stop_when_queue_empty=True)
        await self.engine.start_workers(1, "mail", block=False)
        await self.hold.options(id="held").schedule(CANARY)
        async with asyncio.timeout(10):
            while (held := await self.engine.job("held")) is None or held.progress is None:
                await asyncio.sleep(0.01)
        await self.send.options(id="queued", key="tenant-2").schedule(CANARY)
        at = datetime.now(UTC) + timedelta(hours=3)
        for name in ("later-1", "later-2"):
            await self.send.options(id=name).schedule_at(at, CANARY)

    async def close(self) -> None:
        self._end.set()
        await self.engine.stop_workers()

    async def status(self, job_id: str) -> JobStatus | None:
        """The status of a job; None if no such job is stored."""
        job = await self.engine.job(job_id)
        return None if job is None else job.status


@pytest.fixture(params=BROKERS)
async def shop(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Shop]:
    """A filled shop on every broker."""
    make: MakeBroker = request.param
    broker: Broker = make(events=10_000)
    async with Engine(broker, namespace) as engine:
        shop = Shop(engine)
        await shop.fill()
        yield shop
        await shop.close()
