"""Takes the pictures of the web view: of a shop with some trouble, which lives in memory.

    python docs/pictures/web.py             # writes web.png beside this script, the picture of README
    python docs/pictures/web.py FOLDER      # writes every page, light and dark, wide and narrow
    python docs/pictures/web.py --serve     # serves the shop at http://127.0.0.1:8000, to look at it yourself

It needs ``pip install 'aiospinach[web]' uvicorn playwright``, and a Chromium, on PATH or in
$AIOSPINACH_CHROMIUM.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import uvicorn
from playwright.async_api import Browser, async_playwright

import aiospinach
from aiospinach import Cron, Engine, Job, MemoryBroker, RetryException, progress
from aiospinach.brokers import QueueReport, TaskRow, WorkerReport, WorkerRow
from aiospinach.contrib.web import Access, web_view

FOLDER = Path(__file__).parent
SIZES = {"wide": (1280, 800), "narrow": (390, 780)}
PAGES = {
    "overview": "",
    "queue": "queue?name=mail",
    "running": "queue?name=mail&status=running",
    "waiting": "queue?name=mail&status=waiting",
    "queue-dead": "queue?name=payments&status=dead",
    "job-waiting": "job?id=invoice-2048",
    "job-dead": "job?id=charge-3",
    "job-running": "job?id=newsletter-1&stack=1",
    "job-unknown": "job?id=order-99",
    "dead": "dead",
    "periodic": "periodic",
    "workers": "workers",
    "schedule": "schedule",
    "form": "schedule?task=invoice",
    "empty": "queue?name=search&status=dead",
    "error": "queue?name=unknown",
    "events": "events",
    "events-filtered": "events?task=charge",
}


class Plan(Enum):
    """What a customer has subscribed to."""

    FREE = "free"
    PRO = "pro"


engine = Engine(MemoryBroker(lease=60, events=10_000), namespace="shop")
ended = asyncio.Event()


@engine.task(name="newsletter", queue="mail", max_retries=3)
async def newsletter(customer: str) -> None:
    """Send the newsletter to one customer."""
    progress(450, 1000, "mails")
    await ended.wait()


@engine.task(name="invoice", queue="mail", max_retries=5)
async def invoice(
    customer: str,
    order: int,
    plan: Plan = Plan.FREE,
    due: datetime | None = None,
    lines: list[str] = [],  # noqa: B006
) -> None:
    """Write an invoice, and send it.

    The customer gets it by mail.
    """
    raise RetryException("the printer is busy", at=timedelta(minutes=7))


class CardDeclined(Exception):
    """The bank of the customer refuses."""


@engine.task(name="charge", queue="payments")
async def charge(order: int) -> None:
    """Charge the card of a customer."""
    raise (
        CardDeclined("insufficient funds") if order % 3 else ConnectionResetError("gateway closed the stream")
    )


@engine.task(name="refund", queue="payments", max_concurrency=2)
async def refund(order: int) -> None:
    """Pay a customer back."""
    await ended.wait()


@engine.task(name="index", queue="search")
async def index(document: int) -> None: ...


@engine.task(name="prune-sessions", queue="search", periodicity=timedelta(minutes=5))
async def prune_sessions() -> None: ...


@engine.task(name="daily-report", queue="mail", periodicity=Cron("0 7 * * mon-fri", tz="Europe/Paris"))
async def daily_report() -> None: ...


async def fill() -> None:
    """Schedule jobs, and have workers run some of them."""
    for order in range(1, 24):
        await charge.options(id=f"charge-{order}", key=f"tenant-{order % 4}").schedule(order)
    for order in range(3):
        await refund.options(id=f"refund-{order + 1}", key="tenant-1").schedule(order)
    for number in range(1, 4):
        await newsletter.options(id=f"newsletter-{number}").schedule(f"customer-{number}")
    await invoice.options(id="invoice-2048", key="tenant-2").schedule("ann", 2048)
    await engine.start_workers(8, ["payments", "mail", "search"], block=False)
    await asyncio.sleep(1.5)
    await engine.pause(invoice, for_=timedelta(hours=2), reason="the printer is repaired")
    for number in range(4, 60):
        await newsletter.schedule(f"customer-{number}")
    for order in range(5):
        at = datetime.now(UTC) + timedelta(hours=order + 1)
        await invoice.options(id=f"invoice-{3000 + order}", key=f"tenant-{order}").schedule_at(
            at, "bob", order
        )
    await report()


async def report() -> None:
    """Tell the store of a second worker, and of the last hour."""
    now = engine._broker.now() // 60_000
    dice = random.Random(7)

    def row(minute: int, task: str, level: float, failures: float) -> WorkerRow:
        wave = level * (1.2 + math.sin((minute - now) / 9) + dice.random() * 0.4)
        failed = round(wave * failures * (3 if 24 < now - minute < 31 else 0.4))
        return WorkerRow(minute, {task: TaskRow(done=round(wave), failed=failed, seconds=wave)})

    tasks = {"mail": ("newsletter", 60, 0.02), "payments": ("charge", 14, 0.3), "search": ("index", 240, 0.0)}
    reports = {
        queue: QueueReport(tasks=[task], rows=[row(minute, task, *how) for minute in range(now - 60, now)])
        for queue, (task, *how) in tasks.items()
    }
    worker = WorkerReport(
        name="web-2-4711", host="web-2", pid=4711, number=8, running=5, version="1.0", lag=0.18,
        started=engine._broker.now() - 7_300_000, queues=tuple(tasks),
    )  # fmt: skip
    # Another event loop is another worker.
    await asyncio.to_thread(asyncio.run, _sweep(worker, reports))


async def _sweep(worker: WorkerReport, reports: dict[str, QueueReport]) -> None:
    await engine._broker.sweep(tuple(reports), worker, reports)


def show(job: Job) -> dict[str, object]:
    return {"order": job.args[0]} if job.task_name == "charge" else {}


@contextlib.asynccontextmanager
async def served(port: int) -> AsyncIterator[str]:
    """The view of the shop, on a port of this machine."""
    app = web_view(
        engine, access=lambda request: Access.ALL | Access.SCHEDULE, show=show, title="Shop · production"
    )
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await fill()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        ended.set()
        await engine.stop_workers()
        server.should_exit = True
        await serving


SHORT_PATHS = """names => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        for (const [long, short] of names) {
            texts.currentNode.data = texts.currentNode.data.replaceAll(long, short);
        }
    }
}"""
"""Shortens names of this machine: its folders, and its host."""
NO_STREAM = "window.EventSource = class extends EventTarget { close() {} }"
"""A page that runs this first is not refreshed before its picture is taken."""
NAMES = [
    (f"{FOLDER.parent.parent}/docs/pictures/web.py", "shop/tasks.py"),
    (f"{Path(aiospinach.__file__).parent.parent}/", ""),
    (f"{Path(asyncio.__file__).parent.parent}/", ""),
    (socket.gethostname(), "web-1"),
]


async def picture(browser: Browser, url: str, file: Path, **options: Any) -> None:
    """Take a picture of a page, and complain about each error in it."""
    page = await browser.new_page(timezone_id="Europe/Paris", locale="en-GB", **options)
    page.on("console", lambda message: print(file.name, message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: print(file.name, error))
    await page.add_init_script(NO_STREAM)
    await page.goto(url)
    width = await page.evaluate("document.documentElement.scrollWidth")
    if width > options["viewport"]["width"]:
        print(f"{file.name} is {width} pixels wide")
    await page.evaluate(SHORT_PATHS, NAMES)
    await page.screenshot(path=file, full_page=file.parent != FOLDER)
    await page.close()


async def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if "--serve" in sys.argv:
        async with served(8000) as url:
            print(url)
            await asyncio.sleep(24 * 3600)
        return
    chromium = (
        os.environ.get("AIOSPINACH_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    )
    async with served(port) as url, async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        if len(sys.argv) == 1:
            size = {"width": 1280, "height": 350}
            await picture(browser, url, FOLDER / "web.png", viewport=size, color_scheme="light")
        else:
            for name, path in PAGES.items():
                for scheme in ("light", "dark"):
                    for label, (width, height) in SIZES.items():
                        file = Path(sys.argv[1]) / f"{name}-{scheme}-{label}.png"
                        size = {"width": width, "height": height}
                        await picture(browser, url + path, file, viewport=size, color_scheme=scheme)
        await browser.close()


if __name__ == "__main__":
    began = time.monotonic()
    asyncio.run(main())
    print(f"{time.monotonic() - began:.0f} s")
