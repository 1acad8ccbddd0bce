"""What a broker makes of wake-ups that it cannot use, and of event loops that ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from aiospinach import RedisBroker
from aiospinach.brokers.links import Link

from ..brokers_under_test import shared_server
from .conftest import key


class Waking:
    """Stands before a link, and takes several wake-ups at once, as a Cluster's does."""

    def __init__(self, link: Link, tokens: Mapping[str, bytes]) -> None:
        self.work, self.produce, self.aclose = link.work, link.produce, link.aclose
        self._tokens = tokens

    async def pop(self, keys: Sequence[str], timeout: float) -> Mapping[str, bytes]:
        return self._tokens


@pytest.mark.parametrize(
    ("tokens", "is_due_sooner"),
    [
        ({"mail": b"run", "files": b"run"}, False),
        ({"mail": b"run", "files": b"due"}, True),
        ({"mail": b"run", "files": b""}, True),  # it may have been taken, and nobody knows what it said
        ({"mail": b"due", "files": b"run"}, True),
    ],
)
async def test_who_is_woken_for_one_queue_hears_that_something_is_due_in_another(
    namespace: str, tokens: dict[str, bytes], is_due_sooner: bool
) -> None:
    broker = RedisBroker(shared_server().url)
    await broker.open(namespace)
    here = broker._here()
    by_key = {key(namespace, "wake", queue): token for queue, token in tokens.items()}
    here.link = Waking(here.link, by_key)  # type: ignore[assignment]
    assert await broker.wait(["mail", "files"], 5) == "mail"
    assert (await broker.exchange("mail", [], 1)).is_due_sooner is is_due_sooner
    assert not (await broker.exchange("files", [], 1)).is_due_sooner, "it is told once"
    await broker.aclose()


def test_event_loops_that_ended_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody closed what holds them: an open connection does."""
    broker = RedisBroker()
    monkeypatch.setattr(broker._place, "link", asyncio.get_running_loop)

    async def use() -> None:
        broker._here()

    for _ in range(5):
        asyncio.run(use())
        assert len(broker._loops) == 1
