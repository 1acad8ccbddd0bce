"""What each action does, what it asks before, and where it leads."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html import unescape

import httpx
import pytest

from aiospinach import JobStatus

from .conftest import Shop, view_of


async def post(client: httpx.AsyncClient, action: str, **form: str | list[str]) -> str:
    """Send a form, as a browser without scripts does: answer the question, and return the page after it."""
    response = await client.post(action, data=form)
    if "Are you sure?" in response.text:
        fields = re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', response.text)
        again: dict[str, list[str]] = {}
        for name, value in fields:
            again.setdefault(name, []).append(unescape(value))
        response = await client.post(action, data=again)
    assert response.status_code == 303, response.text
    return (await client.get(response.headers["location"])).text


async def test_what_cannot_be_undone_is_asked_for(shop: Shop) -> None:
    group = {"queue": "payments", "task": "charge", "error": "builtins.KeyError"}
    async with view_of(shop.engine) as client:
        for action, form, question in (
            ("cancel", {"id": "queued"}, "Cancel the job queued?"),
            ("cancel", {"id": ["queued", "later-1"]}, "Cancel 2 jobs?"),
            ("discard", {"id": "charge-1"}, "Discard the job charge-1?"),
            ("requeue-group", group, "Queue all dead jobs of task charge with the error builtins.KeyError"),
            ("discard-group", group, "Discard all dead jobs of task charge"),
        ):
            response = await client.post(action, data={**form, "back": "dead"})
            assert response.status_code == 200
            assert question in response.text
            assert 'href="dead"' in response.text
    assert await shop.status("queued") is JobStatus.QUEUED
    assert (await shop.engine.counts())["payments"].dead == 5


async def test_selected_jobs_are_cancelled(shop: Shop) -> None:
    async with view_of(shop.engine) as client:
        page = await post(
            client, "cancel", id=["queued", "later-1"], queue="mail", back="queue?name=mail&status=waiting"
        )
    assert "2 jobs were cancelled." in page
    assert "later-2" in page
    assert await shop.status("queued") is None
    assert await shop.status("later-1") is None


async def test_dead_jobs_are_requeued_and_discarded(shop: Shop) -> None:
    async with view_of(shop.engine) as client:
        page = await post(client, "requeue", id="charge-1", queue="payments", back="job?id=charge-1")
        assert "1 dead job was queued again." in page
        assert "waits: no live worker consumes the queue payments" in page
        page = await post(client, "discard", id=["charge-2", "charge-1"], queue="payments")
        assert "1 dead job was discarded." in page
        page = await post(client, "requeue", id="charge-1", queue="payments")
        assert "Nothing was changed" in page
    assert await shop.status("charge-1") is JobStatus.QUEUED
    assert await shop.status("charge-2") is None


async def test_a_group_is_requeued_and_another_discarded(shop: Shop) -> None:
    group = {"queue": "payments", "task": "charge", "back": "dead"}
    async with view_of(shop.engine) as client:
        assert "5 in 2 groups" in (await client.get("dead")).text
        page = await post(client, "requeue-group", error="builtins.KeyError", **group)
        assert "3 dead jobs were queued again." in page
        assert "2 in 1 group " in page
        page = await post(client, "discard-group", error="builtins.ValueError", **group)
        assert "2 dead jobs were discarded." in page
        assert "No dead job" in page
        assert (await client.post("discard-group", data={"queue": "payments"})).status_code == 400
    counts = (await shop.engine.counts())["payments"]
    assert (counts.ready, counts.dead) == (3, 0)


async def test_groups_are_filtered(shop: Shop) -> None:
    async with view_of(shop.engine) as client:
        assert "3 in 1 group " in (await client.get("dead?filter=keyerr")).text
        assert "5 in 2 groups" in (await client.get("dead?filter=PAY")).text
        assert "No group matches" in (await client.get("dead?filter=odd")).text


async def test_a_job_is_moved(shop: Shop) -> None:
    async with view_of(shop.engine) as client:
        page = await post(client, "reschedule", id="later-1", queue="mail", at="2030-05-06T07:08")
        assert "1 job was moved" in page
        response = await client.post("reschedule", data={"id": "later-1", "queue": "mail", "at": "tomorrow"})
        assert response.status_code == 400
        assert "2026-11-29T08:00" in response.text
        await post(client, "run-now", id="later-2", queue="mail")
    job = await shop.engine.job("later-1")
    assert job is not None
    assert job.at == datetime(2030, 5, 6, 7, 8, tzinfo=UTC)
    assert await shop.status("later-2") is not JobStatus.WAITING


async def test_queues_and_tasks_are_paused_and_resumed(shop: Shop) -> None:
    async with view_of(shop.engine) as client:
        back = "queue?name=mail"
        page = await post(client, "pause", queue="mail", reason="<b>away</b>", minutes="90", back=back)
        assert "It is paused." in page
        assert "&lt;b&gt;away&lt;/b&gt;" in page
        page = await post(client, "pause", queue="payments", task="poll", back="periodic")
        assert "paused since" in page.lower()
        whole, task = await shop.engine.pauses()
        assert whole.until is not None
        assert (whole.queue, whole.task, whole.reason) == ("mail", None, "<b>away</b>")
        assert (whole.until - whole.since).total_seconds() == pytest.approx(5400, abs=5)
        assert (task.queue, task.task, task.until) == ("payments", "poll", None)
        await post(client, "resume", queue="mail")
        await post(client, "resume", queue="payments", task="poll")
        assert await shop.engine.pauses() == []
        assert "Nothing was changed" in await post(client, "resume", queue="mail")
        for minutes in ("-1", "0", "1e3", "9" * 400):
            assert (await client.post("pause", data={"queue": "mail", "minutes": minutes})).status_code == 400


async def test_a_periodic_task_is_run_once_more(shop: Shop) -> None:
    async with view_of(shop.engine) as client:
        await post(client, "run-task", task="poll", back="periodic")
        assert (await client.post("run-task", data={"task": "send"})).status_code == 400
    assert [job.task_name async for job in shop.engine.jobs(task="poll")] == ["poll"]


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.test/",
        "//evil.test",
        "/\\evil.test",
        "javascript:alert(1)",
        "queue/../../other",
        "queue?a=\r\nSet-Cookie: a=b",
        "static/view.css",
        "dead#x",
        "x" * 10_000,
        "",
    ],
)
async def test_nobody_is_led_elsewhere(shop: Shop, back: str) -> None:
    async with view_of(shop.engine) as client:
        response = await client.post("run-now", data={"id": "later-1", "queue": "mail", "back": back})
    assert response.headers["location"] == "./?done=run&count=1"


async def test_no_link_puts_words_into_the_view(shop: Shop) -> None:
    async with view_of(shop.engine) as client:
        for query in ("done=call+0800&count=1", "done=run&count=x", "done=run&count=" + "9" * 50):
            assert 'class="note"' not in (await client.get(f"./?{query}")).text
        assert "1,234 jobs were cancelled." in (await client.get("./?done=cancelled&count=1234")).text


async def test_odd_forms_are_refused(shop: Shop) -> None:
    async with view_of(shop.engine) as client:
        for body in (b"id=" + b"x" * 1_100_000, b"id=%ff", b"&".join([b"id=a"] * 2000), b""):
            response = await client.post("run-now", content=body)
            assert response.status_code == 400
        assert (await client.post("run-now", data={"id": [str(n) for n in range(201)]})).status_code == 400
        assert (await client.post("pause", data={})).status_code == 400
        assert (await client.post("pause", data={"queue": "unknown"})).status_code == 404
        assert (await client.post("nothing", data={})).status_code == 404
        assert (await client.get("cancel")).status_code == 405
