"""The signal class by itself: which receivers are called, what is awaited, and what a dispatch costs."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import sys
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest

from aiospinach.exceptions import InvalidValue
from aiospinach.signals import ANY, SafeNamedSignal
from aiospinach.signals import job_started as job_started_signal


@pytest.fixture
def signal() -> SafeNamedSignal:
    return SafeNamedSignal("news")


class Custom:
    """An awaitable that is neither a coroutine nor a future."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __await__(self) -> Generator[None, None, object]:
        yield
        return self.value


class Listener:
    def plain(self, sender: object, **kwargs: Any) -> object:
        return kwargs["text"]

    async def coroutine(self, sender: object, **kwargs: Any) -> object:
        await asyncio.sleep(0)
        return kwargs["text"]


class PlainCall:
    def __call__(self, sender: object, **kwargs: Any) -> object:
        return kwargs["text"]


class AsyncCall:
    async def __call__(self, sender: object, **kwargs: Any) -> object:
        await asyncio.sleep(0)
        return kwargs["text"]


def plain(sender: object, **kwargs: Any) -> object:
    return kwargs["text"]


async def coroutine(sender: object, **kwargs: Any) -> object:
    await asyncio.sleep(0)
    return kwargs["text"]


def returning_a_coroutine(sender: object, **kwargs: Any) -> Awaitable[object]:
    return coroutine(sender, **kwargs)


def returning_a_future(sender: object, **kwargs: Any) -> Awaitable[object]:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, kwargs["text"])
    return future


def returning_a_task(sender: object, **kwargs: Any) -> Awaitable[object]:
    return asyncio.ensure_future(coroutine(sender, **kwargs))


def returning_a_custom_awaitable(sender: object, **kwargs: Any) -> Awaitable[object]:
    return Custom(kwargs["text"])


def with_two(first: object, sender: object, **kwargs: Any) -> object:
    return kwargs["text"]


async def async_with_two(first: object, sender: object, **kwargs: Any) -> object:
    return kwargs["text"]


EVERY_KIND: dict[str, Callable[..., Any]] = {
    "function": plain,
    "lambda": lambda sender, **kwargs: kwargs["text"],
    "partial": functools.partial(with_two, 1),
    "bound method": Listener().plain,
    "object": PlainCall(),
}
AEVERY_KIND: dict[str, Callable[..., Any]] = {
    "async def": coroutine,
    "lambda of a coroutine": lambda sender, **kwargs: coroutine(sender, **kwargs),
    "partial of async def": functools.partial(async_with_two, 1),
    "bound async method": Listener().coroutine,
    "object with an async call": AsyncCall(),
    "function that returns a coroutine": returning_a_coroutine,
    "function that returns a future": returning_a_future,
    "function that returns a task": returning_a_task,
    "function that returns a custom awaitable": returning_a_custom_awaitable,
}


@pytest.mark.parametrize("receiver", EVERY_KIND.values(), ids=EVERY_KIND.keys())
async def test_any_callable_can_receive_and_an_awaitable_result_is_awaited(
    signal: SafeNamedSignal, receiver: Callable[..., Any]
) -> None:
    signal.connect(receiver)
    assert await signal.send_async("shop", text="hello") == [(receiver, "hello")]


async def test_iscoroutinefunction_is_not_used_on_receivers(
    signal: SafeNamedSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(function: object) -> bool:
        raise AssertionError("iscoroutinefunction was called")

    for kind in EVERY_KIND.values():
        signal.connect(kind)
    monkeypatch.setattr(inspect, "iscoroutinefunction", refuse)
    monkeypatch.setattr(asyncio, "iscoroutinefunction", refuse)
    results = await signal.send_async("shop", text="hello")
    monkeypatch.undo()
    assert sorted(map(repr, results)) == sorted(repr((kind, "hello")) for kind in EVERY_KIND.values())


async def test_the_sender_is_passed_first_and_all_else_by_keyword(signal: SafeNamedSignal) -> None:
    received: list[tuple[tuple[object, ...], dict[str, object]]] = []

    @signal.connect
    def receiver(*args: object, **kwargs: object) -> None:
        received.append((args, kwargs))

    await signal.send_async("shop", job=1, err=None)
    signal.send("shop", job=2)
    assert received == [(("shop",), {"job": 1, "err": None}), (("shop",), {"job": 2})]


@pytest.mark.parametrize("keyword", ["sender", "receiver", "timeout", "context", "kwargs"])
async def test_keywords_may_have_any_name(signal: SafeNamedSignal, keyword: str) -> None:
    @signal.connect
    async def receiver(_: object, /, **kwargs: object) -> object:
        return kwargs[keyword]

    named: dict[str, Any] = {keyword: 7}
    assert await signal.send_async("shop", **named) == [(receiver, 7)]


async def test_a_receiver_defined_within_a_function_stays_connected(signal: SafeNamedSignal) -> None:
    called: list[object] = []

    def connect() -> None:
        @signal.connect
        def function(sender: object, **kwargs: Any) -> None:
            called.append("function")

        class Local:
            def method(self, sender: object, **kwargs: Any) -> None:
                called.append("method")

        signal.connect(Local().method)
        signal.connect_via("shop")(lambda sender, **kwargs: called.append("via"))

    connect()
    gc.collect()
    await signal.send_async("shop")
    assert sorted(map(str, called)) == ["function", "method", "via"]


async def test_a_weak_receiver_is_disconnected_with_its_last_reference(signal: SafeNamedSignal) -> None:
    listener = Listener()
    signal.connect(listener.plain, weak=True)
    signal.connect_via("shop", weak=True)(listener.coroutine)
    assert [result for _, result in await signal.send_async("shop", text="a")] == ["a", "a"]
    del listener
    gc.collect()
    assert await signal.send_async("shop", text="b") == []


async def test_connect_and_connect_via_are_decorators_that_return_the_function(
    signal: SafeNamedSignal,
) -> None:
    @signal.connect
    def everywhere(sender: object, **kwargs: Any) -> object:
        return sender

    @signal.connect_via("".join(["sh", "op"]))  # an equal string is sufficient
    async def of_one(sender: object, **kwargs: Any) -> object:
        return sender

    assert inspect.isfunction(everywhere)
    assert inspect.iscoroutinefunction(of_one)
    assert dict(await signal.send_async("shop")) == {everywhere: "shop", of_one: "shop"}
    assert await signal.send_async("bank") == [(everywhere, "bank")]


async def test_connected_to_connects_within_its_block(signal: SafeNamedSignal) -> None:
    with signal.connected_to(coroutine):
        assert await signal.send_async("bank", text=1) == [(coroutine, 1)]
    assert await signal.send_async("bank", text=2) == []
    with signal.connected_to(coroutine, "shop"):
        assert await signal.send_async("bank", text=3) == []
        assert await signal.send_async("shop", text=4) == [(coroutine, 4)]
    assert await signal.send_async("shop", text=5) == []


async def test_disconnect_disconnects_from_one_sender_or_all(signal: SafeNamedSignal) -> None:
    signal.connect(plain, "shop")
    signal.connect(plain, "bank")
    signal.disconnect(plain, "shop")
    assert await signal.send_async("shop", text=1) == []
    assert await signal.send_async("bank", text=1) == [(plain, 1)]
    signal.disconnect(plain, ANY)
    assert await signal.send_async("bank", text=1) == []


async def test_any_stands_for_every_sender(signal: SafeNamedSignal) -> None:
    signal.connect(plain, ANY)
    assert signal.has_receivers_for("shop")
    assert list(signal.receivers_for("shop")) == [plain]
    assert list(signal.receivers_for(ANY)) == [plain]
    assert await signal.send_async(None, text=1) == [(plain, 1)]


async def test_receivers_for_returns_the_receivers_that_would_be_called(signal: SafeNamedSignal) -> None:
    signal.connect(plain)
    signal.connect(coroutine, "shop")
    assert set(signal.receivers_for("shop")) == {plain, coroutine}
    assert set(signal.receivers_for("bank")) == {plain}


async def test_a_receiver_connected_twice_is_called_once(signal: SafeNamedSignal) -> None:
    signal.connect(plain)
    signal.connect(plain, "shop")
    signal.connect(plain)
    assert await signal.send_async("shop", text=1) == [(plain, 1)]


@pytest.mark.parametrize("receiver", [None, 7, "name", object()])
def test_a_receiver_that_is_not_callable_is_refused_on_connecting(
    signal: SafeNamedSignal, receiver: Any
) -> None:
    with pytest.raises(InvalidValue, match=f"news.*{type(receiver).__name__}"):
        signal.connect(receiver)
    assert not signal.receivers


def test_the_repr_shows_class_and_name() -> None:
    class Own(SafeNamedSignal):
        pass

    assert repr(job_started_signal) == 'SafeNamedSignal "job_started"'
    assert repr(SafeNamedSignal("paid")) == 'SafeNamedSignal "paid"'
    assert repr(Own("paid")) == 'Own "paid"'


async def test_an_application_can_create_signals() -> None:
    paid = SafeNamedSignal("order_paid", "An order was paid. Keyword: amount.")
    other = SafeNamedSignal("order_paid")

    @paid.connect
    async def receiver(sender: object, amount: int, **kwargs: Any) -> int:
        return amount * 2

    assert paid.name == "order_paid"
    assert paid.__doc__ == "An order was paid. Keyword: amount."
    assert await paid.send_async("shop", amount=21) == [(receiver, 42)]
    assert await other.send_async("shop", amount=21) == []


async def test_plain_receivers_run_inline_before_any_awaitable(signal: SafeNamedSignal) -> None:
    order: list[str] = []

    @signal.connect
    async def one(sender: object, **kwargs: Any) -> None:
        order.append("async 1")

    @signal.connect
    def two(sender: object, **kwargs: Any) -> None:
        assert asyncio.current_task() is sender
        order.append("sync")

    @signal.connect
    async def three(sender: object, **kwargs: Any) -> None:
        assert asyncio.current_task() is not sender
        order.append("async 2")

    await signal.send_async(asyncio.current_task())
    assert order[0] == "sync"
    assert sorted(order[1:]) == ["async 1", "async 2"]


async def test_plain_receivers_need_no_task_and_do_not_yield(
    signal: SafeNamedSignal,
) -> None:
    signal.connect(plain)
    before = asyncio.all_tasks()
    sending = signal.send_async("shop", text=1)
    with pytest.raises(StopIteration) as ended:
        sending.send(None)
    assert ended.value.value == [(plain, 1)]
    assert asyncio.all_tasks() == before


async def test_awaitables_run_concurrently(signal: SafeNamedSignal) -> None:
    barrier = asyncio.Barrier(3)

    def connect() -> None:
        @signal.connect
        async def receiver(sender: object, **kwargs: Any) -> bool:
            await barrier.wait()
            return True

    for _ in range(3):
        connect()
    assert [result for _, result in await signal.send_async("shop")] == [True, True, True]


def check_costs_nothing(signal: SafeNamedSignal) -> None:
    before = asyncio.all_tasks()
    sending = signal.send_async("shop", text=1)
    with pytest.raises(StopIteration) as ended:
        sending.send(None)
    assert ended.value.value == []
    assert signal.send("shop", text=1) == []
    assert asyncio.all_tasks() == before


async def test_a_signal_without_receivers_does_not_yield_and_creates_no_task(signal: SafeNamedSignal) -> None:
    check_costs_nothing(signal)
    signal.connect(coroutine, "bank")
    check_costs_nothing(signal)
    signal.disconnect(coroutine)
    check_costs_nothing(signal)


async def test_a_muted_signal_does_not_yield_and_creates_no_task(signal: SafeNamedSignal) -> None:
    signal.connect(plain)
    signal.connect(coroutine)
    with signal.muted():
        check_costs_nothing(signal)
    assert dict(await signal.send_async("shop", text=1)) == {plain: 1, coroutine: 1}


async def test_a_receiver_may_disconnect_itself_and_others_while_it_is_called(
    signal: SafeNamedSignal,
) -> None:
    @signal.connect
    def ends(sender: object, **kwargs: Any) -> str:
        signal.disconnect(ends)
        signal.disconnect(plain)
        return "ends"

    @signal.connect
    async def ends_another(sender: object, **kwargs: Any) -> str:
        signal.disconnect(coroutine)
        return "ends another"

    signal.connect(plain)
    signal.connect(coroutine)
    first = dict(await signal.send_async("shop", text=1))
    assert first == {ends: "ends", ends_another: "ends another", plain: 1, coroutine: 1}
    assert await signal.send_async("shop", text=1) == [(ends_another, "ends another")]


async def test_a_receiver_connected_during_a_dispatch_gets_the_next_one(
    signal: SafeNamedSignal,
) -> None:
    @signal.connect
    def connects(sender: object, **kwargs: Any) -> None:
        signal.connect(plain)

    @signal.connect
    async def connects_later(sender: object, **kwargs: Any) -> None:
        signal.connect(coroutine)

    assert dict(await signal.send_async("shop", text=1)).keys() == {connects, connects_later}
    second = dict(await signal.send_async("shop", text=1))
    assert second.keys() == {connects, connects_later, plain, coroutine}


async def test_a_receiver_may_send_the_signal_that_called_it(signal: SafeNamedSignal) -> None:
    @signal.connect
    async def receiver(sender: object, depth: int, **kwargs: Any) -> int:
        if depth == 3:
            return depth
        [(_, result)] = await signal.send_async(sender, depth=depth + 1)
        return int(result)

    assert await signal.send_async("shop", depth=0) == [(receiver, 3)]


@pytest.mark.parametrize("weak", [False, True])
async def test_connecting_and_disconnecting_takes_effect_with_the_next_dispatch(
    signal: SafeNamedSignal, weak: bool
) -> None:
    """Also for a sender whose receivers are cached, because it sends often."""
    called: list[str] = []

    def first(sender: str, **kwargs: Any) -> None:
        called.append("first")

    def second(sender: str, **kwargs: Any) -> None:
        called.append("second")

    async def called_receivers() -> list[str]:
        called.clear()
        await signal.send_async("mine")
        await signal.send_async("mine")
        return sorted(called)

    signal.connect(first)
    assert await called_receivers() == ["first"] * 2
    signal.connect(second, "mine", weak=weak)
    assert await called_receivers() == ["first"] * 2 + ["second"] * 2
    signal.disconnect(first)
    assert await called_receivers() == ["second"] * 2
    with signal.connected_to(first, "mine"):
        assert await called_receivers() == ["first"] * 2 + ["second"] * 2
    assert await called_receivers() == ["second"] * 2
    del second
    gc.collect()
    assert await called_receivers() == ([] if weak else ["second"] * 2)


async def test_the_receivers_of_a_frequent_sender_are_looked_up_once(
    signal: SafeNamedSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups: list[object] = []
    receivers_for = SafeNamedSignal.receivers_for

    def counting(self: SafeNamedSignal, sender: object) -> Iterator[Any]:
        lookups.append(sender)
        return receivers_for(self, sender)

    monkeypatch.setattr(SafeNamedSignal, "receivers_for", counting)
    signal.connect(lambda sender, **kwargs: None)
    for _ in range(1000):
        await signal.send_async("mine")
    assert lookups == ["mine"]


async def test_threads_may_connect_and_disconnect_while_it_is_sent(signal: SafeNamedSignal) -> None:
    for _ in range(200):
        signal.connect(lambda sender, **kwargs: None)
    has_ended = threading.Event()

    def change() -> None:
        while not has_ended.is_set():
            with signal.connected_to(lambda sender, **kwargs: None):
                pass

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread = threading.Thread(target=change)
        thread.start()
        for _ in range(500):
            assert len(await signal.send_async("mine")) >= 200
    finally:
        has_ended.set()
        thread.join()
        sys.setswitchinterval(interval)


async def test_the_cache_of_senders_is_bounded(signal: SafeNamedSignal) -> None:
    class Receiver:
        def __call__(self, sender: str, **kwargs: Any) -> None: ...

    receiver = Receiver()
    signal.connect(receiver)
    for number in range(1000):
        await signal.send_async(f"sender {number}")
        assert sys.getrefcount(receiver) < 200
