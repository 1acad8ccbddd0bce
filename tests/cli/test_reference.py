"""The page of the command line is written by the code, and its examples run."""

from __future__ import annotations

import asyncio
import inspect
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aiospinach import Engine
from aiospinach.cli.application import COMMANDS, make_app
from aiospinach.cli.reference import MARK, reference

from ..waiting import until
from .conftest import ROOT, command, die, environment, ran

PAGE = ROOT / "docs" / "command-line.md"
FUNCTIONS = [function for functions in COMMANDS.values() for function in functions]


def example_of(function: Callable[..., object]) -> str:
    """The command in the help of a command."""
    [example] = re.findall(r"```console\n(.+)\n```", inspect.getdoc(function) or "")
    return str(example)


EXAMPLES = [example_of(function) for function in FUNCTIONS]


def test_the_page_has_the_reference_of_the_code() -> None:
    _, mark, written = PAGE.read_text("utf-8").partition(MARK)
    assert mark
    assert written == f"\n{reference()}\n", "run: python -m aiospinach.cli.reference docs/command-line.md"


def test_every_command_has_an_example_in_its_help() -> None:
    names = [example.split()[1] for example in EXAMPLES]
    assert set(names) == {name for name in make_app() if not name.startswith("-")}
    for name, example in zip(names, EXAMPLES, strict=True):
        code, out, err = ran(name, "--help", COLUMNS="200")
        assert (code, err) == (0, "")
        assert example in out


@pytest.mark.parametrize(
    "example",
    [e for e in EXAMPLES if e.split()[1] not in ("worker", "top", "dev")],
    ids=lambda e: e.split()[1],
)
async def test_the_example_of_a_command_runs(
    example: str, engine: Engine, write_program: Callable[[], str], folder: Path, url: str, namespace: str
) -> None:
    name = example.split()[1]
    (folder / "shop.py").write_text((folder / write_program().replace(":engine", ".py")).read_text())
    send = engine._tasks.find("send")
    if name in ("requeue", "discard"):
        await die(engine, "order-17")
    else:
        await engine.schedule(send.options(id="order-17"), "ann")
    await engine.schedule_at(send.options(id="reminder-3"), datetime.now(UTC) + timedelta(days=1), "ann")
    if name == "resume":
        await engine.pause(queue="mail")
    example = example.replace("redis://localhost:6379/0", url).replace(
        "--namespace shop", f"--namespace {namespace}"
    )
    done = await asyncio.to_thread(ran, *shlex.split(example)[1:])
    assert (done.code, done.err) == (0, ""), done
    assert done.out


@pytest.mark.large
async def test_the_example_of_worker_runs(write_program: Callable[[], str], folder: Path) -> None:
    text = (folder / write_program().replace(":engine", ".py")).read_text()
    text = text.replace('"mail"', '"critical"').replace('"web"', '"default"')
    (folder / "shop.py").write_text(text)
    await run_until_up("worker", "the queues critical, default, 20 at a time", 2)


@pytest.mark.large
async def test_the_example_of_dev_runs(write_program: Callable[[], str], folder: Path) -> None:
    (folder / "shop.py").write_text((folder / write_program().replace(":engine", ".py")).read_text())
    await run_until_up("dev", "5 at a time", 1, "--port", "0")


async def run_until_up(name: str, text: str, count: int, *more: str) -> None:
    """Run the example of a command until its log has a text so many times, and end it."""
    [example] = [each for each in EXAMPLES if each.split()[1] == name]
    log = Path("log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            command(*shlex.split(example)[1:], *more),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        await until(
            lambda: log.read_text().count(text) == count, "all are up", timeout=30, show=log.read_text
        )
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None, "the end", timeout=20)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
