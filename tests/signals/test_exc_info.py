"""Receivers of an error run as if within its ``except`` block; blinker's wrappers work with receivers."""

from __future__ import annotations

import gc
import sys
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from aiospinach import Engine
from aiospinach.signals import SafeNamedSignal, job_failed, job_finished, job_schedule_retry
from aiospinach.signals.receivers import while_handling

from ..asking import counts

WorkerSeen = list[tuple[str, BaseException | None]]


def listen(signal: SafeNamedSignal, engine: Engine) -> WorkerSeen:
    """Connect a plain and an async receiver that record ``sys.exc_info()``."""
    seen: WorkerSeen = []

    def plain(namespace: str, **kwargs: Any) -> None:
        seen.append(("plain", sys.exc_info()[1]))

    async def coroutine(namespace: str, **kwargs: Any) -> None:
        seen.append(("async", sys.exc_info()[1]))

    signal.connect_via(engine.namespace)(plain)
    signal.connect_via(engine.namespace)(coroutine)
    return seen


@pytest.mark.parametrize(
    ("signal", "retries"), [(job_failed, 0), (job_finished, 0), (job_schedule_retry, 1)], ids=str
)
@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_receivers_of_a_failure_see_it_in_exc_info(
    engine: Engine, signal: SafeNamedSignal, retries: int, kind: str
) -> None:
    error = ValueError("broken")

    async def in_loop() -> None:
        raise error

    def in_thread() -> None:
        raise error

    body: Callable[[], Any] = in_loop if kind == "async" else in_thread
    task = engine.task(name="fails", max_retries=retries, backoff=lambda attempt: 0.01)(body)
    seen = listen(signal, engine)
    await task.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert seen == [("plain", error), ("async", error)]
    frames = traceback.extract_tb(error.__traceback__)
    assert frames[-1].name == body.__name__
    assert "while_handling" not in [frame.name for frame in frames]


async def test_exc_info_is_empty_after_a_success(engine: Engine) -> None:
    @engine.task
    async def succeeds() -> None: ...

    seen = listen(job_finished, engine)
    await succeeds.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert seen == [("plain", None), ("async", None)]


async def test_receivers_of_a_failed_execution_see_it_in_exc_info(engine: Engine) -> None:
    @engine.task
    async def fails() -> None:
        raise ValueError("broken")

    seen = listen(job_finished, engine)
    with pytest.raises(ValueError, match="broken") as caught:
        await engine.execute(fails)
    assert seen == [("plain", caught.value), ("async", caught.value)]


async def test_async_receivers_see_the_exception_that_the_sender_is_handling() -> None:
    signal, seen = SafeNamedSignal("order_lost"), []

    @signal.connect
    async def receiver(sender: object, **kwargs: Any) -> None:
        seen.append(sys.exc_info()[1])

    error = ValueError("lost")
    try:
        raise error
    except ValueError:
        await signal.send_async()
    await signal.send_async()
    assert seen == [error, None]


async def test_a_dispatched_error_is_not_kept_alive() -> None:
    signal = SafeNamedSignal("order_lost")

    class Broken(Exception):
        pass

    @signal.connect
    async def receiver(sender: object, **kwargs: Any) -> None: ...

    async def send() -> weakref.ref[Broken]:
        error = Broken()
        results, runs = while_handling(error, signal._call, "shop", {})
        await signal._gather(results, runs, timeout=None, context=None)
        return weakref.ref(error)

    gc.disable()
    try:
        assert (await send())() is None
    finally:
        gc.enable()


class ProtectsTraceback(Exception):
    """Raises if its traceback is set."""

    @property
    def __traceback__(self) -> Any:
        return None

    @__traceback__.setter
    def __traceback__(self, value: Any) -> None:
        raise RuntimeError("hands off")

    def with_traceback(self, tb: Any) -> Any:
        raise RuntimeError("hands off")


async def test_an_error_that_protects_its_traceback_does_no_harm(engine: Engine) -> None:
    @engine.task
    async def fails() -> None:
        raise ProtectsTraceback

    seen = listen(job_failed, engine)
    await fails.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert [type(error) for _, error in seen] == [ProtectsTraceback, ProtectsTraceback]
    assert (await counts(engine._broker, "default")).dead == 1


async def test_blinkers_wrappers_apply_to_receivers_of_one_kind_and_are_not_passed_on() -> None:
    signal = SafeNamedSignal("order_paid")
    received: list[tuple[str, dict[str, Any]]] = []

    @signal.connect
    def plain(sender: object, **kwargs: Any) -> str:
        received.append(("plain", kwargs))
        return "plain"

    @signal.connect
    async def coroutine(sender: object, **kwargs: Any) -> str:
        received.append(("async", kwargs))
        return "async"

    def to_async(receiver: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(sender: object, **kwargs: Any) -> str:
            return f"wrapped {receiver(sender, **kwargs)}"

        return wrapped

    def to_sync(receiver: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(sender: object, **kwargs: Any) -> str:
            step = receiver(sender, **kwargs)
            with pytest.raises(StopIteration) as stop:
                step.send(None)
            return f"wrapped {stop.value.value}"

        return wrapped

    results = await signal.send_async("shop", order=1, _sync_wrapper=to_async)
    assert results == [(plain, "wrapped plain"), (coroutine, "async")]
    assert signal.send("shop", order=1, _async_wrapper=to_sync) == [
        (plain, "plain"),
        (coroutine, "wrapped async"),
    ]
    assert sorted(received) == sorted([("plain", {"order": 1}), ("async", {"order": 1})] * 2)
