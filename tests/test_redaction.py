"""Parts named in ``leave_out`` appear neither in the log nor in the records of dead jobs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiospinach import Engine, InvalidValue, MemoryBroker, signals
from aiospinach.redaction import Redaction

from .brokers_under_test import BROKERS, MakeBroker
from .conftest import Heard
from .waiting import until

SECRET = "canary"


class Chatty(Exception):
    """Repeats its message in its str, repr and notes."""

    def __init__(self) -> None:
        super().__init__(SECRET)
        self.add_note(SECRET)

    def __repr__(self) -> str:
        return SECRET


@pytest.fixture
def leave_out() -> Any:
    return ()


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str, leave_out: Any) -> AsyncIterator[Engine]:
    make: MakeBroker = request.param
    async with Engine(make(), namespace, leave_out=leave_out) as engine:
        yield engine


async def fail(engine: Engine, error: BaseException | None = None) -> None:
    """Run a job that fails after a retry, with a receiver of job_failed that fails as well."""

    @signals.job_failed.connect_via(engine.namespace)
    async def receiver(sender: str, **kwargs: Any) -> None:
        raise Chatty

    @engine.task(name="quick", max_retries=1, backoff=lambda _: 0)
    async def quick(name: str) -> None:
        raise Chatty() if error is None else error

    await quick.options(id="quick").schedule(SECRET)
    await engine.start_workers(stop_when_queue_empty=True)


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """The whole log: its text, and the errors passed to handlers."""
    formatter = logging.Formatter()
    records = [record for record in caplog.records if record.name.startswith("aiospinach")]
    texts = [formatter.format(record) for record in records]
    errors = [repr(record.exc_info[1]) for record in records if record.exc_info]
    return "\n".join(texts + errors)


async def test_nothing_is_left_out_by_default(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    await fail(engine)
    [dead] = [dead async for dead in engine.dead_jobs()]
    assert dead.message == SECRET
    assert SECRET in dead.traceback
    assert dead.job.args == (SECRET,)
    assert "Traceback" in logged(caplog)
    assert SECRET in logged(caplog)


@pytest.mark.parametrize("leave_out", [["messages"], "messages", {"messages", "arguments"}])
async def test_messages_are_left_out_wherever_an_error_is_printed(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    await fail(engine)
    [dead] = [dead async for dead in engine.dead_jobs()]
    assert dead.message == ""
    assert dead.error.endswith(".Chatty")
    assert "Chatty" in dead.traceback
    assert "raise Chatty() if error is None else error" in dead.traceback
    assert SECRET not in dead.traceback
    text = logged(caplog)
    assert text.count("Traceback") >= 3, "one each for the retry, the failure and the receiver"
    assert "Chatty" in text
    assert SECRET not in text


@pytest.mark.parametrize("leave_out", [["tracebacks"]])
async def test_without_tracebacks_the_message_is_logged_on_one_line(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    await fail(engine)
    [dead] = [dead async for dead in engine.dead_jobs()]
    assert (dead.message, dead.traceback) == (SECRET, "")
    text = logged(caplog)
    assert "Traceback" not in text
    assert text.count(f"Chatty: {SECRET}") == 3


@pytest.mark.parametrize("leave_out", [("arguments", "messages", "tracebacks")])
async def test_everything_may_be_left_out(
    engine: Engine, caplog: pytest.LogCaptureFixture, heard: Heard
) -> None:
    await fail(engine)
    [dead] = [dead async for dead in engine.dead_jobs()]
    assert (dead.reason, dead.message, dead.traceback) == ("exhausted", "", "")
    assert dead.job.args == ()
    text = logged(caplog)
    assert "exhausted" in text
    assert "Chatty" in text
    assert SECRET not in text
    assert "Traceback" not in text
    assert str(heard.last("job_failed")["err"]) == SECRET, "receivers are the program's own"
    assert heard.last("job_failed")["job"].args == (SECRET,)


@pytest.mark.parametrize("leave_out", ["arguments"])
async def test_a_dead_job_without_its_arguments_cannot_be_requeued(engine: Engine) -> None:
    await fail(engine)
    with pytest.raises(InvalidValue, match=r"'quick' was kept without its arguments.*schedule it again"):
        await engine.requeue("quick")
    assert await engine.discard("quick")
    assert not await engine.requeue("quick")


@pytest.mark.parametrize("leave_out", ["arguments"])
async def test_a_dead_job_that_had_none_can_be_requeued(engine: Engine) -> None:
    @engine.task(name="plain")
    def plain() -> None:
        raise ValueError

    await plain.options(id="plain").schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert await engine.requeue("plain")


@pytest.mark.parametrize("leave_out", ["arguments"])
@pytest.mark.parametrize("argument", [None, SECRET])
async def test_headers_and_key_are_left_out_with_the_arguments(engine: Engine, argument: str | None) -> None:
    engine.carry(lambda: {"user": SECRET})

    @engine.task(name="work")
    def work(name: str | None = None) -> None:
        raise ValueError

    arguments = () if argument is None else (argument,)
    await work.options(key="tenant-1").schedule(*arguments)
    await engine.start_workers(stop_when_queue_empty=True)
    [dead] = [each async for each in engine.dead_jobs()]
    kept = {"user": SECRET}, "tenant-1"  # they travel again if it is requeued
    assert (dead.job.headers, dead.job.key) == (kept if argument is None else ({}, None))


def chained() -> Exception:
    try:
        try:
            raise Chatty
        except Chatty as first:
            raise ValueError(SECRET) from first
    except ValueError:
        try:
            raise KeyError(SECRET)
        except KeyError as second:
            return second


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError(SECRET)

    def __bool__(self) -> bool:
        raise RuntimeError(SECRET)


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (chained(), ["Chatty", "ValueError", "KeyError"]),
        (ExceptionGroup(SECRET, [ValueError(SECRET), chained()]), ["ExceptionGroup", "Chatty", "KeyError"]),
        (SyntaxError(SECRET, ("file", 1, 1, SECRET)), ["SyntaxError"]),
        (UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET), ["UnicodeDecodeError"]),
        (Odd(), ["RuntimeError"]),
    ],
)
@pytest.mark.parametrize("leave_out", ["messages"])
async def test_messages_of_all_kinds_of_errors_are_left_out(
    engine: Engine, caplog: pytest.LogCaptureFixture, error: Exception, names: list[str]
) -> None:
    await fail(engine, error)
    [dead] = [dead async for dead in engine.dead_jobs()]
    for text in (dead.traceback, logged(caplog)):
        assert all(name in text for name in names)
        assert SECRET not in text
    assert dead.message == ""


def test_errors_that_cause_each_other_are_shown_once() -> None:
    first, second = ValueError(SECRET), KeyError(SECRET)
    first.__cause__, second.__cause__ = second, first
    shown = Redaction(messages=True).shown(first)
    assert type(shown).__name__ == "ValueError"
    assert shown.__cause__ is not None
    assert shown.__cause__.__cause__ is shown


@pytest.mark.parametrize("leave_out", ["messages"])
async def test_the_message_of_a_failing_backoff_is_left_out(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def backoff(attempt: int) -> float:
        raise Chatty

    @engine.task(name="fragile", max_retries=1, backoff=backoff)
    async def fragile() -> None:
        raise ValueError

    job = await fragile.schedule()
    await engine.start_workers(block=False)
    await until(lambda: "is wrong" in logged(caplog))
    await engine.cancel(job)
    await engine.stop_workers()
    assert "Chatty" in logged(caplog)
    assert SECRET not in logged(caplog)


@pytest.mark.parametrize("leave_out", ["message", ["all"], [1], None, 5, b"messages", ["messages", "names"]])
def test_an_invalid_leave_out_is_refused(leave_out: Any) -> None:
    with pytest.raises(InvalidValue, match=r"leave_out=\) takes some of arguments, messages, tracebacks"):
        Engine(MemoryBroker(), leave_out=leave_out)
