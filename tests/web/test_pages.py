"""Each page shows what the engine knows, at any prefix, without scripts, and nothing that is secret."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from aiospinach import Engine, MemoryBroker, RedisBroker
from aiospinach.contrib.web import Access, web_view
from aiospinach.contrib.web.headers import POLICY

from ..servers import free_port
from .conftest import CANARY, OWN, Shop, allow, view_of

PAGES = {
    "./": ["mail", "payments", "Ready", "of 1 slots"],
    "queue?name=mail": ["queued", "tenant-2", "send"],
    "queue?name=mail&status=running": ["held", "hold"],
    "queue?name=mail&status=waiting": ["later-1", "later-2"],
    "queue?name=payments&status=dead": ["charge-4", "KeyError", "tenant-1"],
    "queue?name=payments&status=dead&task=charge&error=ValueError": ["charge-3", "ValueError"],
    "job?id=held": ["has run since", "hold", "started", "450 of 1,000 rows (45 %)"],
    "job?id=queued&queue=mail": ["is queued", "tenant-2"],
    "job?id=later-1": ["is due at", "Reschedule"],
    "job?id=charge-1": ["died at", "no such card", "Traceback", "exhausted"],
    "dead": ["charge", "KeyError", "ValueError", "5 in 2 groups"],
    "periodic": ["poll", "every 7 h", "Run now"],
    "workers": ["1 alive", "hold"],
    "events": ["scheduled", "started", "failed", "KeyError", "held", "450 of 1,000 rows", "due in 2 h"],
    "events?queue=payments&task=charge&job=charge-1": ["charge-1", "ValueError", "finished"],
    "schedule": ["charge", "hold", "send"],
    "schedule?task=send": ["to", "str"],
}


class Reader(HTMLParser):
    """Collects the links, the files and the words of a page, and what its policy would forbid."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.files: set[str] = set()
        self.inline: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "action", "formaction") and tag != "link":
                self.links.add(value or "")
            if name == "src" or (name == "href" and tag == "link"):
                self.files.add(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")
        if tag == "style" or (tag == "script" and "src" not in dict(attrs)):
            self.inline.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_shows_what_there_is(shop: Shop, page: str) -> None:
    async with view_of(shop.engine, title="Shop, staging") as client:
        response = await client.get(page)
    assert response.status_code == 200
    read = Reader(response.text)
    words = " ".join(read.words.split())
    assert [word for word in [*PAGES[page], "Shop, staging"] if word not in words] == []
    assert read.inline == []
    assert CANARY not in response.text
    assert len(response.content) < 50_000


@pytest.mark.parametrize("page", PAGES)
async def test_every_answer_has_headers_that_protect_it(shop: Shop, page: str) -> None:
    async with view_of(shop.engine) as client:
        headers = (await client.get(page)).headers
    assert headers["content-security-policy"] == POLICY
    assert "default-src 'self'" in POLICY
    assert "frame-ancestors 'none'" in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


async def test_files_are_kept_by_their_version(shop: Shop) -> None:
    async with view_of(shop.engine) as client:
        files = Reader((await client.get("./")).text).files
        assert {file.partition("?")[0] for file in files} == {
            "static/htmx.min.js",
            "static/icon.svg",
            "static/view.css",
            "static/view.js",
        }
        for file in files:
            response = await client.get(file)
            assert response.status_code == 200
            assert "immutable" in response.headers["cache-control"]
        assert (await client.get("static/view.css")).headers["cache-control"] == "no-store"
        assert (await client.get("static/htmx.LICENSE.txt")).status_code == 200


def stripping(app: ASGIApp, prefix: str) -> ASGIApp:
    """A proxy that strips a prefix, and does not tell of it."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            assert scope["path"].startswith(prefix)
            path = scope["path"].removeprefix(prefix)
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    return proxy


@pytest.fixture
async def proxied(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    """A view that is mounted in two applications, behind a proxy that strips a prefix."""
    app: ASGIApp = web_view(shop.engine, access=allow(Access.ALL | Access.SCHEDULE))
    app = Starlette(routes=[Mount("/tools", Starlette(routes=[Mount("/jobs", app)]))])
    transport = httpx.ASGITransport(stripping(app, "/admin"))
    async with httpx.AsyncClient(transport=transport, base_url="http://view.test", headers=OWN) as client:
        yield client


async def test_every_link_holds_under_prefixes_behind_a_proxy(proxied: httpx.AsyncClient) -> None:
    start = "http://view.test/admin/tools/jobs/"
    found, left = {start}, [start]
    while left:
        url = left.pop()
        response = await proxied.get(url)
        # 405 is an action, and 400 a form without its fields.
        assert response.status_code in (200, 400, 405), url
        read = Reader(response.text) if "html" in response.headers.get("content-type", "") else Reader("")
        for link in read.links | read.files:
            there = urljoin(url, link)
            assert there.startswith(start), link
            if there not in found and not link.startswith("#"):
                found.add(there)
                left.append(there)
    assert len(found) > 40


async def test_an_action_leads_back_under_prefixes(proxied: httpx.AsyncClient) -> None:
    url = "http://view.test/admin/tools/jobs/"
    data = {"id": "later-1", "queue": "mail", "back": "queue?name=mail&status=waiting"}
    response = await proxied.post(f"{url}run-now", data=data)
    assert response.status_code == 303
    there = urljoin(f"{url}run-now", response.headers["location"])
    assert there == f"{url}queue?name=mail&status=waiting&done=run&count=1"
    assert "1 job is queued now." in (await proxied.get(there)).text


async def test_arguments_are_shown_as_the_owner_decides(shop: Shop) -> None:
    async with view_of(shop.engine, show=lambda job: {"order": job.args[0]}) as client:
        text = (await client.get("job?id=charge-3")).text
        assert "<dt><bdi>order</bdi></dt><dd><bdi>3</bdi></dd>" in text
        assert CANARY not in text

    def broken(job: object) -> dict[str, str]:
        raise ValueError(CANARY)

    async with view_of(shop.engine, show=broken) as client:
        text = (await client.get("job?id=charge-3")).text
        assert "show= raised ValueError" in text
        assert CANARY not in text


async def test_a_running_job_tells_where_its_body_is(shop: Shop) -> None:
    async with view_of(shop.engine) as client:
        text = (await client.get("job?id=held&queue=mail&stack=1")).text
    assert "conftest.py" in text
    assert "Event.wait" in text


async def test_jobs_come_page_by_page(shop: Shop) -> None:
    for number in range(90):
        await shop.send.options(id=f"many-{number}").schedule("a")
    seen: list[str] = []
    async with view_of(shop.engine) as client:
        url = "queue?name=mail&task=send"
        while url:
            text = (await client.get(url)).text
            seen += re.findall(r'name="id" value="([^"]+)"', text)
            following = re.search(r'rel="next" href="([^"]+)"', text)
            url = following[1].replace("&amp;", "&") if following else ""
    assert seen == ["queued", *(f"many-{number}" for number in range(90))]


async def test_long_lists_are_cut(namespace: str) -> None:
    async with Engine(MemoryBroker(), namespace) as engine:
        for number in range(95):

            @engine.task(name=f"task-{number:02}", queue=f"queue-{number:02}")
            async def work() -> None: ...

        async with view_of(engine) as client:
            first = (await client.get("./")).text
            assert "queue-39" in first
            assert "queue-40" not in first
            assert "1&ndash;40 of 95" in first
            last = (await client.get("./?from=80")).text
            assert "queue-94" in last
            assert len(first) < 50_000
            assert (await client.get("./?from=x")).status_code == 400


@pytest.mark.parametrize(
    ("page", "status"),
    [
        ("queue?name=unknown", 404),
        ("queue?name=mail&status=odd", 400),
        ("queue?name=mail&after=odd", 400),
        ("queue", 400),
        ("events?queue=unknown", 404),
        ("events?task=two%20words", 400),
        ("events?before=odd", 400),
        ("changes?queue=unknown", 404),
        ("changes?job=un%20known", 400),
        ("job?id=unknown", 404),
        ("job?id=un%20known", 400),
        ("job?id=" + "x" * 20_000, 400),
        ("schedule?task=unknown", 404),
        ("nothing", 404),
    ],
)
async def test_bad_addresses_get_an_answer(shop: Shop, page: str, status: int) -> None:
    async with view_of(shop.engine) as client:
        response = await client.get(page)
    assert response.status_code == status
    assert len(response.content) < 10_000


async def test_a_new_engine_has_pages_that_teach(namespace: str) -> None:
    async with Engine(MemoryBroker(), namespace) as engine, view_of(engine) as client:
        for page, word in (
            ("./", "No queue yet"),
            ("dead", "No dead job"),
            ("periodic", "No periodic task"),
            ("workers", "No worker is alive"),
            ("schedule", "No task"),
            ("events", "RedisBroker(events=10_000)"),
        ):
            assert word in (await client.get(page)).text


async def test_while_the_store_is_away_pages_say_so(namespace: str) -> None:
    url = f"redis://user:{CANARY}@127.0.0.1:{free_port()}/0"
    broker = RedisBroker(url, enqueue_timeout=0.2, events=1000)
    engine = Engine(broker, namespace)

    @engine.task(name="send")
    async def send() -> None: ...

    async with view_of(engine) as client:
        for page in (
            "./",
            "queue?name=default",
            "job?id=a",
            "dead",
            "periodic",
            "workers",
            "events",
            "changes",
        ):
            response = await client.get(page)
            assert response.status_code == 503, page
            assert response.headers["retry-after"] == "5"
            assert "The store does not answer" in response.text
            assert "Traceback" not in response.text
            assert CANARY not in response.text
        response = await client.post("pause", data={"queue": "default"})
        assert response.status_code == 503
        assert "It is not known whether this was done" in response.text
        assert "hx-get" not in response.text, "an action is not repeated by itself"


async def test_the_view_alone_opens_and_closes_its_engine(namespace: str) -> None:
    engine = Engine(MemoryBroker(), namespace)
    app = web_view(engine, access=allow(Access.READ))
    async with app.router.lifespan_context(app):
        assert not engine.has_ended
    assert engine.has_ended
