"""The commands that change jobs, and ask before they do what cannot be undone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aiospinach import Engine, JobStatus
from aiospinach.cli.moments import span_of

from .conftest import CommandLine, die


async def put(engine: Engine, job_id: str, *, later: bool = False) -> None:
    send = engine._tasks.find("send").options(id=job_id)
    if later:
        await engine.schedule_at(send, datetime.now(UTC) + timedelta(days=1), "ann")
    else:
        await engine.schedule(send, "ann")


@pytest.mark.parametrize("has_code", [True, False], ids=["engine", "url"])
async def test_a_job_is_cancelled_once(
    cli: CommandLine, engine: Engine, program: str, store: list[str], has_code: bool
) -> None:
    target = [program] if has_code else store
    await put(engine, "mail-1")
    assert (await cli("cancel", "mail-1", *target))[:2] == (
        0,
        "job mail-1 was queued, and it will never run\n",
    )
    assert await engine.job("mail-1") is None
    code, out, err = await cli("cancel", "mail-1", *target)
    assert (code, out) == (1, "")
    assert err == "aiospinach: no job mail-1 lives: nothing was cancelled\n"


async def test_a_dead_job_is_requeued_or_discarded(
    cli: CommandLine, engine: Engine, store: list[str]
) -> None:
    await die(engine, "order-17")
    assert (await cli("requeue", "order-17", *store)).code == 0
    job = await engine.job("order-17")
    assert job is not None
    assert job.status is JobStatus.QUEUED
    assert (await cli("requeue", "order-17", *store)).code == 1
    assert (await cli("discard", "order-17", *store)).code == 1
    await engine.start_workers(queue="web", stop_when_queue_empty=True)
    assert (await cli("discard", "order-17", *store)).code == 0
    assert await engine.job("order-17") is None


async def test_a_job_is_moved(cli: CommandLine, engine: Engine, store: list[str]) -> None:
    await put(engine, "mail-1", later=True)
    assert (await cli("reschedule", "mail-1", "2h", *store)).code == 0
    job = await engine.job("mail-1")
    assert job is not None
    assert timedelta(minutes=119) < job.at - datetime.now(UTC) < timedelta(minutes=121)
    assert (await cli("reschedule", "mail-1", "2099-12-24T18:00+00:00", *store)).code == 0
    job = await engine.job("mail-1")
    assert job is not None
    assert job.at == datetime(2099, 12, 24, 18, tzinfo=UTC)
    assert (await cli("run-now", "mail-1", *store)).code == 0
    job = await engine.job("mail-1")
    assert job is not None
    assert job.at <= datetime.now(UTC) + timedelta(seconds=5)
    code, _, err = await cli("reschedule", "mail-1", "tomorrow", *store)
    assert code == 2
    assert "is no moment" in err
    assert (await cli("run-now", "mail-2", *store)).code == 1
    await die(engine, "order-17")
    code, _, err = await cli("run-now", "order-17", *store)
    assert code == 1
    assert "requeue" in err


async def test_queues_and_tasks_are_paused_and_resumed(
    cli: CommandLine, engine: Engine, program: str, store: list[str]
) -> None:
    await put(engine, "mail-1")
    assert (
        await cli("pause", *store, "-q", "mail", "--for", "15m", "--reason", "provider is down")
    ).code == 0
    assert (await cli("pause", program, "--task", "crash")).code == 0
    queue, task = await engine.pauses()
    assert (queue.queue, queue.task, queue.reason) == ("mail", None, "provider is down")
    assert queue.until is not None
    assert (task.queue, task.task, task.until) == ("web", "crash", None)
    assert "paused" in (await cli("counts", *store)).out
    assert (await cli("resume", *store, "--queue", "mail")).code == 0
    assert (await cli("resume", *store, "--queue", "mail")).code == 1
    assert (await cli("resume", *store, "--queue", "web", "--task", "crash")).code == 0
    assert await engine.pauses() == []
    assert (await cli("pause", *store, "--queue", "mail", "--for", "soon")).code == 2


@pytest.mark.parametrize("command", ["pause", "resume"])
async def test_errors_about_pauses_name_the_options(cli: CommandLine, program: str, command: str) -> None:
    code, _, err = await cli(command, program)
    assert (code, err) == (2, "aiospinach: name a queue or a task, as in --queue mail or --task send\n")
    code, _, err = await cli(command, program, "--task", "sned")
    assert code == 2
    assert "no task 'sned'" in err
    assert "--queue" in err


async def test_a_purge_needs_a_yes(cli: CommandLine, engine: Engine, store: list[str]) -> None:
    await put(engine, "mail-1")
    await put(engine, "mail-2", later=True)
    await die(engine, "order-17")
    code, out, err = await cli("purge", *store, "--live")
    assert (code, out) == (2, "")
    assert "--yes" in err
    assert (await cli("purge", *store, "--yes")).code == 2
    assert (await engine.counts())["mail"].ready == 1
    code, out, _ = await cli("purge", *store, "--live", "--dead", "--yes", "--task", "send")
    assert (code, out) == (0, "2 jobs were cancelled\n0 dead jobs were forgotten\n")
    code, out, _ = await cli("purge", *store, "--dead", "--queue", "web", "-y")
    assert (code, out) == (0, "1 dead job was forgotten\n")
    assert [job async for job in engine.jobs()] == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("3 d", 259200), ("250ms", 0.25)]
)
def test_spans_are_read(text: str, seconds: float) -> None:
    assert span_of(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "h", "-5s", "5 y", "999999999w", "1e9s"])
def test_other_texts_are_no_spans(text: str) -> None:
    assert span_of(text) is None
