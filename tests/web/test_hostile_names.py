"""Names, keys, errors and arguments of hostile people are text on every page, and nothing else."""

from __future__ import annotations

import re

import pytest

from aiospinach import AbortException, Broker, Engine, Job
from aiospinach.contrib.web.pages.job import LONGEST_SHOWN

from ..brokers_under_test import BROKERS, MakeBroker
from .conftest import view_of
from .test_pages import Reader

SCRIPT = "<script>alert(1)</script>"
QUOTES = "\"'><img src=x onerror=alert(1)>"
TURNED = "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe \N{ARABIC LETTER ALEF}"
TEMPLATE = "{{ 7 * 191 }}{% raw %}"
TEXTS = [SCRIPT, QUOTES, TURNED, TEMPLATE, "x" * 200, "</title></textarea></pre>", "hx-get=a", "&lt;"]
PAGES = [
    "./",
    "queue?name=mail.slow-1",
    "queue?name=mail.slow-1&status=dead",
    "queue?name=mail.slow-1&status=running",
    "dead",
    "periodic",
    "workers",
    "events",
    "schedule",
]


@pytest.mark.parametrize("make", BROKERS)
async def test_text_stays_text(make: MakeBroker, namespace: str) -> None:
    broker: Broker = make(events=1000)
    odd = type(QUOTES, (AbortException,), {"__module__": SCRIPT})

    async with Engine(broker, namespace) as engine:

        @engine.task(name="a:b@c.d-e", queue="mail.slow-1")
        async def work(text: str) -> None:
            raise odd(text)

        for number, text in enumerate(TEXTS):
            await work.options(id=f"id'\"<{number}>&", key=text).schedule(text)
        await engine.start_workers(2, stop_when_queue_empty=True)
        for number, text in enumerate(TEXTS):
            await work.options(id=f"new'\"<{number}>&", key=text).schedule(text)
        await engine.pause(queue="mail.slow-1", reason=SCRIPT + QUOTES + TURNED)

        def show(job: Job) -> dict[str, object]:
            return {SCRIPT: job.args[0], QUOTES: "y" * 1_000_000}

        pages = [*PAGES, *(f"job?id=id%27%22%3C{number}%3E%26" for number in range(len(TEXTS)))]
        pages += [
            f"queue?name=mail.slow-1&task=x&key={QUOTES}&error={SCRIPT}",
            f"dead?filter={QUOTES}{SCRIPT}",
            f"events?queue={QUOTES}",
            f"events?task={SCRIPT}&job={QUOTES}",
            f"events?before={SCRIPT}",
        ]
        async with view_of(engine, show=show, title=SCRIPT + QUOTES) as client:
            for page in pages:
                response = await client.get(page)
                assert response.status_code in (200, 400, 404), page
                _check(response.text, page)
                assert len(response.content) < 100_000, page
            question = await client.post("cancel", data={"id": QUOTES, SCRIPT: QUOTES, "back": QUOTES})
            _check(question.text, "question")
            for path in ("queue", "job", "dead", "schedule", "events", "changes"):
                response = await client.get(
                    path, params=dict.fromkeys(("name", "id", "task", "after", "job"), SCRIPT)
                )
                _check(response.text, path)


def _check(text: str, page: str) -> None:
    assert "<script>" not in text, page
    assert "<img src=x" not in text, page
    assert "1337" not in text, page
    assert Reader(text).inline == [], page
    assert all(tag == "<bdi" for tag in re.findall(r"(<\w+)[^<>]*>[^<]*\N{RIGHT-TO-LEFT OVERRIDE}", text)), (
        page
    )


def test_the_limit_of_a_shown_value_is_small() -> None:
    assert LONGEST_SHOWN <= 2000
