"""Each record of a job has the job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from aiospinach import Engine, Job
from aiospinach.contrib.logging import JobFilter


class Records(logging.Handler):
    """Keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[logging.LogRecord] = []
        self.addFilter(JobFilter())
        self.setFormatter(logging.Formatter("%(job_id)s %(task_name)s %(queue)s %(job_try)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)

    def lines(self) -> list[str]:
        return [self.format(record) for record in self.kept]


@pytest.fixture
def logger() -> logging.Logger:
    return logging.getLogger("shop")


@pytest.fixture
def records(logger: logging.Logger) -> Iterator[Records]:
    records = Records()
    logger.addHandler(records)
    logger.setLevel(logging.INFO)
    yield records
    logger.removeHandler(records)
    logger.setLevel(logging.NOTSET)


async def test_each_record_of_a_job_has_id_task_queue_and_try(
    engine: Engine, logger: logging.Logger, records: Records
) -> None:
    @engine.task(queue="mail", max_retries=1, backoff=lambda retry: 0)
    async def send() -> None:
        logger.info("in the body")
        await asyncio.create_task(note())
        raise ValueError

    async def note() -> None:
        logger.info("in a task of the body")

    @engine.task(queue="web")
    def render() -> None:
        logger.info("in a thread")

    sent, rendered = await send.schedule(), await render.schedule()
    logger.info("outside")
    await engine.start_workers(1, ["mail", "web"], stop_when_queue_empty=True)
    assert sorted(records.lines()) == sorted(
        [
            f"{sent.id} {send.name} mail 1 in the body",
            f"{sent.id} {send.name} mail 1 in a task of the body",
            f"{sent.id} {send.name} mail 2 in the body",
            f"{sent.id} {send.name} mail 2 in a task of the body",
            f"{rendered.id} {render.name} web 1 in a thread",
            "None None None None outside",
        ]
    )


async def test_a_value_that_the_record_has_is_kept(
    engine: Engine, logger: logging.Logger, records: Records
) -> None:
    @engine.task
    async def work() -> None:
        logger.info("about another", extra={"job_id": "another", "task_name": None})

    job = await work.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert records.lines() == [f"another {work.name} default 1 about another"]
    assert isinstance(job, Job)


async def test_concurrent_jobs_do_not_mix(engine: Engine, logger: logging.Logger, records: Records) -> None:
    @engine.task
    async def work(number: int) -> None:
        for _ in range(3):
            logger.info("number %d", number)
            await asyncio.sleep(0)

    expected = []
    for number in range(200):
        job = await work.schedule(number)
        expected += [f"{job.id} {work.name} default 1 number {number}"] * 3
    await engine.start_workers(200, stop_when_queue_empty=True)
    assert sorted(records.lines()) == sorted(expected)
