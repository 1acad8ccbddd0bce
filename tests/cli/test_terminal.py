"""The newcomer's path on a real terminal: a dead job is seen, explained and requeued."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pexpect
import pytest

from aiospinach import Engine, JobStatus

from .conftest import command, die, environment
from .dev_command import DevCommand, children_of


def terminal(*arguments: str) -> pexpect.spawn:
    _, *rest = command(*arguments)
    return pexpect.spawn(
        sys.executable,
        rest,
        env=environment(TERM="xterm-256color"),
        dimensions=(40, 140),
        timeout=30,
        encoding="utf-8",
    )


@pytest.fixture
async def dead_job(engine: Engine, folder: Path) -> Engine:
    await die(engine, "order-17")
    return engine


async def test_a_dead_job_is_seen_explained_and_requeued(dead_job: Engine, program: str) -> None:
    child = terminal("jobs", program, "--status", "dead")
    child.expect("order-17")
    child.expect("builtins.ValueError")
    child.expect(pexpect.EOF)
    child = terminal("job", "order-17", program)
    child.expect("died at")
    child.expect("ValueError: boom")
    child.expect(pexpect.EOF)
    child = terminal("requeue", "order-17", program)
    child.expect("job order-17 is queued again")
    child.expect(pexpect.EOF)
    job = await dead_job.job("order-17")
    assert job is not None
    assert job.status is JobStatus.QUEUED


async def test_tables_have_colours_on_a_terminal_alone(dead_job: Engine, program: str) -> None:
    child = terminal("jobs", program)
    child.expect(pexpect.EOF)
    assert "\x1b[31m" in child.before  # dead


@pytest.mark.parametrize(("typed", "code", "left"), [("n", 1, 1), ("", 1, 1), ("y", 0, 0)])
async def test_a_purge_asks_first(dead_job: Engine, program: str, typed: str, code: int, left: int) -> None:
    child = terminal("purge", program, "--dead")
    child.expect("1 dead jobs of every queue will be gone")
    child.expect(r"Go on\? \[y/N\]")
    child.sendline(typed)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == code
    assert (await dead_job.counts())["web"].dead == left


async def test_ctrl_c_ends_a_worker_in_order(program: str) -> None:
    for options in ([], ["--processes", "2"]):
        child = terminal("worker", program, *options)
        for _ in range(max(1, len(options))):
            child.expect("5 at a time")
        child.sendintr()
        child.expect("running jobs may finish")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_ctrl_c_ends_dev_and_its_server(folder: Path) -> None:
    dev = DevCommand(folder)
    child = terminal("dev", "shop:engine", *dev.ports, "--shutdown-timeout", "100")
    child.expect("5 at a time")
    dev.schedule("slow")
    child.expect("hello slow")
    child.sendintr()
    child.expect("stops; jobs that run: 1")
    children = children_of(child.pid)
    assert len(children) == 2
    assert [os.getpgid(pid) for pid in children] == children, "the terminal sends its signal to none of them"
    (folder / "released").touch()
    child.expect("succeeded in")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert not dev.has_server
