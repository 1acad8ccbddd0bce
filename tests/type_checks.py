"""Code of users, with the types that checkers must infer: mypy and pyright check this file, it is not run.

On lines that are wrong on purpose both must report an error: an unneeded ignore is an error as well.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ParamSpec, TypeVar, assert_type

from aiospinach import (
    Batch,
    Cron,
    DeadJob,
    Depends,
    Done,
    Engine,
    Job,
    JobFailed,
    JobStatus,
    MemoryBroker,
    Provided,
    QueueCounts,
    RetryException,
    Shared,
    Task,
    Tasks,
    current_job,
    signals,
    testing,
)
from aiospinach.contrib.fastapi import Jobs
from aiospinach.testing import Jobs as TestedJobs

P = ParamSpec("P")
R = TypeVar("R")

engine = Engine(MemoryBroker())
tasks = Tasks(max_retries=3, periodicity=timedelta(hours=1))


@engine.task
async def add(a: int, b: int = 0) -> int:
    return a + b


@engine.task(name="plain", max_retries=3, periodicity=None, max_concurrency=None)
def plain(a: int, *, exact: bool = False) -> str:
    return str(a)


@tasks.task(periodicity=Cron("@daily"), backoff=lambda attempt: timedelta(seconds=attempt))
async def clean() -> None: ...


def timed(function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return wrapper


@engine.task
@timed
async def decorated(a: int) -> bytes:
    return bytes(a)


class Mailer:
    @engine.task
    @staticmethod
    async def send(to: str) -> float:
        return len(to) / 2

    async def method(self, to: str) -> float:
        return len(to) / 2


MOMENT = datetime.now(UTC)


async def results_have_the_types_of_functions() -> None:
    assert_type(await engine.execute(add, 1, 2), int)
    assert_type(await engine.execute(plain, 1, exact=True), str)
    assert_type(await engine.execute(decorated, 1), bytes)
    assert_type(await engine.execute(Mailer.send, "ann"), float)
    assert_type(await engine.execute(engine.task(Mailer().method), "ann"), float)
    assert_type(await engine.execute(add.options(id="x"), 1), int)
    await engine.execute(clean)
    total: int = await engine.execute(add, 1)
    assert_type(total, int)
    assert_type(await add(1, 2), int)
    assert_type(plain(1), str)
    assert_type(await add.schedule(1, b=2), Job[int])
    assert_type(await add.schedule_at(MOMENT, 1), Job[int])
    assert_type(await plain.schedule(1), Job[str])
    assert_type(await engine.schedule(add, 1, 2), Job[int])
    assert_type(await engine.schedule("add", 1, 2, anything=True), Job)
    assert_type(await engine.schedule_at(plain, MOMENT, 1, exact=True), Job[str])
    assert_type(await engine.schedule_batch(Batch().schedule(add, 1).schedule_at("b", MOMENT)), list[Job])
    assert_type(await engine.cancel("id"), JobStatus)
    assert_type(engine.blocking.schedule(add, 1, 2), Job[int])
    assert_type(engine.blocking.schedule("add", 1, anything=True), Job)
    assert_type(engine.blocking.schedule_at(plain, MOMENT, 1, exact=True), Job[str])
    assert_type(engine.blocking.schedule_batch(Batch().schedule(add, 1)), list[Job])
    assert_type(engine.blocking.cancel("id"), JobStatus)
    assert_type([dead async for dead in engine.dead_jobs()], list[DeadJob])
    assert_type(await engine.counts(), dict[str, QueueCounts])
    assert_type(current_job(), Job | None)
    raise RetryException("later", MOMENT)


async def tasks_are_covariant_in_their_result() -> None:
    coroutine: Task[[int, int], Awaitable[int]] = engine.task(pair)
    wider: Task[[int, int], Awaitable[object]] = coroutine
    anything: Task[..., Any] = wider
    names: list[Task[..., object]] = [add, plain, clean, anything]
    assert_type(await engine.execute(coroutine, 1, 2), int)
    assert_type(names[0].name, str)


async def pair(a: int, b: int) -> int:
    return a + b


@signals.job_failed.connect
def failed(namespace: str, *, job: Job, err: BaseException, **kwargs: Any) -> None: ...


@signals.job_started.connect_via(engine.namespace)
async def started(namespace: str, job: Job, **kwargs: Any) -> None: ...


async def receivers_keep_their_types(job: Job) -> None:
    failed(engine.namespace, job=job, err=ValueError())
    await started(engine.namespace, job)
    await signals.job_started.send_async("other", job=job)


async def wrong_calls_are_errors() -> None:
    await add.schedule("1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await add.schedule()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await add.schedule_at(1, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await Mailer.send.schedule(1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await engine.schedule(add, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    engine.blocking.schedule(add, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    engine.blocking.schedule_at(add, 1, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Jobs().schedule(add, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Jobs().schedule_at(add, MOMENT)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await engine.execute(plain, 1, precise=True)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    Batch().schedule(add, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    engine.task(max_retries=None)(pair)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    engine.task(retries=3)(pair)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    Tasks(max_retries=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryException(MOMENT)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    raise RetryException("later", 60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Database: ...


async def get_database() -> AsyncIterator[Database]:
    yield Database()


def get_settings() -> Iterator[int]:
    yield 3


async def get_name() -> str:
    return ""


@asynccontextmanager
async def get_pool() -> AsyncGenerator[Database, None]:
    yield Database()


@asynccontextmanager
async def resources(engine: Engine) -> AsyncGenerator[None, None]:
    yield


with_lifespan = Engine(MemoryBroker(), lifespan=resources)


@engine.task
async def bill(
    order: int,
    database: Annotated[Database, Depends(get_database)] = Provided,
    settings: int = Depends(get_settings),
    name: str = Depends(get_name),
    *,
    pool: Database = Shared(get_pool),
    made: Database = Depends(Database),
) -> str:
    return name


@engine.task
async def bill_without_default(order: int, database: Annotated[Database, Depends(get_database)]) -> None: ...


async def use_dependencies() -> None:
    assert_type(Depends(get_database), Database)
    assert_type(Depends(get_pool), Database)
    assert_type(Depends(get_settings), int)
    assert_type(Shared(get_name), str)
    await bill.schedule(17)
    await engine.schedule(bill, 17)
    assert_type(await engine.execute(bill, 17), str)
    await bill.schedule("17")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await bill_without_default.schedule(17)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    with engine.override(get_database, Database), engine.override(get_name, lambda: "fake"):
        pass


class Thumbnail:
    path: str


@engine.task(result_ttl=timedelta(hours=1))
async def thumbnail(image: str, size: int) -> Thumbnail:
    return Thumbnail()


@tasks.task(result_ttl=60)
def count_words(text: str) -> int:
    return len(text)


async def results_are_typed_from_annotation_to_caller() -> None:
    job = await thumbnail.schedule("cat.png", 200)
    assert_type(await engine.result(job), Thumbnail)
    assert_type(await engine.result(job, timeout=timedelta(seconds=10)), Thumbnail)
    assert_type(await engine.result(await engine.schedule(count_words, "a b"), timeout=10), int)
    assert_type(await engine.result("id", queue="default"), Any)
    assert_type(await engine.results([job, job], timeout=10), list[Thumbnail])
    async for done in engine.as_completed([job]):
        assert_type(done, Done[Thumbnail])
        assert_type(done.job, Job[Thumbnail])
        assert_type(done.result, Thumbnail)
    assert_type(engine.blocking.result(job, timeout=1), Thumbnail)
    assert_type(engine.blocking.result("id"), Any)
    assert_type(thumbnail.result_ttl, float | None)
    await engine.result(3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await engine.results(["id"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    try:
        await engine.result(job)
    except JobFailed as failed:
        assert_type((failed.reason, failed.error, failed.message), tuple[str, str, str])


async def kits_keep_the_types_of_results(jobs: TestedJobs) -> None:
    assert_type(await jobs.repeat(add, 1, b=2), tuple[int, int])
    assert_type(jobs.blocking.repeat(plain, 1), tuple[str, str])
    assert_type(jobs.assert_scheduled(add, 1, after=timedelta(days=1)), list[Job])
    await jobs.repeat(add, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    async with testing.memory(engine) as tested:
        assert_type(tested, TestedJobs)
