"""Wrapped functions and methods can be tasks, or are refused where they are declared."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import tenacity
from starlette.background import BackgroundTasks

from aiospinach import Engine, InvalidValue, MemoryBroker, Task, Tasks

from .conftest import Heard

if TYPE_CHECKING:
    from nowhere import User  # type: ignore[import-not-found]

tasks = Tasks()


@tasks.task
def double(number: int) -> int:
    return number * 2


@tasks.task
async def double_later(number: int) -> int:
    return number * 2


async def run(engine: Engine, heard: Heard, task: Task[..., Any], *args: Any) -> Any:
    """The result of a job of the task."""
    await task.schedule(*args)
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.last("job_finished")["err"] is None
    return heard.last("job_finished")["result"]


async def test_a_return_type_need_not_exist_at_runtime(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def load(number: int) -> User:
        return number

    assert await run(engine, heard, load, 7) == 7


async def test_the_type_of_a_parameter_must_exist_at_runtime(engine: Engine) -> None:
    @engine.task
    async def load(user: User) -> None: ...

    with pytest.raises(InvalidValue, match="'User' is not defined"):
        await load.schedule(1)


class Mailer:
    @staticmethod
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    @staticmethod
    def now(number: int) -> int:
        return number * 2

    async def method(self, number: int) -> int:
        return number * 2

    @classmethod
    async def of_class(cls, number: int) -> int:
        return number * 2

    @property
    def attribute(self) -> int:
        return 2

    partial = functools.partialmethod(method, 21)


async def retried(number: int) -> int:
    return number * 2


def retried_plain(number: int) -> int:
    return number * 2


@functools.singledispatch
def dispatched(number: object) -> Any:
    return number


@dispatched.register
def _(number: int) -> int:
    return number * 2


def raw(name: str) -> Any:
    """The raw attribute of the class, as a decorator inside of it gets it."""
    return vars(Mailer)[name]


KINDS: list[tuple[str, Any, bool]] = [
    ("async static method", raw("later"), True),
    ("static method", raw("now"), False),
    ("partial of a static method", functools.partial(raw("later")), True),
    ("method of an instance", Mailer().method, True),
    ("method with its instance given", functools.partial(Mailer.method, Mailer()), True),
    ("class method of the class", Mailer.of_class, True),
    ("tenacity, async", tenacity.retry(retried), True),
    ("tenacity", tenacity.retry(retried_plain), False),
    ("cached", functools.cache(retried_plain), False),
    ("single dispatch", dispatched, False),
]


@pytest.mark.parametrize(("function", "is_async"), [row[1:] for row in KINDS], ids=[row[0] for row in KINDS])
async def test_a_wrapped_function_runs_as_async_or_plain(
    engine: Engine, heard: Heard, function: Any, is_async: bool
) -> None:
    task = engine.task(function)
    assert task.is_async is is_async
    assert await run(engine, heard, task, 21) == 42


async def test_a_static_method_can_be_decorated(engine: Engine, heard: Heard) -> None:
    class Client:
        @engine.task(timeout=5)
        @staticmethod
        async def send(number: int) -> int:
            return number * 2

    assert await run(engine, heard, Client.send, 21) == 42


@pytest.mark.parametrize("decorate", [lambda method: method, tenacity.retry, functools.cache])
def test_a_method_without_its_instance_is_refused(decorate: Callable[..., Any]) -> None:
    with pytest.raises(InvalidValue, match=r"Mailer\.method.*has no instance.*@staticmethod"):
        Tasks().task(decorate(Mailer.method))


def test_a_method_under_classmethod_is_refused() -> None:
    with pytest.raises(InvalidValue, match="@staticmethod"):

        class Client:
            @classmethod
            @Tasks().task
            async def send(cls, to: str) -> None: ...


@pytest.mark.parametrize("name", ["of_class", "attribute", "partial"])
def test_a_descriptor_of_a_class_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match=f"not of {type(raw(name)).__name__}.*@staticmethod"):
        Tasks().task(raw(name))


def test_a_function_with_a_parameter_self_is_no_method() -> None:
    def outer() -> Callable[..., Any]:
        def send(self: int) -> None: ...

        return send

    assert Tasks().task(outer()).name.endswith("outer.send")


IS_ASYNC: list[Callable[[Any], bool]] = [
    inspect.iscoroutinefunction,
    asyncio.iscoroutinefunction,
    lambda thing: inspect.iscoroutinefunction(thing.__call__),
    lambda thing: inspect.iscoroutinefunction(functools.partial(thing)),
]


@pytest.mark.filterwarnings("ignore:.*asyncio.iscoroutinefunction:DeprecationWarning")
@pytest.mark.parametrize("is_async_of", IS_ASYNC)
def test_iscoroutinefunction_works_for_tasks(is_async_of: Callable[[Any], bool]) -> None:
    assert is_async_of(double_later)
    assert is_async_of(double_later.options(id="x"))
    assert not is_async_of(double)


async def test_starlette_background_tasks_run_a_task() -> None:
    ran: list[int] = []

    @functools.wraps(Mailer.later)
    async def noted(number: int) -> None:
        ran.append(number)

    engine = Engine(MemoryBroker())
    background = BackgroundTasks()
    background.add_task(engine.task(noted), 1)
    background.add_task(engine.task(name="plain")(ran.append), 2)
    background.add_task(engine.task(name="partial")(functools.partial(noted)), 3)
    await background()
    assert ran == [1, 2, 3]


async def test_tenacity_around_a_task_awaits_it() -> None:
    calls: list[int] = []

    async def flaky() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError("not yet")
        return "done"

    task = Tasks().task(flaky)
    assert await tenacity.retry(wait=tenacity.wait_none())(task)() == "done"
    assert len(calls) == 3


@pytest.mark.parametrize("task", [double, double_later], ids=lambda task: task.name)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_task_is_pickled_by_name(task: Task[..., Any], protocol: int) -> None:
    assert pickle.loads(pickle.dumps(task, protocol)) is task
    assert copy.copy(task) is copy.deepcopy(task) is task


def unpicklable() -> Iterator[Task[..., Any]]:
    yield double.options(id="x")  # a copy, and not the task in the module
    yield Tasks().task(functools.partial(retried_plain))
    yield Tasks().task(retried_plain)


@pytest.mark.parametrize("task", list(unpicklable()))
def test_a_task_without_a_name_in_its_module_cannot_be_pickled(task: Task[..., Any]) -> None:
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(task)
