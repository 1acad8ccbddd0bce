"""A cancelled anyio scope around a call of the engine waits for it without spinning the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from aiospinach import Engine, signals

MOST = 20
"""Cancellations that a call may receive; a spinning scope delivers thousands in a fraction of a second."""


class Counted(asyncio.Task[Any]):
    """Counts the cancellations of all tasks."""

    cancellations = 0

    def cancel(self, msg: Any = None) -> bool:
        Counted.cancellations += 1
        return super().cancel(msg)


@pytest.mark.parametrize("call", ["start_workers", "execute", "schedule"])
async def test_a_cancelled_scope_waits_without_spinning_the_loop(engine: Engine, call: str) -> None:
    begun, end, may_end = threading.Event(), threading.Event(), asyncio.Event()

    @engine.task
    def held() -> None:
        begun.set()
        end.wait(10)

    @signals.job_scheduled.connect_via(engine.namespace)
    async def receiver(namespace: str, **kwargs: Any) -> None:
        if call == "schedule":
            begun.set()
            await may_end.wait()

    calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "start_workers": engine.start_workers,
        "execute": lambda: engine.execute(held),
        "schedule": held.schedule,
    }
    if call == "start_workers":
        await held.schedule()
    loop = asyncio.get_running_loop()
    Counted.cancellations = 0
    loop.set_task_factory(lambda loop, coroutine, **options: Counted(coroutine, loop=loop, **options))
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(calls[call])
            while not begun.is_set():
                await asyncio.sleep(0.001)
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0.1)  # long enough to spin
                end.set()
                may_end.set()
    finally:
        loop.set_task_factory(None)
    assert 0 < Counted.cancellations < MOST
