"""Dead jobs are counted once for many visitors, and again when they have changed."""

from __future__ import annotations

import asyncio

import pytest

from aiospinach import DeadGroup
from aiospinach.contrib.web import group_cache
from aiospinach.contrib.web.group_cache import GroupCache

from .conftest import Shop


@pytest.fixture
def readings(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of groups that the engine has counted."""
    found: list[int] = []
    count = shop.engine.dead_groups

    async def counted() -> list[DeadGroup]:
        groups = await count()
        found.append(len(groups))
        return groups

    monkeypatch.setattr(shop.engine, "dead_groups", counted)
    return found


async def test_visitors_of_the_same_seconds_share_a_reading(shop: Shop, readings: list[int]) -> None:
    cache = GroupCache(shop.engine)
    found = await asyncio.gather(*(cache.read() for _ in range(20)))
    assert all(groups == found[0] for groups in found)
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
