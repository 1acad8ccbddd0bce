"""The log of the workers: each event once, with its details, and without harm from failing handlers."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from aiospinach import AbortException, Engine, RetryException, current_job, signals
from aiospinach.workers import draining

from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


async def test_the_end_of_an_outage_is_logged_with_its_length_and_repeated_calls(
    engine: Engine, broker: FailingBroker, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    end = asyncio.Event()

    @engine.task
    async def held(number: int) -> None:
        await end.wait()

    for number in range(3):
        await held.schedule(number)
    await engine.start_workers(3, block=False)
    await until(lambda: heard.count("job_started") == 3)
    broker.go_away()
    end.set()
    await until(lambda: broker.refused["exchange"] and broker.refused["wait"])
    broker.come_back()
    await until(lambda: sum("answers again" in line for line in lines(caplog)) == 2)
    await engine.stop_workers()
    began = [line for line in lines(caplog, logging.WARNING) if "trying on" in line]
    ended = [line for line in lines(caplog, logging.WARNING) if "answers again" in line]
    assert len(began) == len(ended) == 2, "one for exchanges of the queue, one for sweeps and waits"
    [settled] = [line for line in ended if line.startswith("queue default: ")]
    assert settled.endswith(" s; the outcomes of 3 jobs were sent again")
    [_] = [line for line in ended if line.startswith("queues default: the broker answers again, after ")]


class Fragile(logging.Handler):
    """A handler that raises for every record."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        raise ConnectionError("the log server is away")


@pytest.fixture
def fragile() -> Iterator[Fragile]:
    handler = Fragile()
    logger = logging.getLogger("aiospinach")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.mark.parametrize("what", ["a job fails", "a job is retried", "a receiver raises", "an outage"])
async def test_a_failing_log_handler_does_no_harm(
    engine: Engine,
    broker: FailingBroker,
    heard: Heard,
    fragile: Fragile,
    capsys: pytest.CaptureFixture[str],
    what: str,
) -> None:
    @engine.task(max_retries=1 if what == "a job is retried" else 0, backoff=lambda attempt: 0.0)
    async def bad() -> None:
        if what != "a receiver raises":
            raise ValueError

    @engine.task
    async def good() -> int:
        return 1

    def raises(namespace: str, **kwargs: object) -> None:
        if what == "a receiver raises":
            raise ValueError

    signals.job_started.connect(raises)
    await engine.start_workers(block=False)
    if what == "an outage":
        broker.go_away()
        await until(lambda: broker.refused["wait"])
        broker.come_back()
    await bad.schedule()
    await until(lambda: heard.count("job_finished") >= 1 + (what == "a job is retried"))
    await good.schedule()
    await until(lambda: heard.last("job_finished")["result"] == 1)
    assert engine.health().is_running
    await engine.stop_workers()
    assert fragile.count
    assert "a log record was lost: ConnectionError" in capsys.readouterr().err


async def test_a_start_and_a_stop_are_logged(
    engine: Engine, broker: FailingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiospinach")
    await engine.start_workers(7, block=False)
    await engine.stop_workers()
    started, stopping, stopped = [line for line in lines(caplog) if line.startswith("worker ")]
    assert (
        f"jobs of the namespace {engine.namespace} and the queue default, 7 at a time, from Memory" in started
    )
    assert "stops; jobs that run: 0" in stopping
    assert "has stopped; jobs that it has run: 0" in stopped


async def test_a_stop_logs_the_jobs_that_it_waits_for(
    engine: Engine,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draining, "LOG_EVERY", 0.01)
    end = asyncio.Event()

    @engine.task(name="held")
    async def held() -> None:
        await end.wait()

    jobs = [await held.schedule() for _ in range(7)]
    await engine.start_workers(10, block=False)
    await until(lambda: heard.count("job_started") == 7)
    stopping = asyncio.create_task(engine.stop_workers())

    def progress() -> list[str]:
        return [line for line in lines(caplog) if "stops when these have ended: 7 running jobs (" in line]

    await until(lambda: len(progress()) >= 2)
    end.set()
    await stopping
    named = rf"\(held {jobs[0].id} \(\d+ s\), held .* and 2 more\)"
    assert re.search(named + r"; in \d+ s they are cancelled$", progress()[0])


async def test_a_planned_retry_has_one_line_and_an_unexpected_error_one_traceback(
    engine: Engine, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    @engine.task(name="asks", max_retries=1)
    async def asks() -> None:
        job = current_job()
        assert job is not None
        if not job.retries:
            raise RetryException("429: come back later", timedelta(0))

    @engine.task(name="gives_up")
    async def gives_up() -> None:
        raise AbortException("no such customer")

    @engine.task(name="breaks", max_retries=2, backoff=lambda attempt: 0.0)
    async def breaks(number: int) -> None:
        if number == 0:
            raise ValueError("unforeseen")
        raise ValueError("elsewhere")

    for task in (asks, gives_up):
        await task.schedule()
    for number in (0, 0, 1):
        await breaks.schedule(number)
    await engine.start_workers(1, stop_when_queue_empty=True)
    records = [record for record in caplog.records if record.name == "aiospinach" and record.levelno >= 30]
    planned = [record for record in records if "<Job breaks" not in record.getMessage()]
    assert [record.exc_info for record in planned] == [None, None]
    retry, abort = (record.getMessage() for record in planned)
    assert retry.endswith("is tried again in 0.0 s: RetryException: 429: come back later")
    assert abort.endswith("failed (exhausted): AbortException: no such customer")
    broken = [record for record in records if "<Job breaks" in record.getMessage()]
    assert len(broken) == 9
    in_full = [record for record in broken if record.exc_info]
    assert [str(record.exc_info[1]) for record in in_full if record.exc_info] == ["unforeseen", "elsewhere"]
    others = [record.getMessage() for record in broken if not record.exc_info]
    assert all(": ValueError: " in line and "\n" not in line for line in others)
