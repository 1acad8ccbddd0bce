"""The commands of the production page count waiting, running and dead jobs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import redis

from aiospinach import RedisBroker
from aiospinach.brokers.questions import Counts
from aiospinach.brokers.records import Parking, Settlement
from aiospinach.outcome import Action

from .. import asking
from ..brokers.conftest import make_dead, put, settle, take
from ..brokers_under_test import shared_server
from .conftest import key

PAGE = Path(__file__).parent.parent.parent / "docs" / "production.md"
QUEUE = "mail"


def commands_of_the_page() -> dict[str, list[str]]:
    """The commands of the page, by their meaning."""
    [block] = [text for text in re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.S) if "HLEN" in text]
    lines = [re.split(r" {2,}", re.sub(r"^(\w+) +", r"\1 ", line)) for line in block.strip().splitlines()]
    return {meaning: command.split(" ") for command, meaning in lines}


def counted(client: redis.Redis, prefix: str, now: int) -> dict[str, int]:
    """Their results."""
    answers: dict[str, Any] = {}
    for meaning, command in commands_of_the_page().items():
        words = [word.replace("<q>:", prefix).replace("<now>", str(now)) for word in command]
        answers[meaning] = client.execute_command(*words)  # type: ignore[no-untyped-call]
    return answers


async def test_the_commands_of_the_page_count_jobs_correctly(namespace: str, plain: redis.Redis) -> None:
    broker = RedisBroker(shared_server().unix_url)
    await broker.open(namespace)
    await broker.register(QUEUE, {"send": 1}, {})
    await put(broker, QUEUE, "unknown", task="strange")
    [lease] = await take(broker, QUEUE)
    await broker.exchange(QUEUE, [Settlement(lease, Action.PARK)], 0, Parking(unknown=["strange"]))
    await make_dead(broker, QUEUE, "dead")
    await put(broker, QUEUE, "later", at=broker.now() + 600_000)
    await put(broker, QUEUE, "again", task="other", max_retries=1)
    [lease] = await take(broker, QUEUE)
    assert await settle(broker, QUEUE, lease, Action.RETRY, 600.0)
    await put(broker, QUEUE, "runs", "held-1", "held-2", "held-3")
    assert len(await take(broker, QUEUE)) == 1
    assert plain.llen(key(namespace, "ready", QUEUE)) == 0, "as the page warns"

    found = counted(plain, key(namespace, "", QUEUE), broker.now())
    live, running, later, unknown, dead = found.values()
    assert list(found) == [
        "all that live",
        "those that run",
        "those that are not due yet",
        "those whose task no worker knows",
        "those that are dead",
    ]
    waiting = live - running - later - unknown
    assert (waiting, running, later, unknown, dead) == (3, 1, 2, 1, 1)
    assert await asking.counts(broker, QUEUE) == Counts(waiting, running, later, dead, unknown)
    await broker.aclose()
