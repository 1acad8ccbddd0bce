"""A job that one worker does not know reaches another that does: the line of those who wait moves on."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from aiospinach import Engine, RedisBroker, current_job, outcome

from ..conftest import Heard
from ..servers import Server
from ..waiting import until


@pytest.mark.parametrize("strangers", [1, 3])
async def test_it_is_not_offered_to_the_same_worker_for_ever(
    namespace: str, own_server: Server, heard: Heard, monkeypatch: pytest.MonkeyPatch, strangers: int
) -> None:
    monkeypatch.setattr(outcome, "PARK_FOR", 0.05)
    were_parked: list[bool] = []
    async with AsyncExitStack() as stack:
        client = stack.enter_context(own_server.client())

        async def worker() -> Engine:
            before = client.info("clients")["blocked_clients"]
            engine = await stack.enter_async_context(Engine(RedisBroker(own_server.unix_url), namespace))
            if before == strangers:

                @engine.task(name="added")
                async def added() -> None:
                    job = current_job()
                    assert job is not None
                    were_parked.append(job.parked_at is not None)

            await engine.start_workers(2, block=False)
            await until(lambda: client.info("clients")["blocked_clients"] == before + 1)
            return engine

        engines = [await worker() for _ in range(strangers + 1)]  # those who wait longest are woken first
        for number in range(1, 11):
            await engines[-1].schedule("added")
            await until(lambda: len(were_parked) == number, "it runs", timeout=10)  # noqa: B023
            await until(lambda: client.info("clients")["blocked_clients"] == strangers + 1)
    assert any(were_parked)
