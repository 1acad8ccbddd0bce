"""The stream of changes: its access, its scope, how often it sends a message, and its end."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from aiospinach import Engine, MemoryBroker
from aiospinach.contrib.web import Access, changes, web_view
from aiospinach.contrib.web.headers import POLICY

from ..servers import free_port
from ..waiting import until
from .browser import served
from .conftest import CANARY, EVERYTHING, Shop, allow, view_of
from .test_pages import PAGES

CHANGED = ["event: changed", "data: page", ""]
"""The lines of a message."""


class Reader:
    """Reads a stream line by line."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines: list[str] = []
        self.has_ended = False

    async def read(self) -> None:
        async for line in self.response.aiter_lines():
            if not line.startswith(":"):  # no ping
                self.lines.append(line)
        self.has_ended = True

    @property
    def messages(self) -> int:
        return self.lines.count("data: page")


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Reader]:
    """Read a stream until the block is left."""
    async with httpx.AsyncClient(timeout=None) as client, client.stream("GET", url) as response:
        reader = Reader(response)
        task = asyncio.create_task(reader.read())
        yield reader
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def url(shop: Shop) -> AsyncIterator[str]:
    async with served(web_view(shop.engine, access=allow(Access.READ))) as address:
        yield f"{address}/changes"


def readers_of(engine: Engine) -> int:
    """How many streams read events in this event loop."""
    return len(engine._event_hubs.here()._readers)


async def test_a_change_is_a_message_that_shows_nothing(shop: Shop, url: str) -> None:
    async with reading(url) as reader:
        headers = reader.response.headers
        assert reader.response.status_code == 200
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-store"
        assert headers["x-accel-buffering"] == "no"
        assert headers["content-security-policy"] == POLICY
        await until(lambda: readers_of(shop.engine) == 1, "it listens")
        assert reader.lines == []
        await shop.send.options(key="tenant-9").schedule(CANARY)
        await until(lambda: reader.messages, "a message")
        assert reader.lines == CHANGED


async def test_a_thousand_events_are_one_message(
    shop: Shop, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert changes.APART == 1.0
    monkeypatch.setattr(changes, "APART", 3600.0)
    async with reading(url) as reader:
        for _ in range(300):
            await shop.send.schedule("a")
        await until(lambda: reader.messages, "a message")
        await asyncio.sleep(0.1)
        assert reader.messages == 1


async def test_later_events_are_another_message(
    shop: Shop, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "APART", 0.05)
    async with reading(url) as reader:
        for count in range(1, 4):
            await shop.send.schedule("a")
            await until(lambda count=count: reader.messages >= count, f"message {count}")  # type: ignore[misc]


@pytest.mark.parametrize("scope", ["queue=payments", "task=charge", "job=other", "job=other&queue=payments"])
async def test_events_of_others_are_no_message(shop: Shop, url: str, scope: str) -> None:
    async with reading(f"{url}?{scope}") as reader, reading(url) as every:
        await until(lambda: readers_of(shop.engine) == 2, "both listen")
        await shop.send.options(id="one").schedule("a")
        await until(lambda: every.messages, "a message about all jobs")
        assert reader.messages == 0
        await shop.charge.options(id="other").schedule(1, "a")
        await until(lambda: reader.messages, "a message of the scope")


async def test_each_page_listens_to_what_it_shows(shop: Shop) -> None:
    scopes = {
        "./": "changes",
        "queue?name=mail&status=waiting": "changes?queue=mail",
        "job?id=held": "changes?job=held",
        "job?id=queued&queue=mail": "changes?job=queued&queue=mail",
        "job?id=gone": "changes?job=gone",
        "events?queue=payments&task=charge&job=charge-1": "changes?queue=payments&task=charge&job=charge-1",
    }
    async with view_of(shop.engine) as client:
        for page in [*PAGES, *scopes]:
            text = (await client.get(page)).text
            found = [unescape(each) for each in re.findall(r'<main [^>]*data-changes="([^"]*)"', text)]
            assert len(found) == (0 if page.startswith("schedule") else 1), page
            assert found == [scopes.get(page, *found)] if found else True
            assert all(
                urljoin("http://a/b/jobs/x", each).startswith("http://a/b/jobs/changes") for each in found
            )


async def test_fifty_tabs_share_one_wait(shop: Shop, url: str) -> None:
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(reading(f"{url}?queue=mail")) for _ in range(50)]
        await until(lambda: readers_of(shop.engine) == 50, "all listen")
        hub = shop.engine._event_hubs.here()
        assert (len(hub._tasks), set(hub._feeds)) == (1, {"mail"})
        await shop.send.schedule("a")
        await until(lambda: all(reader.messages for reader in readers), "all have a message")
    await until(lambda: readers_of(shop.engine) == 0, "nobody listens")
    assert not hub._tasks


async def test_without_read_there_is_no_stream(shop: Shop) -> None:
    for access in (Access.NONE, EVERYTHING & ~Access.READ):
        async with view_of(shop.engine, access) as client:
            response = await client.get("changes?queue=mail")
            assert response.status_code == 403
            assert "mail" not in response.text
    assert readers_of(shop.engine) == 0


async def test_without_events_there_is_no_stream(namespace: str) -> None:
    async with Engine(MemoryBroker(), namespace) as engine, view_of(engine) as client:
        assert "data-changes" not in (await client.get("./")).text
        response = await client.get("changes")
        assert response.status_code == 400
        assert "keeps no events" in response.text


async def test_a_stream_ends_with_its_engine(namespace: str) -> None:
    engine = Engine(MemoryBroker(events=10), namespace)

    @engine.task
    async def send() -> None: ...

    async with served(web_view(engine, access=allow(Access.READ))) as address:
        async with engine:
            await engine.ping()
            stack = AsyncExitStack()
            reader = await stack.enter_async_context(reading(f"{address}/changes"))
            await until(lambda: readers_of(engine) == 1, "it listens")
        async with stack:
            await until(lambda: reader.has_ended, "the stream has ended")


async def test_open_streams_do_not_hold_up_the_end_of_a_server() -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.web.serve_view", str(port)),
        cwd=Path(__file__).parent.parent.parent,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(30):
            while b"Uvicorn running" not in await process.stderr.readline():
                assert process.returncode is None
        async with AsyncExitStack() as stack:
            url = f"http://127.0.0.1:{port}/changes"
            readers = [await stack.enter_async_context(reading(url)) for _ in range(3)]
            assert [reader.response.status_code for reader in readers] == [200] * 3
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 20) in (0, -signal.SIGTERM)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
