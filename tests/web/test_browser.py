"""The view in a Chromium: nothing is forbidden by its policy, it refreshes itself, and a keyboard suffices.

The tests are skipped where there is no playwright, or no Chromium on PATH or in $AIOSPINACH_CHROMIUM.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from aiospinach import BrokerUnavailable, Engine, JobStatus, MemoryBroker
from aiospinach.contrib.web import web_view

from .browser import chromium, opened, served
from .conftest import EVERYTHING, Shop, allow
from .test_pages import PAGES

pytest.importorskip("playwright.async_api", reason="the tests in a browser need playwright")
pytestmark = pytest.mark.skipif(chromium() is None, reason="no chromium on PATH or in $AIOSPINACH_CHROMIUM")


@pytest.fixture
async def shop(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Shop]:
    """A shop that keeps so many rows of events, by default none: then a page asks every few seconds."""
    async with Engine(MemoryBroker(events=getattr(request, "param", 0)), namespace) as engine:
        shop = Shop(engine)
        await shop.fill()
        yield shop
        await shop.close()


@pytest.fixture
async def url(shop: Shop) -> AsyncIterator[str]:
    """The address of the view, mounted under a prefix and served on this machine."""
    app = Starlette(routes=[Mount("/jobs", web_view(shop.engine, access=allow(EVERYTHING), title="Shop"))])
    async with served(app) as address:
        yield f"{address}/jobs/"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("shop", [0, 1000], ids=["no-events", "events"], indirect=True)
async def test_no_page_breaks_its_policy_or_its_frame(url: str, scheme: str, width: int) -> None:
    size = {"width": width, "height": 700}
    async with opened(viewport=size, color_scheme=scheme) as page:
        for path in [*PAGES, "job?id=unknown"]:
            await page.goto(url + path)
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
            nav = "document.querySelector('nav')"
            assert await page.evaluate(f"{nav}.scrollWidth <= {nav}.clientWidth"), "all tabs are seen"
            assert await page.locator("main").inner_text() != ""
            back = await page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (back == "rgb(17, 21, 20)") is (scheme == "dark"), "the stylesheet was read"
            assert len(await page.screenshot()) > 5_000


async def test_a_page_refreshes_itself_unless_something_is_selected(url: str, shop: Shop) -> None:
    async with opened() as page:
        await page.goto(f"{url}queue?name=mail")
        await page.evaluate("document.body.dataset.mark = 'kept'")
        assert await page.locator("#pulse").inner_text() == "Live"
        await shop.send.options(id="fresh-1").schedule("a")
        await page.get_by_text("fresh-1").wait_for()
        await page.get_by_label("Select fresh-1").check()
        assert await page.locator("#pulse").inner_text() == "Paused"
        assert await page.get_by_text("With 1 selected:").is_visible()
        await shop.send.options(id="fresh-2").schedule("a")
        await asyncio.sleep(6)  # a refresh is due within it
        assert await page.get_by_text("fresh-2").count() == 0
        assert await page.get_by_label("Select fresh-1").is_checked()
        await page.get_by_label("Select fresh-1").uncheck()
        await page.get_by_text("fresh-2").wait_for()
        assert await page.evaluate("document.body.dataset.mark") == "kept", "it was no reload"


async def test_a_keyboard_suffices_to_find_and_cancel_a_job(url: str, shop: Shop) -> None:
    async with opened() as page:
        await page.goto(url)
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip"
        await page.keyboard.press("/")
        await page.keyboard.type("later-1")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/job?id=later-1")
        for _ in range(40):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.textContent") == "Cancel":
                break
        await page.keyboard.press("Enter")
        await page.get_by_text("Are you sure?").wait_for()
        await page.get_by_role("button", name="Cancel this job").focus()
        await page.keyboard.press("Enter")
        await page.get_by_text("1 job was cancelled.").wait_for()
        assert "done=" not in page.url, "a reload does not repeat the note"
        await page.goto(f"{url}queue?name=mail")
        await page.keyboard.press("/")
        assert await page.evaluate("document.activeElement.name") == "task"
    assert await shop.status("later-1") is None


async def test_everything_works_without_scripts(url: str, shop: Shop) -> None:
    async with opened(java_script_enabled=False) as page:
        await page.goto(f"{url}queue?name=payments&status=dead")
        await page.get_by_label("Select charge-1").check()
        await page.get_by_label("Select charge-3").check()
        await page.get_by_role("button", name="Requeue").click()
        await page.get_by_text("2 dead jobs were queued again.").wait_for()
        await page.goto(f"{url}dead")
        await page.get_by_role("button", name="Discard").first.click()
        await page.get_by_role("button", name="Discard all").click()
        await page.get_by_text("3 dead jobs were discarded.").wait_for()
        await page.goto(f"{url}queue?name=mail")
        await page.get_by_text("Pause…").click()
        await page.get_by_label("Reason").fill("night")
        await page.get_by_role("button", name="Pause the queue").click()
        await page.get_by_text("It is paused.").wait_for()
        await page.get_by_role("button", name="Resume").click()
        await page.get_by_text("The pause has ended.").wait_for()
        await page.goto(f"{url}schedule?task=send")
        await page.get_by_label("to").fill("ann")
        await page.get_by_role("button", name="Schedule").click()
        await page.get_by_text("The job is scheduled.").wait_for()
    assert (await shop.engine.counts())["payments"].dead == 0


async def test_times_are_local_and_an_id_can_be_copied(url: str, shop: Shop) -> None:
    job = await shop.engine.job("later-1")
    assert job is not None
    async with opened(timezone_id="Asia/Tokyo", locale="en-GB") as page:
        await page.goto(f"{url}job?id=later-1")
        time = page.locator(".steps time:not([data-kept])").first
        assert f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC" == await time.get_attribute("title")
        assert "UTC" not in await time.inner_text()
        await page.get_by_role("button", name="Copy the id").click()
        await page.get_by_text("Copied").wait_for()
    assert await shop.status("later-1") is JobStatus.WAITING


async def test_an_outage_shows_on_the_page_and_passes(
    url: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise BrokerUnavailable("it is away")

    async with opened(expected="status of 503") as page:
        await page.goto(url)
        await page.get_by_role("link", name="payments").wait_for()
        with monkeypatch.context() as patch:
            patch.setattr(shop.engine, "overview", away)
            await page.get_by_text("The store does not answer").wait_for()
            assert await page.locator("#pulse").inner_text() == "No answer"
        await page.get_by_role("link", name="payments").wait_for()
        assert await page.locator("#pulse").inner_text() == "Live"


async def test_the_page_of_a_login_does_not_replace_the_content(url: str, shop: Shop) -> None:
    async with opened() as page:
        await page.goto(url)
        asked = asyncio.Event()

        async def answer(route: Any) -> None:
            asked.set()
            await route.fulfill(body="<html><body>Log in</body></html>", content_type="text/html")

        await page.route("**/jobs/*", answer)
        await asyncio.wait_for(asked.wait(), 15)
        await page.unroute("**/jobs/*")
        asked.clear()
        assert await page.get_by_role("link", name="payments").count() == 1
        await shop.engine.pause(queue="payments")
        await page.locator(".badge.paused").wait_for()


async def test_long_names_do_not_break_the_frame(url: str, shop: Shop) -> None:
    name = "x" * 200
    await shop.send.options(id=name, key="\N{ARABIC LETTER ALEF}" * 200).schedule("a")
    await shop.engine.pause(queue="mail", reason="y" * 200)
    async with opened(viewport={"width": 390, "height": 700}) as page:
        for path in (
            "./",
            "queue?name=mail",
            f"job?id={name}",
            f"queue?name=mail&task={name}",
            f"dead?filter={name}",
        ):
            await page.goto(url + path)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390, path
