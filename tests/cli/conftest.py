"""Fixtures: a program with an engine on a real server, and a command line that runs within the test."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from aiospinach import Engine, RedisBroker
from aiospinach.cli.application import run

from ..brokers_under_test import shared_server

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio
from aiospinach import Engine, RedisBroker

engine = Engine(RedisBroker({url!r}), namespace={namespace!r})


@engine.task(queue="mail", max_retries=3)
async def send(name: str) -> None: ...


@engine.task(queue="web", name="crash")
async def crash(secret: str) -> None:
    raise ValueError("boom")
"""
PASSWORD = "p4ssw0rd"


class Result(NamedTuple):
    """The end of a command."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs commands in a thread of this process, with the output of each."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, *arguments: str) -> Result:
        self._capsys.readouterr()
        code = await asyncio.to_thread(run, arguments)
        out, err = self._capsys.readouterr()
        return Result(code, out, err)


@pytest.fixture
def url() -> str:
    return f"redis://127.0.0.1:{shared_server().port}/0"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    for name in ("AIOSPINACH_ENGINE", "AIOSPINACH_URL"):
        monkeypatch.delenv(name, raising=False)
    return CommandLine(capsys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of the test, which is not on the path of later tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.fixture
def write_program(url: str, namespace: str, folder: Path) -> Callable[[str], str]:
    """Writes a program, and returns ``module:engine``; each test has a module of its own."""

    def write(text: str = PROGRAM) -> str:
        module = namespace.replace("-", "_")
        (folder / f"{module}.py").write_text(text.format(url=url, namespace=namespace))
        return f"{module}:engine"

    return write


@pytest.fixture
def program(write_program: Callable[[], str]) -> str:
    """The engine of a program in the current directory, as ``module:engine``."""
    return write_program()


@pytest.fixture
def store(url: str, namespace: str) -> list[str]:
    """The options that name the store, without code."""
    return ["--url", url, "--namespace", namespace]


@pytest.fixture
async def engine(url: str, namespace: str) -> AsyncIterator[Engine]:
    """An engine of the same jobs as the program's."""
    async with Engine(RedisBroker(url), namespace) as engine:

        @engine.task(queue="mail", max_retries=3, name="send")
        async def send(name: str) -> None: ...

        @engine.task(queue="web", name="crash")
        async def crash(secret: str) -> None:
            raise ValueError("boom")

        yield engine
        await engine.stop_workers()


async def die(engine: Engine, job_id: str) -> None:
    """Have a job of this id fail for ever."""
    await engine.schedule(engine._tasks.find("crash").options(id=job_id), "canary")
    await engine.start_workers(queue="web", stop_when_queue_empty=True)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-W", "error", "-m", "aiospinach.cli", *arguments]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIOSPINACH_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **more}


def ran(*arguments: str, **more: str) -> Result:
    """Run a command in a process of its own, in the current directory."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=50, env=environment(**more)
    )
    return Result(done.returncode, done.stdout, done.stderr)
