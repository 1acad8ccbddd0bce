"""The server itself refuses what a request may not do, and what another site sends."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from aiospinach import Engine, InvalidValue, JobStatus, MemoryBroker
from aiospinach.contrib.web import Access, web_view
from aiospinach.contrib.web.view import ACTIONS, PAGES, STREAMS

from .conftest import EVERYTHING, OWN, Shop, allow, client_of, view_of

FORMS: dict[str, tuple[Access, dict[str, str]]] = {
    "cancel": (Access.CANCEL, {"id": "queued", "queue": "mail", "sure": "yes"}),
    "requeue": (Access.REQUEUE, {"id": "charge-1", "queue": "payments"}),
    "discard": (Access.DISCARD, {"id": "charge-1", "queue": "payments", "sure": "yes"}),
    "run-now": (Access.RUN_NOW, {"id": "later-1", "queue": "mail"}),
    "reschedule": (Access.RESCHEDULE, {"id": "later-1", "queue": "mail", "at": "2030-01-01T00:00"}),
    "pause": (Access.PAUSE, {"queue": "mail"}),
    "resume": (Access.RESUME, {"queue": "mail"}),
    "requeue-group": (
        Access.REQUEUE,
        {"queue": "payments", "task": "charge", "error": "builtins.KeyError", "sure": "yes"},
    ),
    "discard-group": (
        Access.DISCARD,
        {"queue": "payments", "task": "charge", "error": "builtins.KeyError", "sure": "yes"},
    ),
    "run-task": (Access.RUN_NOW, {"task": "poll"}),
    "schedule": (Access.SCHEDULE, {"task": "send", "argument.to": "ann"}),
}


async def state_of(engine: Engine) -> list[Any]:
    """All that an action could change. Running jobs and times of the present are left out."""
    jobs = [(job.id, job.status, job.at) async for job in engine.jobs()]
    return [sorted(jobs, key=repr), [(each.queue, each.task) for each in await engine.pauses()]]


def test_each_action_is_tested() -> None:
    assert {f"/{name}" for name in FORMS} == set(ACTIONS)
    assert {f"/{name}": access for name, (access, _) in FORMS.items()} == {
        path: access for path, (access, _) in ACTIONS.items()
    }


async def test_an_action_needs_its_right(shop: Shop) -> None:
    """Whatever else a request may do, without the right of an action it changes nothing."""
    await shop.engine.pause(queue="mail")
    before = await state_of(shop.engine)
    for name, (needed, form) in FORMS.items():
        for access in (Access.NONE, Access.READ, EVERYTHING & ~needed, needed):  # the last may not read
            async with view_of(shop.engine, access) as client:
                response = await client.post(name, data=form)
                assert response.status_code == 403, (name, access)
    assert await state_of(shop.engine) == before


@pytest.mark.parametrize("name", FORMS)
async def test_an_action_with_its_right_changes_something(shop: Shop, name: str) -> None:
    needed, form = FORMS[name]
    if name == "resume":
        await shop.engine.pause(queue="mail")
    before = await state_of(shop.engine)
    async with view_of(shop.engine, Access.READ | needed) as client:
        response = await client.post(name, data=form)
    assert response.status_code == 303
    assert "done=" in response.headers["location"]
    assert await state_of(shop.engine) != before


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://view.test"},
        {"Origin": "http://evil.test"},
        {"Origin": "http://view.test:81"},
        {"Origin": "http://view.test.evil.test"},
        {"Origin": "null"},
        {"Origin": "http://[odd"},
        {},
    ],
    ids=str,
)
async def test_what_another_site_sends_is_refused(shop: Shop, headers: dict[str, str]) -> None:
    before = await state_of(shop.engine)
    async with view_of(shop.engine) as client:
        client.headers.pop("Sec-Fetch-Site")
        for name, (_, form) in FORMS.items():
            response = await client.post(name, data=form, headers=headers)
            assert response.status_code == 403
            assert "did not come from a page of this view" in response.text
    assert await state_of(shop.engine) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://other.test"},
        {"Origin": "http://view.test"},
        {"Origin": "http://view.test:80"},
        {"Origin": "https://admin.test", "Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
async def test_what_the_view_itself_sends_is_let_in(shop: Shop, headers: dict[str, str]) -> None:
    async with view_of(shop.engine, origins=["https://admin.test"]) as client:
        client.headers.pop("Sec-Fetch-Site")
        response = await client.post("run-now", data=FORMS["run-now"][1], headers=headers)
    assert response.status_code == 303
    assert await shop.status("later-1") is not JobStatus.WAITING


async def test_without_read_no_page_is_shown(shop: Shop) -> None:
    async with view_of(shop.engine, EVERYTHING & ~Access.READ, title="Secret shop") as client:
        for page in PAGES | STREAMS:
            response = await client.get(page)
            assert response.status_code == 403
            assert "mail" not in response.text
            assert "Secret shop" not in response.text
            assert shop.engine.namespace not in response.text


async def test_buttons_are_those_that_work(shop: Shop) -> None:
    pages = ("queue?name=mail", "queue?name=payments&status=dead", "job?id=later-1", "dead", "periodic")
    async with view_of(shop.engine, Access.READ) as client:
        texts = [(await client.get(page)).text for page in pages]
        assert [text for text in texts if 'method="post"><input' in text or "formaction" in text] == []
        assert [text for text in texts if 'type="checkbox" name' in text or 'action="pause"' in text] == []
        assert (await client.get("schedule")).status_code == 403


def test_all_leaves_out_what_starts_any_code() -> None:
    assert Access.SCHEDULE not in Access.ALL
    everything = Access.NONE
    for access in Access:
        everything |= access
    assert everything == Access.ALL | Access.SCHEDULE


async def test_a_check_may_be_async_and_raise(shop: Shop) -> None:
    async def check(request: Request) -> Access:
        await asyncio.sleep(0)
        if "user" not in request.headers:
            raise HTTPException(401)
        return Access.READ

    async with client_of(web_view(shop.engine, access=check)) as client:
        assert (await client.get("./")).status_code == 401
        assert (await client.get("./", headers={"user": "ann"})).status_code == 200


@pytest.mark.parametrize("found", [True, None, 255, "all"])
async def test_a_check_that_returns_something_else_lets_nobody_in(shop: Shop, found: Any) -> None:
    app = web_view(shop.engine, access=lambda request: found)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://view.test", headers=OWN) as client:
        assert (await client.get("./")).status_code == 500
        assert (await client.post("pause", data={"queue": "mail"})).status_code == 500
    assert await shop.engine.pauses() == []


async def test_bad_input_is_refused_at_once() -> None:
    engine = Engine(MemoryBroker())
    with pytest.raises(TypeError, match="access"):
        web_view(engine)  # type: ignore[call-arg]
    for options, words in (
        ({"access": Access.ALL}, "access"),
        ({"access": allow(Access.ALL), "show": {}}, "show"),
        ({"access": allow(Access.ALL), "title": 5}, "title"),
        ({"access": allow(Access.ALL), "schedulable": "send"}, "schedulable"),
        ({"access": allow(Access.ALL), "schedulable": [5]}, "schedulable"),
        ({"access": allow(Access.ALL), "origins": "https://a.test"}, "origins"),
    ):
        with pytest.raises(InvalidValue, match=words):
            web_view(engine, **options)
    with pytest.raises(InvalidValue, match="Engine"):
        web_view(web_view, access=allow(Access.ALL))  # type: ignore[arg-type]
