"""A server for applications under test, and pages of a Chromium."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from sse_starlette.sse import AppStatus, _get_shutdown_state
from starlette.types import ASGIApp

from ..waiting import until

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def chromium() -> str | None:
    """The path of a Chromium: ``$AIOSPINACH_CHROMIUM``, or one on PATH."""
    for name in (os.environ.get("AIOSPINACH_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"):
        if name and (found := shutil.which(name)):
            return found
    return None


@asynccontextmanager
async def served(app: ASGIApp, port: int = 0) -> AsyncIterator[str]:
    """The address of an application that is served on this machine, in this event loop."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started, "the server listens")
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await asyncio.wait_for(serving, 20)
    AppStatus.should_exit = True
    await until(lambda: not _get_shutdown_state().watcher_started, "sse-starlette watches no more")
    AppStatus.should_exit = False


@asynccontextmanager
async def opened(*, expected: str = "status of 404", **options: Any) -> AsyncIterator[Any]:
    """A page of a browser. Nothing may be reported on its console but texts that match a pattern."""
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as running:
        browser = await running.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = await browser.new_page(**options)
        complaints: list[str] = []
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.set_default_timeout(15_000)
        yield page
        unexpected = [text for text in complaints if not re.search(expected, text)]
        assert unexpected == []
        await browser.close()
