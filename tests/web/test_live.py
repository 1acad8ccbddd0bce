"""Pages in a Chromium change with the events of their scope, also behind a proxy, and after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from aiospinach import Engine, MemoryBroker, progress
from aiospinach.contrib.web import web_view

from ..brokers_under_test import BROKERS, MakeBroker
from ..waiting import until
from .browser import chromium, opened, served
from .conftest import EVERYTHING, allow
from .test_pages import stripping

pytest.importorskip("playwright.async_api", reason="the tests in a browser need playwright")
pytestmark = pytest.mark.skipif(chromium() is None, reason="no chromium on PATH or in $AIOSPINACH_CHROMIUM")

NO_TIMER = "window.setInterval = () => 0"
"""A page that runs this first never asks by itself."""
HIDE = """isHidden => {
    Object.defineProperty(document, "hidden", { get: () => isHidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


class Station:
    """An engine that keeps events, whose jobs report progress as a test wants it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.steps: asyncio.Queue[int] = asyncio.Queue()

        @engine.task(name="load", queue="loads")
        async def load() -> None:
            while (step := await self.steps.get()) < 100:
                progress(step, 100, "rows")

        @engine.task(name="send", queue="mail")
        async def send() -> None: ...

        self.load, self.send = load, send

    @property
    def readers(self) -> int:
        """How many streams read events."""
        return len(self.engine._event_hubs.here()._readers)


def view_of(engine: Engine, prefix: str = "/jobs") -> ASGIApp:
    """The view, mounted under a prefix behind a proxy that strips another one."""
    app = Starlette(routes=[Mount(prefix, web_view(engine, access=allow(EVERYTHING), title="Shop"))])
    return stripping(app, "/admin")


@pytest.fixture(params=BROKERS)
async def station(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Station]:
    make: MakeBroker = request.param
    async with Engine(make(events=1000), namespace) as engine:
        yield Station(engine)
        await engine.stop_workers()
        for queue in ("loads", "mail"):
            await engine._broker.flush(queue)


@pytest.fixture
async def url(station: Station) -> AsyncIterator[str]:
    async with served(view_of(station.engine)) as address:
        yield f"{address}/admin/jobs/"


async def test_a_page_changes_with_the_events_of_its_queue(station: Station, url: str) -> None:
    async with opened() as page:
        await page.add_init_script(NO_TIMER)
        await page.goto(f"{url}queue?name=mail")
        await until(lambda: station.readers == 1, "the page listens")
        await page.evaluate("document.body.dataset.mark = 'kept'")
        await station.send.options(id="fresh-1").schedule()
        await page.get_by_text("fresh-1").wait_for()
        await station.send.options(id="fresh-2").schedule()
        await page.get_by_text("fresh-2").wait_for()
        assert await page.evaluate("document.body.dataset.mark") == "kept", "it was no reload"
        assert await page.locator("#pulse").inner_text() == "Live"


async def test_a_page_in_use_waits_and_a_hidden_one_holds_no_connection(station: Station, url: str) -> None:
    async with opened() as page:
        await page.goto(f"{url}queue?name=mail")
        await station.send.options(id="fresh-1").schedule()
        await page.get_by_label("Select fresh-1").check()
        await station.send.options(id="fresh-2").schedule()
        assert await page.locator("#pulse").inner_text() == "Paused"
        await page.get_by_label("Select fresh-1").uncheck()
        await page.get_by_text("fresh-2").wait_for()
        await until(lambda: station.readers == 1, "the page listens")
        await page.evaluate(HIDE, True)
        await until(lambda: station.readers == 0, "the connection was closed")
        await station.send.options(id="fresh-3").schedule()
        await page.evaluate(HIDE, False)
        await page.get_by_text("fresh-3").wait_for()
        await until(lambda: station.readers == 1, "the page listens again")


async def test_progress_is_seen_as_it_comes(station: Station, url: str) -> None:
    job = await station.load.schedule()
    await station.engine.start_workers(1, "loads", block=False)
    async with opened() as page, opened() as tail:
        for each in (page, tail):
            await each.add_init_script(NO_TIMER)
        await page.goto(f"{url}job?id={job.id}&queue=loads")
        await tail.goto(f"{url}events?task=load")
        await until(lambda: station.readers == 2, "the pages listen")
        for step in (30, 60):
            station.steps.put_nowait(step)
            for each in (page, tail):
                await each.get_by_text(f"{step} of 100 rows").wait_for()
        station.steps.put_nowait(100)
        await tail.get_by_text("finished").wait_for()
        await page.locator(".empty").wait_for()
        assert await page.locator("#pulse").inner_text() == "Live"


async def test_new_events_come_in(station: Station, url: str) -> None:
    async with opened() as page:
        await page.add_init_script(NO_TIMER)
        await page.goto(f"{url}events?queue=mail")
        await page.get_by_text("No event yet").or_(page.get_by_text("No event matches")).wait_for()
        await until(lambda: station.readers == 1, "the page listens")
        await station.load.options(id="other").schedule()
        await station.send.options(id="fresh-1").schedule()
        await page.get_by_text("fresh-1").wait_for()
        await station.engine.start_workers(1, "mail", stop_when_queue_empty=True)
        await page.locator(".badge.good").wait_for()
        rows = await page.locator("tbody tr .badge").all_inner_texts()
        assert rows == ["finished", "started", "scheduled"]
        assert await page.get_by_text("other").count() == 0


async def test_a_page_becomes_live_again_after_a_restart_of_its_server(namespace: str) -> None:
    async with Engine(MemoryBroker(events=1000), namespace) as engine:
        station = Station(engine)
        async with opened(expected="net::ERR|Failed to fetch") as page:
            async with served(view_of(engine)) as address:
                await page.goto(f"{address}/admin/jobs/queue?name=mail")
                await until(lambda: station.readers == 1, "the page listens")
            await until(lambda: station.readers == 0, "the stream has ended with its server")
            await station.send.options(id="meanwhile").schedule()
            await page.get_by_text("No answer").wait_for()
            async with served(view_of(engine), urlsplit(address).port or 0):
                await page.get_by_text("meanwhile").wait_for()
                await until(lambda: station.readers == 1, "the page listens again", timeout=30)
                await page.evaluate(f"{NO_TIMER}")
                await station.send.options(id="afterwards").schedule()
                await page.get_by_text("afterwards").wait_for()
                assert await page.locator("#pulse").inner_text() == "Live"


async def test_without_scripts_the_latest_events_and_earlier_ones_are_shown(
    station: Station, url: str
) -> None:
    for number in range(130):
        await station.send.options(id=f"job-{number}").schedule()
    async with opened(java_script_enabled=False) as page:
        await page.goto(f"{url}events")
        assert await page.locator("tbody tr").count() == 60
        assert await page.locator("tbody tr").first.get_by_text("job-129").count() == 1
        await page.get_by_role("link", name="Earlier").click()
        assert await page.locator("tbody tr").count() == 60
        await page.get_by_role("link", name="Latest").click()
        assert await page.locator("tbody tr").count() == 60
        await page.get_by_label("Job", exact=True).fill("job-7")
        await page.get_by_role("button", name="Filter").click()
        assert await page.locator("tbody tr").count() == 1
