"""Dead jobs are counted once for many visitors, and again when they have changed."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from aiospinach import BrokerUnavailable, DeadGroup
from aiospinach.contrib.web import group_cache
from aiospinach.contrib.web.group_cache import Counted, GroupCache

from ..waiting import until
from .conftest import Shop, view_of


@pytest.fixture
def readings(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of groups that the engine has counted."""
    found: list[int] = []
    count = shop.engine.dead_groups

    async def counted(**limits: Any) -> list[DeadGroup]:
        groups = await count(**limits)
        found.append(len(groups))
        return groups

    monkeypatch.setattr(shop.engine, "dead_groups", counted)
    return found


async def test_visitors_of_the_same_seconds_share_a_reading(shop: Shop, readings: list[int]) -> None:
    cache = GroupCache(shop.engine)
    found = await asyncio.gather(*(cache.read() for _ in range(20)))
    assert all(counted == found[0] for counted in found)
    assert (sum(group.count for group in found[0].groups), found[0].is_partial) == (5, False)
    await shop.engine.discard_dead(error="builtins.KeyError")
    await cache.read()
    assert readings == [2]
    cache.forget()
    await cache.read()
    assert readings == [2, 1]


async def test_they_are_counted_again_if_their_numbers_change(
    shop: Shop, readings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_cache, "CHANGED_KEPT_FOR", 0.0)
    monkeypatch.setattr(group_cache, "SHARE", math.inf)
    cache = GroupCache(shop.engine)
    await cache.read()
    await cache.read()
    assert readings == [2]
    await shop.engine.discard_dead(error="builtins.KeyError")
    await cache.read()
    assert readings == [2, 1]
    monkeypatch.setattr(group_cache, "KEPT_FOR", 0.0)
    await cache.read()
    assert readings == [2, 1, 1]


def shown(counted: Counted) -> dict[str, int]:
    return {group.error.removeprefix("builtins."): group.count for group in counted.groups}


async def test_a_visitor_waits_for_the_latest_of_many_alone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_cache, "AT_ONCE", 3)
    cache = GroupCache(shop.engine)
    first = await cache.read()
    assert (shown(first), first.total, first.is_partial) == ({"KeyError": 2, "ValueError": 1}, 5, True)
    await until(lambda: not cache._is_counting, "all are counted")
    then = await cache.read()
    assert (shown(then), then.total, then.is_partial) == ({"KeyError": 3, "ValueError": 2}, 5, False)


async def test_groups_are_shown_while_they_are_counted_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_cache, "AT_ONCE", 1)
    cache = GroupCache(shop.engine)
    await cache.read()
    await until(lambda: not cache._is_counting, "all are counted")
    await shop.engine.discard("charge-0")
    group = {"queue": "payments", "task": "charge", "error": "builtins.ValueError"}
    await shop.engine.discard_dead(**group)
    cache.forget(**group)
    then = await cache.read()
    assert (shown(then), then.is_partial) == ({"KeyError": 3}, False)
    await until(lambda: not cache._is_counting, "all are counted")
    assert shown(await cache.read()) == {"KeyError": 2}


async def test_a_count_that_an_action_has_overtaken_is_left(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_cache, "AT_ONCE", 1)
    cache = GroupCache(shop.engine)
    await cache.read()
    begun = cache._counting
    assert begun is not None
    await shop.engine.discard_dead(error="builtins.KeyError")
    cache.forget()
    await asyncio.wait([begun])
    again = await cache.read()
    assert (again.total, again.is_partial) == (2, True)
    await until(lambda: not cache._is_counting, "all are counted")
    assert shown(await cache.read()) == {"ValueError": 2}


@pytest.mark.parametrize("at_once", [2000, 3])
async def test_a_count_that_a_visitor_awaits_is_not_kept_after_an_action(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(group_cache, "AT_ONCE", at_once)
    counted, may_answer = asyncio.Event(), asyncio.Event()
    count = shop.engine.dead_groups

    async def slow(**limits: Any) -> list[DeadGroup]:
        groups = await count(**limits)
        counted.set()
        await may_answer.wait()
        return groups

    monkeypatch.setattr(shop.engine, "dead_groups", slow)
    cache = GroupCache(shop.engine)
    visitor = asyncio.create_task(cache.read())
    await counted.wait()
    group = {"queue": "payments", "task": "charge", "error": "builtins.KeyError"}
    await shop.engine.discard_dead(**group)
    cache.forget(**group)
    may_answer.set()
    assert shown(await visitor) == shown(await cache.read()) == {"ValueError": 2}


async def test_an_action_has_groups_counted_again_however_long_the_last_count_took(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_cache, "SHARE", 1e-9)
    cache = GroupCache(shop.engine)
    await cache.read()
    await shop.engine.discard_dead(error="builtins.KeyError")
    cache.forget()
    assert shown(await cache.read()) == {"ValueError": 2}


async def test_a_count_that_fails_is_made_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_cache, "AT_ONCE", 1)
    cache, count = GroupCache(shop.engine), shop.engine.dead_groups

    async def fails(**limits: Any) -> list[DeadGroup]:
        if limits:
            return await count(**limits)
        raise BrokerUnavailable("away")

    monkeypatch.setattr(shop.engine, "dead_groups", fails)
    await cache.read()
    await until(lambda: not cache._is_counting, "it has failed")
    monkeypatch.setattr(shop.engine, "dead_groups", count)
    assert (await cache.read()).is_partial
    await until(lambda: not cache._is_counting, "all are counted")
    assert not (await cache.read()).is_partial


async def test_a_count_that_takes_long_is_repeated_seldom(
    shop: Shop, readings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_cache, "SHARE", 1e-9)
    monkeypatch.setattr(group_cache, "CHANGED_KEPT_FOR", 0.0)
    cache = GroupCache(shop.engine)
    await cache.read()
    await shop.engine.discard_dead(error="builtins.KeyError")
    await cache.read()
    assert readings == [2]


async def test_the_page_names_what_was_counted(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_cache, "AT_ONCE", 3)
    async with view_of(shop.engine) as client:
        page = (await client.get("dead")).text
        assert "3 in 2 groups, of the latest ones: all 5 are being counted" in page
        assert ">2+</a>" in page
