"""The commands that look: what people read, and the JSON that programs read."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from aiospinach import Engine, WorkerInfo
from aiospinach.cli.rows import JobReport, JobsPage, PingReport, QueueRow

from .conftest import CommandLine, die


async def fill(engine: Engine) -> None:
    send = engine._tasks.find("send")
    await engine.schedule(send.options(id="mail-1", key="ann"), "canary")
    await engine.schedule_at(send.options(id="mail-2"), datetime.now(UTC) + timedelta(days=1), "canary")
    await die(engine, "order-17")


async def test_counts_of_a_program_and_of_a_bare_url_are_the_same(
    cli: CommandLine, engine: Engine, program: str, store: list[str]
) -> None:
    await fill(engine)
    code, out, err = await cli("counts", program)
    assert (code, err) == (0, "")
    head, mail, web = (line.split() for line in out.splitlines())
    assert head[:7] == ["queue", "ready", "running", "waiting", "dead", "parked", "oldest"]
    assert (mail[:6], web[:6]) == (["mail", "1", "0", "1", "0", "0"], ["web", "0", "0", "0", "1", "0"])
    by_url = await cli("counts", *store, "--json")
    assert by_url.code == 0
    rows = msgspec.json.decode(by_url.out, type=list[QueueRow], strict=True)
    assert [(row.queue, row.ready, row.waiting, row.dead) for row in rows] == [
        ("mail", 1, 1, 0),
        ("web", 0, 0, 1),
    ]


@pytest.mark.parametrize("has_code", [True, False], ids=["engine", "url"])
async def test_jobs_are_listed_with_filters_and_pages(
    cli: CommandLine, engine: Engine, program: str, store: list[str], has_code: bool
) -> None:
    await fill(engine)
    target = [program] if has_code else store

    async def page(*options: str) -> JobsPage:
        code, out, err = await cli("jobs", *target, "--json", *options)
        assert (code, err) == (0, "")
        return msgspec.json.decode(out, type=JobsPage, strict=True)

    everything = await page()
    assert {(job.id, job.status) for job in everything.jobs} == {
        ("mail-1", "queued"),
        ("mail-2", "waiting"),
        ("order-17", "dead"),
    }
    assert everything.cursor is None
    assert [job.id for job in (await page("--status", "dead", "--task", "crash")).jobs] == ["order-17"]
    assert [job.id for job in (await page("--key", "ann")).jobs] == ["mail-1"]
    assert [job.id for job in (await page("--error", "ValueError")).jobs] == ["order-17"]
    first = await page("--limit", "1")
    assert first.cursor is not None
    second = await page("--limit", "1", "--after", first.cursor)
    assert [job.id for job in (*first.jobs, *second.jobs)] == ["mail-1", "mail-2"]
    code, out, _ = await cli("jobs", *target)
    assert code == 0
    assert "crash  order-17  web" in " ".join(out.split(" ")).replace("   ", "  ")


async def test_no_list_shows_an_argument(
    cli: CommandLine, engine: Engine, program: str, store: list[str]
) -> None:
    await fill(engine)
    for target in ([program], store):
        for command in (["jobs"], ["jobs", "--json"], ["job", "mail-1"], ["job", "mail-1", "--json"]):
            code, out, err = await cli(*command, *target)
            assert code == 0
            assert "canary" not in out + err
    assert "canary" in (await cli("job", "mail-1", program, "--arguments")).out
    assert "canary" not in (await cli("job", "mail-1", *store, "--arguments")).out


async def test_a_dead_job_is_explained_with_its_traceback(
    cli: CommandLine, engine: Engine, store: list[str]
) -> None:
    await fill(engine)
    code, out, _ = await cli("job", "order-17", *store)
    assert code == 0
    assert out.startswith("job order-17 died at ")
    assert "it raised builtins.ValueError, and has no retries left (exhausted)" in out
    assert "ValueError: boom" in out
    report = msgspec.json.decode((await cli("job", "order-17", *store, "--json")).out, type=JobReport)
    assert report.death is not None
    assert (report.verdict, report.death.reason, report.death.message) == ("dead", "exhausted", "boom")
    assert "Traceback" in report.death.traceback


async def test_a_running_job_shows_where_its_body_is(
    cli: CommandLine, engine: Engine, store: list[str]
) -> None:
    release = asyncio.Event()

    @engine.task(queue="mail", name="hold")
    async def hold() -> None:
        await release.wait()

    await engine.schedule(hold.options(id="hold-1"))
    await engine.start_workers(block=False)
    for _ in range(200):
        out = (await cli("job", "hold-1", *store, "--stack", "--json")).out
        report = msgspec.json.decode(out, type=JobReport)
        if report.verdict == "running" and report.stack:
            break
    assert report.verdict == "running"
    assert report.stack is not None
    assert any("hold" in frame for frame in report.stack)
    code, out, _ = await cli("workers", *store, "--json")
    assert code == 0
    [worker] = msgspec.json.decode(out, type=list[WorkerInfo])
    assert worker.queues == ("mail", "web")
    assert worker.name in (await cli("workers", *store)).out
    release.set()


async def test_an_unknown_job_is_not_well(cli: CommandLine, engine: Engine, store: list[str]) -> None:
    code, out, _ = await cli("job", "order-99", *store)
    assert code == 1
    assert out.startswith("job order-99 is unknown")


async def test_a_store_answers_a_ping(cli: CommandLine, store: list[str], namespace: str) -> None:
    code, out, err = await cli("ping", *store)
    assert (code, err) == (0, "")
    assert " answers in " in out
    report = msgspec.json.decode((await cli("ping", *store, "--json")).out, type=PingReport)
    assert report.namespace == namespace
    assert report.server in ("redis", "valkey")
    assert report.round_trip_ms > 0


async def test_names_from_the_store_cannot_move_the_cursor(
    cli: CommandLine, engine: Engine, store: list[str]
) -> None:
    await engine.pause(queue="mail", reason="\x1b[2J\u202egone")
    await engine.schedule(engine._tasks.find("send").options(id="mail-1"), "ann")
    out = (await cli("job", "mail-1", *store)).out
    assert "gone" in out
    assert "\x1b" not in out
    assert "\u202e" not in out
