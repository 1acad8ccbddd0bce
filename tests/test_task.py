"""A task is a named function, created by a decorator, kept in a registry, and attached to engines."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import (
    Cron,
    DuplicateTask,
    Engine,
    InvalidValue,
    JobStatus,
    MemoryBroker,
    NotAttached,
    Task,
    Tasks,
    UnsupportedType,
)

from .conftest import Heard


async def double(number: int) -> int:
    """Twice the number."""
    return number * 2


def test_the_decorator_is_used_with_or_without_options() -> None:
    tasks = Tasks()

    @tasks.task
    async def bare() -> None: ...

    @tasks.task()
    async def empty() -> None: ...

    @tasks.task(
        name="full",
        queue="mail",
        max_retries=3,
        periodicity=timedelta(minutes=5),
        max_concurrency=2,
        timeout=30,
        backoff=lambda attempt: 1.0,
    )
    async def full() -> None: ...

    assert all(isinstance(task, Task) for task in (bare, empty, full))
    assert (bare.queue, bare.max_retries, bare.periodicity, bare.max_concurrency, bare.timeout) == (
        "default",
        0,
        None,
        None,
        None,
    )
    assert (full.name, full.queue, full.max_retries, full.max_concurrency) == ("full", "mail", 3, 2)
    assert (full.timeout, full.periodicity) == (30.0, timedelta(minutes=5))
    assert full.backoff is not None
    assert list(tasks) == [bare, empty, full]
    assert len(tasks) == 3
    assert repr(full) == "<Task full queue=mail>"
    assert repr(Tasks()) == "<Tasks none>"


class Service:
    async def method(self, number: int) -> int:
        return number * 2

    @staticmethod
    async def static() -> None: ...


def test_the_default_name_is_the_qualified_name_of_the_function() -> None:
    def outer() -> Callable[[], None]:
        def inner() -> None: ...

        return inner

    tasks = Tasks()
    here = "test_the_default_name_is_the_qualified_name_of_the_function"
    assert tasks.task(double).name == "double"
    assert tasks.task(outer()).name == f"{here}.outer.inner"
    assert tasks.task(Service.static).name == "Service.static"
    assert tasks.task(Service().method).name == "Service.method"


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(InvalidValue, match="lambda needs name="):
        Tasks().task(lambda: None)
    assert Tasks().task(name="nothing")(lambda: None).name == "nothing"


def test_a_function_with_a_non_ascii_name_needs_another() -> None:
    def données() -> None: ...

    with pytest.raises(InvalidValue, match="task name"):
        Tasks().task(données)
    assert Tasks().task(name="data")(données).name == "data"


async def test_a_task_behaves_like_its_function() -> None:
    tasks = Tasks()
    task = tasks.task(double)
    assert await task(21) == 42
    assert task.__name__ == "double"  # type: ignore[attr-defined]
    assert task.__doc__ == "Twice the number."
    assert task.__module__ == __name__
    assert task.function is double

    @tasks.task
    def plain(a: int, b: int = 1) -> int:
        return a + b

    assert plain(1, b=2) == 3


def test_options_do_not_change_the_task() -> None:
    task = Tasks().task(double)
    named = task.options(id="order-17@a:b")
    assert named._job_id == "order-17@a:b"
    assert task._job_id is None
    assert named.options()._job_id is None
    assert (named.name, named.function, named.queue) == (task.name, task.function, task.queue)


async def test_a_task_with_options_schedules_to_the_same_engine(engine: Engine) -> None:
    task = engine.task(double)
    assert (await task.options(id="one").schedule(1)).id == "one"
    assert (await engine.schedule(task.options(id="two"), 1)).id == "two"
    assert (await engine.schedule_at(task.options(id="three"), datetime.now(UTC), 1)).id == "three"


class Sender:
    async def __call__(self, number: int) -> int:
        return number * 2


class Counter:
    def __call__(self, number: int) -> int:
        return number * 2


def plain_double(number: int) -> int:
    return number * 2


async def add(a: int, b: int) -> int:
    return a + b


@pytest.mark.parametrize(
    ("function", "name", "is_async"),
    [
        (double, "double", True),
        (plain_double, "plain_double", False),
        (Service().method, "Service.method", True),
        (Sender(), "Sender", True),
        (Counter(), "Counter", False),
        (functools.partial(add, 21), "add", True),
        (functools.partial(add, b=21), "add", True),
        (functools.partial(functools.partial(add), 21), "add", True),
        (functools.partial(plain_double), "plain_double", False),
        (functools.partial(Sender()), "Sender", True),
    ],
)
async def test_every_kind_of_callable_runs_as_a_job(
    engine: Engine, heard: Heard, function: Any, name: str, is_async: bool
) -> None:
    task = engine.task(function)
    assert (task.name, task.is_async) == (name, is_async)
    await engine.schedule(task, 21)
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.last("job_finished")["err"] is None
    assert heard.last("job_finished")["result"] == 42


async def test_a_plain_function_runs_in_a_thread_and_an_async_one_in_the_loop(engine: Engine) -> None:
    threads: list[threading.Thread] = []

    @engine.task
    def plain() -> None:
        threads.append(threading.current_thread())

    @engine.task
    async def asynchronous() -> None:
        threads.append(threading.current_thread())

    await engine.execute(plain)
    await engine.execute(asynchronous)
    assert threads[0] is not threading.current_thread()
    assert threads[1] is threading.current_thread()


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator, functools.partial(generator)])
def test_a_generator_cannot_be_a_task(function: Any) -> None:
    tasks = Tasks()
    with pytest.raises(InvalidValue, match=r"generator.* cannot be a task"):
        tasks.task(function)
    assert len(tasks) == 0


@pytest.mark.parametrize("function", ["double", 5, object(), [double]])
def test_only_callables_can_be_tasks(function: Any) -> None:
    with pytest.raises(InvalidValue, match="made of a function"):
        Tasks().task(function)


def test_a_task_is_not_made_of_a_task() -> None:
    task = Tasks().task(double)
    with pytest.raises(InvalidValue, match=r"is a task already.* engine\.task\(name='old'\)"):
        Tasks().task(task)
    assert Tasks().task(name="old")(task.function).function is double


def test_a_timeout_on_a_plain_function_is_refused_since_a_thread_cannot_be_stopped() -> None:
    with pytest.raises(InvalidValue, match=r"'plain_double'.*thread cannot be stopped"):
        Tasks().task(timeout=5)(plain_double)
    assert Tasks().task(timeout=timedelta(seconds=5))(double).timeout == 5.0


def test_a_periodic_task_is_called_without_arguments() -> None:
    with pytest.raises(InvalidValue, match=r"'double'.* periodic .*'number'"):
        Tasks().task(periodicity=timedelta(minutes=1))(double)

    def nothing(a: int = 1, *rest: int, b: int = 2) -> None: ...

    assert Tasks().task(periodicity=Cron("* * * * *"))(nothing)._calendar is not None


def test_the_longest_name_of_a_periodic_task_leaves_room_for_its_ticks() -> None:
    tasks = Tasks(periodicity=timedelta(minutes=1))

    def nothing() -> None: ...

    assert len(tasks.task(name="x" * 186)(nothing).name) == 186
    with pytest.raises(InvalidValue, match="186"):
        tasks.task(name="x" * 187)(nothing)


def test_a_registry_has_defaults_for_its_tasks() -> None:
    tasks = Tasks(queue="mail", max_retries=3, periodicity=timedelta(hours=1), max_concurrency=2)

    @tasks.task
    async def default() -> None: ...

    @tasks.task(queue="other", max_retries=0, periodicity=timedelta(hours=2), max_concurrency=9)
    async def own() -> None: ...

    assert (default.queue, default.max_retries, default.max_concurrency) == ("mail", 3, 2)
    assert default.periodicity == timedelta(hours=1)
    assert (own.queue, own.max_retries, own.max_concurrency) == ("other", 0, 9)
    assert own.periodicity == timedelta(hours=2)


def test_none_overrides_the_default_of_the_registry() -> None:
    tasks = Tasks(queue="mail", periodicity=timedelta(hours=1), max_concurrency=2)
    task = tasks.task(queue=None, periodicity=None, max_concurrency=None)(double)
    assert (task.queue, task.periodicity, task.max_concurrency) == ("mail", None, None)


@pytest.mark.parametrize("endless", [None, math.inf])
@pytest.mark.parametrize(
    "take",
    [
        lambda retries: Task(double, max_retries=retries),
        lambda retries: Tasks(max_retries=retries),
        lambda retries: Tasks().task(max_retries=retries)(double),
        lambda retries: Tasks(max_retries=3).task(max_retries=retries)(double),
        lambda retries: Engine(MemoryBroker()).task(max_retries=retries)(double),
    ],
)
def test_infinite_retries_are_refused_with_the_value_to_use(
    take: Callable[[Any], object], endless: Any
) -> None:
    with pytest.raises(InvalidValue, match=rf"max_retries.*{endless} is not.* give 2147483647 .*for ever"):
        take(endless)
    take(2147483647)


async def test_the_tasks_of_an_attached_registry_run(engine: Engine, heard: Heard) -> None:
    tasks = Tasks(queue="mail")
    task = tasks.task(double)
    engine.attach_tasks(tasks)
    job = await task.schedule(21)
    assert (job.queue, job.status) == ("mail", JobStatus.QUEUED)
    await engine.start_workers(queue="mail", stop_when_queue_empty=True)
    assert heard.last("job_finished")["result"] == 42


async def test_a_task_added_to_an_attached_registry_is_known_at_once(engine: Engine, heard: Heard) -> None:
    tasks = Tasks()
    engine.attach_tasks(tasks)
    task = tasks.task(double)
    await task.schedule(21)
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.last("job_finished")["result"] == 42


async def test_a_task_added_while_the_workers_run_is_run(engine: Engine) -> None:
    await engine.start_workers(block=False)
    ran = asyncio.Event()

    @engine.task
    async def late() -> None:
        ran.set()

    await late.schedule()
    await asyncio.wait_for(ran.wait(), 10)


async def test_attaching_a_registry_twice_does_nothing(engine: Engine) -> None:
    tasks = Tasks()
    task = tasks.task(double)
    engine.attach_tasks(tasks)
    engine.attach_tasks(tasks)
    assert (await task.schedule(1)).status is JobStatus.QUEUED
    tasks.add(task)
    assert list(tasks) == [task]


def test_two_tasks_of_a_registry_cannot_share_a_name() -> None:
    tasks = Tasks()
    first = tasks.task(name="work")(double)
    with pytest.raises(DuplicateTask, match="'work'"):
        tasks.task(name="work")(add)
    assert list(tasks) == [first]


async def test_a_registry_with_a_name_known_to_the_engine_is_not_attached(engine: Engine) -> None:
    engine.task(name="work")(double)
    tasks = Tasks()
    other = tasks.task(name="other")(double)
    tasks.task(name="work")(add)
    with pytest.raises(DuplicateTask, match="'work'"):
        engine.attach_tasks(tasks)
    with pytest.raises(NotAttached):
        await other.schedule(1)
    assert (await engine.schedule("work", 1)).args == (1,)
    tasks.task(name="later")(double)
    with pytest.raises(LookupError, match="later"):
        await engine.schedule("later", 1)


def test_a_late_task_refused_by_the_engine_is_not_added_to_the_registry(engine: Engine) -> None:
    engine.task(name="work")(double)
    tasks = Tasks()
    engine.attach_tasks(tasks)
    with pytest.raises(DuplicateTask, match="'work'"):
        tasks.task(name="work")(add)
    assert len(tasks) == 0


def test_a_late_task_refused_by_one_of_two_engines_is_added_to_neither(engine: Engine) -> None:
    other = Engine(MemoryBroker(), "other")
    tasks = Tasks()
    engine.attach_tasks(tasks)
    other.attach_tasks(tasks)
    engine.task(name="here")(double)
    other.task(name="there")(double)
    for name in ("here", "there"):
        with pytest.raises(DuplicateTask, match=name):
            tasks.task(name=name)(add)
    assert len(tasks) == 0
    engine.task(name="there")(double)  # both names are still free
    other.task(name="here")(double)


async def test_scheduling_a_task_without_an_engine_raises_not_attached() -> None:
    task = Tasks().task(double)
    with pytest.raises(NotAttached, match=r"'double' is attached to no engines.*attach_tasks"):
        await task.schedule(1)
    with pytest.raises(NotAttached, match="'double'"):
        await task.schedule_at(datetime.now(UTC), 1)


async def test_scheduling_a_task_of_two_engines_raises_not_attached(engine: Engine) -> None:
    tasks = Tasks()
    task = tasks.task(double)
    other = Engine(MemoryBroker(), "other")
    engine.attach_tasks(tasks)
    other.attach_tasks(tasks)
    with pytest.raises(NotAttached, match=r"attached to 2 engines: call engine\.schedule"):
        await task.schedule(1)
    assert (await engine.schedule(task, 1)).namespace == engine.namespace
    assert (await other.schedule(task, 1)).namespace == "other"


def test_a_task_with_an_unsupported_type_is_not_added() -> None:
    def function(file: Callable[[], None]) -> None: ...

    tasks = Tasks()
    with pytest.raises(UnsupportedType, match="'file'"):
        tasks.task(function)
    assert len(tasks) == 0


def test_the_error_for_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(InvalidValue, match=r"no option retries; it has name, queue, max_retries"):
        Tasks().task(retries=3)(double)  # type: ignore[call-overload]
