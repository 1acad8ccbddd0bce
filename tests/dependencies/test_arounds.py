"""Dependencies are opened within the context managers of ``around``, and their errors pass through these."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import pytest

from aiospinach import Depends, Engine, Job, RetryException

from ..conftest import Heard
from .conftest import Diary


@pytest.mark.parametrize("is_async", [True, False], ids=["async_body", "plain_body"])
@pytest.mark.parametrize("in_worker", [True, False], ids=["worker", "execute"])
async def test_dependencies_are_opened_within_arounds(
    engine: Engine, diary: Diary, is_async: bool, in_worker: bool
) -> None:
    @engine.around
    @asynccontextmanager
    async def outside(job: Job) -> AsyncIterator[None]:
        diary.append("around")
        yield
        diary.append("around ends")

    @engine.around
    @contextmanager
    def in_the_thread(job: Job) -> Iterator[None]:
        is_in_loop = threading.current_thread() is threading.main_thread()
        assert is_in_loop is is_async
        yield

    async def async_body(number: int, db: str = Depends(diary.scope("session"))) -> None:
        diary.append(f"{number} {db}")

    def body(number: int, db: str = Depends(diary.scope("session"))) -> None:
        diary.append(f"{number} {db}")

    function: Any = async_body if is_async else body
    task = engine.task(function)
    if in_worker:
        await engine.schedule(task, 17)
        await engine.start_workers(stop_when_queue_empty=True)
    else:
        await engine.execute(task, 17)
    assert diary == ["around", "open session", "17 session", "close session", "around ends"]


async def test_an_around_sees_the_error_of_a_factory(engine: Engine, heard: Heard) -> None:
    calls: list[None] = []

    @engine.around
    @asynccontextmanager
    async def tries_again(job: Job) -> AsyncIterator[None]:
        try:
            yield
        except ConnectionError as error:
            raise RetryException(at=timedelta(0)) from error

    def fails_once() -> None:
        calls.append(None)
        if len(calls) == 1:
            raise ConnectionError("not yet")

    @engine.task(max_retries=1)
    async def work(ready: None = Depends(fails_once)) -> None: ...

    await work.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.count("job_schedule_retry") == 1
    assert heard.count("job_failed") == 0
