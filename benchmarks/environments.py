"""A virtual environment for each library, since their requirements contradict each other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

UVLOOP = ("uvloop==0.23.0", "hiredis==3.5.0")


@dataclass(frozen=True)
class Library:
    """A library to measure: its program, and the packages that it needs."""

    name: str
    module: str
    requirements: tuple[str, ...] = ()
    """Empty: it runs in this environment."""
    has_batch: bool = True
    """It can store many jobs in one call."""
    has_results: bool = False
    """Its program awaits the results of jobs."""
    polls: bool = False
    """With one job at a time it polls slowly, so few jobs are measured."""
    note: str = ""
    node: bool = False


LIBRARIES = {
    library.name: library
    for library in (
        Library("floor", "benchmarks.floor", note="two scripts, one asyncio task a job, no engine"),
        Library("aiospinach", "benchmarks.libraries.aiospinach", has_results=True),
        Library(
            "arq",
            "benchmarks.libraries.arq",
            ("arq==0.28.0", "redis==5.3.1", *UVLOOP),
            has_batch=False,
            has_results=True,
            polls=True,
            note="polls, every 0.1 s here (0.5 s by default); keep_result=0, but where results are awaited",
        ),
        Library(
            "saq",
            "benchmarks.libraries.saq",
            ("saq[redis]==0.26.4", "redis==7.4.1", "orjson==3.13.0", "typing-extensions==4.16.0", *UVLOOP),
            has_batch=False,
            has_results=True,
            note="ttl=-1, so no results are kept, but where they are awaited",
        ),
        Library(
            "taskiq",
            "benchmarks.libraries.taskiq",
            ("taskiq==0.13.0", "taskiq-redis==1.2.4", "redis==8.1.0", "orjson==3.13.0", *UVLOOP),
            has_batch=False,
            has_results=True,
            note="RedisStreamBroker, orjson, prefetches; polls for results, every 10 ms here",
        ),
        Library(
            "streaq",
            "benchmarks.libraries.streaq",
            ("streaq==7.2.0", "coredis==6.9.0", *UVLOOP),
            has_results=True,
            note="ttl=0, but where results are awaited, 30 at once; prefetch=32",
        ),
        Library(
            "docket",
            "benchmarks.libraries.docket",
            ("pydocket==0.27.0", "redis==8.1.0", *UVLOOP),
            has_results=True,
            note="minimum_check_interval=2 ms; execution_ttl=0, but where results are awaited",
        ),
        Library(
            "spinach",
            "benchmarks.libraries.spinach",
            ("spinach==0.0.25", "redis==8.1.0", *UVLOOP),
            note="AsyncioWorkers; whoever schedules is a thread",
        ),
        Library(
            "dramatiq",
            "benchmarks.libraries.dramatiq",
            ("dramatiq[redis]==2.2.1", "redis==8.1.0", "hiredis==3.5.0"),
            has_batch=False,
            note="threads, for reference",
        ),
        Library(
            "bullmq",
            "benchmarks.libraries.bullmq",
            ("bullmq==3.4.4", "redis==8.1.0", *UVLOOP),
            note="for reference",
        ),
        Library(
            "bullmq-node",
            "libraries/bullmq.mjs",
            ("bullmq@6.7.0", "ioredis@5.11.1"),
            note="Node, for reference",
            node=True,
        ),
    )
}


class Unavailable(Exception):
    """A library cannot be measured on this machine; the message says why."""


def command(library: Library, folder: Path) -> list[str]:
    """The command that runs the library's program. Installs the library first, if necessary."""
    if not library.requirements:
        return [sys.executable, "-m", library.module]
    home = (folder / library.name).resolve()
    done = home / "installed.txt"
    wanted = "\n".join(library.requirements)
    if not done.exists() or done.read_text() != wanted:
        shutil.rmtree(home, ignore_errors=True)
        (_install_node if library.node else _install)(library, home)
        done.write_text(wanted)
    if library.node:
        # Python looks for imports beside the program.
        return ["node", str(shutil.copy(Path(__file__).parent / library.module, home))]
    return [str(home / "bin" / "python"), "-m", library.module]


def _install(library: Library, home: Path) -> None:
    _run([sys.executable, "-m", "venv", str(home)])
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    _run([*pip, *library.requirements])


def _install_node(library: Library, home: Path) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Unavailable("there is no node or npm")
    home.mkdir(parents=True)
    _run(
        [
            "npm",
            "install",
            "--silent",
            "--no-fund",
            "--no-audit",
            "--prefix",
            str(home),
            *library.requirements,
        ]
    )


def _run(call: list[str]) -> None:
    ended = subprocess.run(call, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines() or ["no reason given"]
        raise Unavailable(f"cannot be installed: {said[-1][:200]}")
