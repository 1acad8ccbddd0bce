"""The log of workers at INFO, the fields of each record, and the page that lists them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from aiospinach import Broker, Engine, RetryException, current_job, signals
from aiospinach.logs import FIELDS

from ..brokers_under_test import BROKERS, MakeBroker
from ..conftest import Heard
from ..waiting import until

PAGE = Path(__file__).parent.parent.parent / "docs" / "logs.md"
LEASE = 0.5


@pytest.fixture(params=BROKERS)
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    make: MakeBroker = request.param
    return make


@pytest.fixture
def broker(make_broker: MakeBroker) -> Broker:
    return make_broker(lease=LEASE)


@pytest.fixture
async def engine(broker: Broker, namespace: str) -> AsyncIterator[Engine]:
    async with Engine(broker, namespace) as engine:
        yield engine


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aiospinach")


def record_of(caplog: pytest.LogCaptureFixture, text: str) -> logging.LogRecord:
    [record] = [record for record in caplog.records if text in record.getMessage()]
    return record


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in FIELDS}


async def test_a_start_a_drain_and_a_stop_are_logged_with_the_worker(
    engine: Engine, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = asyncio.Event()

    @engine.task(queue="mail")
    async def send() -> None:
        await may_end.wait()

    await send.schedule()
    await engine.start_workers(3, block=False)
    await until(lambda: heard.count("job_started") == 1, "the job runs")
    stopping = asyncio.create_task(engine.stop_workers())
    await until(
        lambda: any("stops; " in record.getMessage() for record in caplog.records), "the drain is logged"
    )
    may_end.set()
    await stopping
    started = record_of(caplog, f"and the queue mail, 3 at a time, from {engine._broker!r}")
    assert record_of(caplog, "stops; jobs that run: 1").levelno == logging.INFO
    stopped = record_of(caplog, "has stopped; jobs that it has run: 1")
    assert fields_of(started) == fields_of(stopped)
    assert fields_of(started) == {
        "namespace": engine.namespace,
        "queue": None,
        "task_name": None,
        "job_id": None,
        "worker": started.args[0],  # type: ignore[index]
    }


async def test_jobs_of_a_lost_worker_are_logged_when_they_are_taken_over(
    make_broker: MakeBroker, engine: Engine, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    @engine.task(max_retries=3)
    async def send() -> None: ...

    job = await send.schedule()
    await engine._broker.exchange("default", [], 1)  # by a worker that is never heard of again
    await engine.start_workers(block=False)
    await until(lambda: heard.count("job_schedule_retry") == 1, "the job is taken over")
    record = record_of(caplog, f"queue default: 1 jobs of lost workers are taken over: {job.id}")
    assert record.levelno == logging.INFO
    assert (record.queue, record.namespace) == ("default", engine.namespace)  # type: ignore[attr-defined]


async def test_a_changed_limit_is_logged(
    make_broker: MakeBroker, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_broker()
    for limit in (None, 2, 2, 3, None):
        async with Engine(broker, namespace) as engine:

            @engine.task(name="send", max_concurrency=limit)
            async def send() -> None: ...

            await engine.start_workers(stop_when_queue_empty=True)
    changes = [record for record in caplog.records if "max_concurrency" in record.getMessage()]
    assert [record.getMessage() for record in changes] == [
        "task send: max_concurrency is 2 now, and was None",
        "task send: max_concurrency is 3 now, and was 2",
        "task send: max_concurrency is None now, and was 3",
    ]
    assert {(record.levelno, record.task_name) for record in changes} == {  # type: ignore[attr-defined]
        (logging.INFO, "send")
    }


async def test_records_of_a_job_say_which_and_only_failures_and_retries_are_above_debug(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    @engine.task(queue="mail", max_retries=1)
    async def send(how: str) -> None:
        if how == "retry" and current_job().retries == 0:  # type: ignore[union-attr]
            raise RetryException("once more", timedelta(0))
        if how == "fail":
            raise ValueError("wrong")

    @signals.job_started.connect_via(engine.namespace)
    def receiver(namespace: str, **kwargs: object) -> None:
        if kwargs["job"].args == ("receiver",):  # type: ignore[attr-defined]
            raise ValueError("of a receiver")

    jobs = {how: await send.options(id=how).schedule(how) for how in ("done", "retry", "fail", "receiver")}
    await engine.cancel(await send.options(id="cancelled").schedule("cancelled"))
    await engine.start_workers(stop_when_queue_empty=True)
    above = [
        record
        for record in caplog.records
        if record.levelno > logging.DEBUG and "<Job" in record.getMessage()
    ]
    logged = {(record.job_id, record.levelname) for record in above}  # type: ignore[attr-defined]
    assert logged == {
        ("retry", "WARNING"),
        ("fail", "WARNING"),
        ("fail", "ERROR"),
        ("receiver", "ERROR"),
    }
    for record in above:
        job = jobs[record.job_id]  # type: ignore[attr-defined]
        expected = {"namespace": job.namespace, "queue": "mail", "task_name": job.task_name, "job_id": job.id}
        assert fields_of(record).items() >= expected.items()


async def test_every_record_has_every_field_so_that_a_format_may_name_them(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    @engine.task(max_retries=1, backoff=lambda retry: 0.0)
    async def work() -> None:
        raise ValueError("wrong")

    await work.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    formatter = logging.Formatter(" ".join(f"%({name})s" for name in FIELDS))
    assert caplog.records
    for record in caplog.records:
        formatter.format(record)


def test_the_page_of_the_log_lists_every_record_of_the_package() -> None:
    """Each message that the code logs stands on the page, with its level."""
    page = PAGE.read_text("utf-8")
    package = PAGE.parent.parent / "aiospinach"
    calls = re.compile(r"logger\.(debug|info|warning|error|critical)\(\s*((?:f?\"(?:[^\"\\]|\\.)*\"\s*)+)")
    found = 0
    for path in sorted(package.rglob("*.py")):
        for level, literals in calls.findall(path.read_text("utf-8")):
            message = "".join(re.findall(r"\"((?:[^\"\\]|\\.)*)\"", literals))
            found += 1
            assert f"| {level.upper()} | `{message}` |" in page, f"{path.name}: {level} {message}"
    assert found > 25
    assert all(f"`{name}`" in page for name in FIELDS)
