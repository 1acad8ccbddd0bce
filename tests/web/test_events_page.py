"""The page of events: all of them, the latest first, in the colours of the other pages."""

from __future__ import annotations

import re

from aiospinach import Batch, Engine, MemoryBroker
from aiospinach.brokers.events import _NAMES
from aiospinach.contrib.web.pages.events import BADGES

from .conftest import Shop, view_of


async def test_events_come_page_by_page(shop: Shop) -> None:
    batch = Batch()
    for _ in range(150):
        batch.schedule("charge", 1, "a")
    await shop.engine.schedule_batch(batch)
    await shop.close()
    await shop.engine.start_workers(5, "payments", stop_when_queue_empty=True)
    seen: list[tuple[str, str, str]] = []
    sizes: list[int] = []
    async with view_of(shop.engine) as client:
        url = "events?queue=payments"
        while url:
            text = (await client.get(url)).text
            sizes.append(len(text.encode()))
            seen += re.findall(r'class="badge (\w*)">(\w+)<.*?href="job\?id=([^&]+)&', text, re.DOTALL)
            following = re.search(r'rel="next" href="([^"]+)"', text)
            url = following[1].replace("&amp;", "&") if following else ""
    assert len(seen) == len(set(seen)) == 155 * 4
    assert seen[-1] == ("", "scheduled", "charge-0")
    assert {(tone, label) for tone, label, _ in seen} == {
        ("", "scheduled"),
        ("run", "started"),
        ("bad", "failed"),
        ("", "finished"),
    }
    assert max(sizes) < 50_000


async def test_dropped_events_are_named(namespace: str) -> None:
    async with Engine(MemoryBroker(events=10), namespace) as engine, view_of(engine) as client:

        @engine.task(name="send")
        async def send() -> None: ...

        await send.schedule()
        assert "were dropped" not in (await client.get("events")).text
        for _ in range(20):
            await send.schedule()
        page = await client.get("events")
        assert re.search(r"Events before <time [^>]*>[^<]*</time> were dropped", page.text)
        before = (await engine.latest_events(limit=1)).cursor
        for _ in range(20):
            await send.schedule()
        assert "These events are gone" in (await client.get(f"events?before={before}")).text


async def test_the_progress_of_a_running_job_stands_beside_its_start(shop: Shop) -> None:
    async with view_of(shop.engine) as client:
        for page in ("events", "events?queue=mail", "events?job=held"):
            text = (await client.get(page)).text
            assert text.count('<progress value="450" max="1000">') == 1, page
        assert "<progress" not in (await client.get("events?queue=payments")).text


async def test_a_job_leads_to_its_events(shop: Shop) -> None:
    async with view_of(shop.engine) as client:
        assert 'href="events?job=held&amp;queue=mail"' in (await client.get("job?id=held")).text
        gone = await client.get("job?id=gone")
        assert gone.status_code == 404
        assert 'href="events?job=gone"' in gone.text
    async with Engine(MemoryBroker(), shop.engine.namespace) as engine, view_of(engine) as client:
        assert "events?" not in (await client.get("job?id=gone")).text


def test_each_event_that_is_kept_has_a_badge() -> None:
    assert set(BADGES) == {*_NAMES.values(), "job_finished"}
