"""Engines find queues in the store, and look after queues whose tasks they do not have."""

from __future__ import annotations

import pytest

from aiospinach import Engine, JobStatus, RedisBroker, UnknownQueue

from .brokers_under_test import shared_server


@pytest.fixture
def url() -> str:
    return shared_server().unix_url


async def test_an_engine_without_tasks_looks_after_all_queues(url: str, namespace: str) -> None:
    async with Engine(RedisBroker(url), namespace) as shop, Engine(RedisBroker(url), namespace) as console:

        @shop.task(queue="mail", name="send")
        async def send(name: str) -> None: ...

        await send.options(id="mail-1").schedule("ann")
        assert await console.counts() == {}
        assert await console.find_queues() == ["mail"]
        assert (await console.counts())["mail"].ready == 1
        [job] = [job async for job in console.jobs()]
        assert (job.id, job.task_name, job.queue, job.args) == ("mail-1", "send", "mail", ())
        assert "no live worker consumes the queue mail" in (await console.explain("mail-1")).sentence
        assert await console.cancel("mail-1") is JobStatus.QUEUED


async def test_an_engine_with_tasks_knows_found_queues_as_well(url: str, namespace: str) -> None:
    async with Engine(RedisBroker(url), namespace) as shop, Engine(RedisBroker(url), namespace) as other:

        @shop.task(queue="old", name="send")
        async def send(name: str) -> None: ...

        @other.task(queue="new", name="other")
        async def work() -> None: ...

        await send.schedule("ann")
        with pytest.raises(UnknownQueue):
            await other.counts(queue="old")
        await other.find_queues()
        assert (await other.counts(queue="old"))["old"].ready == 1
        assert list(await other.counts()) == ["new", "old"]
        with pytest.raises(UnknownQueue):
            await other.counts(queue="never")


async def test_a_store_is_asked_to_answer(url: str, namespace: str, engine: Engine) -> None:
    async with Engine(RedisBroker(url), namespace) as shop:
        ping = await shop.ping()
    assert ping.server in ("redis", "valkey")
    assert 0 < ping.round_trip < 3
    assert abs(ping.clock_difference) < 3
    assert (await engine.ping()).server == "memory"
