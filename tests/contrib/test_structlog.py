"""Each event of a job has the job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars, merge_contextvars

from aiospinach import Engine, InvalidValue, MemoryBroker, signals
from aiospinach.contrib.structlog import instrument

from .conftest import receivers_of

Event = MutableMapping[str, Any]


def by_items(event: Event) -> str:
    return str(sorted(event.items()))


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """The events that are logged."""
    kept: list[Event] = []

    def keep(logger: Any, name: str, event: Event) -> Event:
        kept.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[merge_contextvars, keep], cache_logger_on_first_use=False)
    yield kept
    structlog.reset_defaults()
    clear_contextvars()


async def test_each_event_of_a_job_has_id_task_queue_and_try(any_engine: Engine, events: list[Event]) -> None:
    engine = any_engine
    instrument(engine)
    log = structlog.get_logger()

    @engine.task(queue="mail", max_retries=1, backoff=lambda retry: 0)
    async def send() -> None:
        await asyncio.create_task(note())
        raise ValueError

    async def note() -> None:
        log.info("in a task of the body")

    @engine.task(queue="web")
    def render() -> None:
        log.info("in a thread")

    sent, rendered = await send.schedule(), await render.schedule()
    await engine.start_workers(1, ["mail", "web"], stop_when_queue_empty=True)
    log.info("outside")
    of_send = {"job_id": sent.id, "task_name": send.name, "queue": "mail"}
    of_render = {"job_id": rendered.id, "task_name": render.name, "queue": "web"}
    expected: list[Event] = [
        of_send | {"job_try": 1, "event": "in a task of the body"},
        of_send | {"job_try": 2, "event": "in a task of the body"},
        of_render | {"job_try": 1, "event": "in a thread"},
        {"event": "outside"},
    ]
    assert sorted(events, key=by_items) == sorted(expected, key=by_items)


async def test_values_are_bound_in_receivers_and_unbound_at_the_end(
    any_engine: Engine, events: list[Event]
) -> None:
    engine = any_engine
    seen: list[object] = []
    instrument(engine)

    @signals.job_failed.connect_via(engine.namespace)
    def failed(namespace: str, **kwargs: Any) -> None:
        seen.append(get_contextvars().get("job_id"))

    @engine.task
    async def fail() -> None:
        raise ValueError

    job = await fail.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert seen == [job.id]


async def test_a_job_that_runs_inline_leaves_the_values_of_its_caller(
    engine: Engine, events: list[Event]
) -> None:
    instrument(engine)

    @engine.task
    async def work() -> str:
        return str(get_contextvars()["queue"])

    bind_contextvars(queue="my own", user="ann")
    assert await engine.execute(work) == "default"
    assert get_contextvars() == {"queue": "my own", "user": "ann"}


async def test_a_job_that_executes_another_leaves_no_value(engine: Engine, events: list[Event]) -> None:
    instrument(engine)
    seen: list[object] = []

    @engine.task(name="inner")
    async def inner() -> None:
        seen.append(get_contextvars()["task_name"])

    @engine.task(name="outer")
    async def outer() -> None:
        await engine.execute(inner)
        seen.append(get_contextvars()["task_name"])

    await engine.execute(outer)
    assert seen == ["inner", "outer"]
    assert get_contextvars() == {}


async def test_concurrent_jobs_do_not_mix(engine: Engine, events: list[Event]) -> None:
    instrument(engine)
    log = structlog.get_logger()

    @engine.task
    async def work(number: int) -> None:
        bind_contextvars(number=number)
        for _ in range(3):
            await asyncio.sleep(0)
            log.info("at work")

    jobs = {(await work.schedule(number)).id: number for number in range(200)}
    await engine.start_workers(200, stop_when_queue_empty=True)
    assert len(events) == 600
    assert all(jobs[event["job_id"]] == event["number"] for event in events)


async def test_undo_leaves_no_receiver(engine: Engine) -> None:
    undo = instrument(engine)
    assert receivers_of(engine.namespace) == ["job_finished", "job_started"]
    with pytest.raises(InvalidValue, match="instrument again"):
        instrument(engine)
    undo()
    undo()
    assert receivers_of(engine.namespace) == []
    again = instrument(engine)
    undo()  # the earlier function does not undo the later call
    assert receivers_of(engine.namespace) == ["job_finished", "job_started"]
    again()


async def test_only_an_engine_can_be_instrumented(engine: Engine) -> None:
    with pytest.raises(InvalidValue, match="takes an Engine, not MemoryBroker"):
        instrument(MemoryBroker())  # type: ignore[arg-type]
