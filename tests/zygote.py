"""Runs single tests on copies of the package, each in a fork of a process that has the imports done.

``python -P tests/zygote.py`` reads lines of a folder, a tab and a test. For each line it runs the test in
a fork of itself, in that folder, and prints a line with the result. ``<folder>/output`` holds the output of
the test; its first line is the path of the imported package.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from pathlib import Path

import pytest

PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout")
IMPORTED = (*PLUGINS, "anyio", "blinker", "cronsim", "hypothesis", "msgspec", "redis.asyncio")
ENDS = {0: "passed", 1: "failed", 2: "hung"}
BROKEN = "broken"
LIMIT = 30


class FirstFailure:
    """Exits at the first failure: the cleanup of a broken package may take long."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            print(report.longreprtext, flush=True)
            if report.when != "call":
                os._exit(3)
            os._exit(2 if "Timeout (>" in report.longreprtext else 1)


def run(folder: Path, test: str) -> None:
    """Run one test in this process, and exit."""
    code = 3
    try:
        os.setsid()  # child processes are killed with this group
        output = os.open(folder / "output", os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        os.environ["TMPDIR"] = str(folder)
        sys.path.insert(0, str(folder))
        import aiospinach

        print(aiospinach.__file__, flush=True)
        # A mutant may wait for ever; a timeout by signal fails the test, one by thread would end the process.
        options = ["-x", "--capture=no", "-p", "no:cacheprovider"]
        options += [f"--timeout={LIMIT}", "--timeout-method=signal"]
        plugins = [FirstFailure(), *(sys.modules[name] for name in PLUGINS)]
        code = int(pytest.main([*options, f"tests/{test}"], plugins))
    finally:
        os._exit(3 if code else 0)


def answer(folder: Path, test: str) -> str:
    child = os.fork()
    if child == 0:
        run(folder, test)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return ENDS.get(os.waitstatus_to_exitcode(status), BROKEN)


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for line in sys.stdin:
        folder, _, test = line.rstrip("\n").partition("\t")
        print(answer(Path(folder), test), flush=True)


if __name__ == "__main__":
    main()
