"""Imports go one way, the public face is complete and documented, and importing it has no side effects."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aiospinach
from aiospinach import brokers, signals, testing

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "aiospinach"

# Each file may import what stands in the layers before its own, and in its own; a folder is one word.
LAYERS: list[tuple[str, set[str]]] = [
    (
        "foundation",
        {
            "job",
            "exceptions",
            "backoff",
            "timing",
            "validation",
            "functions",
            "arguments",
            "dependencies",
            "forks",
            "logs",
            "cancellation",
            "redaction",
            "failures",
            "release",
        },
    ),
    (
        "nouns",
        {
            *("cron", "outcome", "around", "call", "carried", "task", "registry", "batch", "surroundings"),
            "done",
        },
    ),
    ("signals", {"signals"}),
    ("brokers", {"brokers"}),
    ("workers", {"workers"}),
    ("engine", {"engine"}),
    ("face", {"__init__", "testing"}),
    ("views", {"views"}),
    ("contrib", {"contrib"}),
    ("top", {"top"}),
    ("command line", {"cli"}),
]
RANKS = {module: rank for rank, (_, modules) in enumerate(LAYERS) for module in modules}
# Brokers stand beside the signals, not above them: a store sends none.
FORBIDDEN = {("brokers", "signals")}
# These use the public face only, as programs do, and what is named here.
USERS = {
    **{"contrib": {"signals", "views"}, "views": set[str](), "top": {"views"}},
    "cli": {"signals", "views", "contrib", "top"},
}
FRAMEWORKS = {
    *("starlette", "sse_starlette", "fastapi", "pydantic", "uvloop", "attr", "attrs"),
    *("opentelemetry", "prometheus_client", "sentry_sdk", "structlog", "jinja2"),
}
IMPORTED_BY_REDIS = {"opentelemetry"}  # where it is installed
LINES_AT_MOST = 300

FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    ".".join(["aiospinach", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in FILES
}


def shown(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def module_of(path: Path) -> str:
    """The first part of the module's name within the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(node: ast.AST, path: Path) -> Iterator[str]:
    """Every module or name that a file imports, wherever the import stands, as an absolute name."""
    package = ["aiospinach", *path.relative_to(PACKAGE).parts[:-1]]
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = package[: len(package) - child.level + 1] if child.level else []
            full = [*base, *child.module.split(".")] if child.module else base
            yield from (".".join([*full, alias.name]) for alias in child.names)
        else:
            yield from imports_of(child, path)


def files_imported_by(path: Path) -> set[str]:
    """The modules of the package that a file imports itself, what only type checkers read included."""
    found = set()
    for name in imports_of(ast.parse(path.read_text("utf-8")), path):
        if name.split(".")[0] == "aiospinach":
            found.add(name if name in MODULES else name.rpartition(".")[0])
    return found


def ours(path: Path) -> set[str]:
    """The first parts of the modules of the package that a file imports."""
    return {[*name.split("."), "__init__"][1] for name in files_imported_by(path)}


def test_every_module_has_its_place() -> None:
    assert {module_of(path) for path in FILES} == set(RANKS)


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_imports_go_one_way(path: Path) -> None:
    module = module_of(path)
    if module in USERS:
        assert ours(path) <= {"__init__", module, *USERS[module]}
        return
    for target in ours(path) - {module}:
        assert RANKS[target] <= RANKS[module], f"{module} imports {target}, which stands above it"
        assert (module, target) not in FORBIDDEN, f"{module} imports {target}"


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports for type checkers count as well: a file can be read before those that import it."""
    graph = {name: files_imported_by(path) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"a circle: {' -> '.join([*trail[trail.index(name) :], name])}"
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("path", [*FILES, *sorted(PACKAGE.rglob("*.lua"))], ids=shown)
def test_no_file_is_long(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LINES_AT_MOST


def test_the_test_of_imports_sees_them() -> None:
    assert {"arguments", "cron", "validation", "timing", "job"} <= ours(PACKAGE / "task.py")
    pool = files_imported_by(PACKAGE / "workers" / "pool.py")
    assert {"aiospinach.signals.sender", "aiospinach.brokers.base", "aiospinach.workers.runs"} <= pool
    broker = PACKAGE / "brokers" / "memory" / "broker.py"
    assert ours(broker) <= {
        *("brokers", "exceptions", "timing", "validation", "job", "outcome", "forks", "release"),
    }
    assert ours(PACKAGE / "contrib" / "starlette.py") == {"__init__", "contrib"}
    assert ours(PACKAGE / "contrib" / "fastapi.py") == {"__init__"}


@pytest.mark.parametrize("module", sorted(LAYERS[0][1] - {"forks"}))
def test_the_foundation_knows_nothing_above_it(module: str) -> None:
    for path in FILES:
        if module_of(path) == module:
            assert ours(path) <= LAYERS[0][1] - {"forks"}


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_no_framework_is_imported(path: Path) -> None:
    first_parts = {name.split(".")[0] for name in imports_of(ast.parse(path.read_text("utf-8")), path)}
    if module_of(path) != "contrib":
        assert not first_parts & FRAMEWORKS
    if path.relative_to(PACKAGE).parts[:2] != ("brokers", "redis"):
        assert "redis" not in first_parts
    if module_of(path) != "top":
        assert "textual" not in first_parts
    if shown(path) != "dependencies/declarations.py":
        assert "uncalled_for" not in first_parts


@pytest.mark.parametrize(
    "module", [aiospinach, signals, brokers, testing], ids=lambda module: module.__name__
)
def test_the_public_names_are_sorted_and_exist(module: Any) -> None:
    assert module.__all__ == sorted(module.__all__)
    assert len(module.__all__) == len(set(module.__all__))
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_every_name_of_the_package_that_is_not_a_module_is_public() -> None:
    found = {
        name
        for name, value in vars(aiospinach).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert found | {"__version__", "signals"} == set(aiospinach.__all__)


def test_every_exception_is_public_and_of_one_tree() -> None:
    from aiospinach import exceptions

    classes = {
        value
        for value in vars(exceptions).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert {cls.__name__ for cls in classes} <= set(aiospinach.__all__)
    assert all(issubclass(cls, aiospinach.AiospinachError) for cls in classes)
    assert exceptions.__doc__ is not None
    assert [cls.__name__ for cls in classes if cls.__name__ not in exceptions.__doc__] == []


def test_every_signal_is_public() -> None:
    found = {name for name, value in vars(signals).items() if isinstance(value, signals.SafeNamedSignal)}
    assert found | {"ANY", "SafeNamedSignal", "SignalStats"} == set(signals.__all__)
    assert all(getattr(signals, name).name == name for name in found)
    assert all(getattr(signals, name).__doc__ for name in found)


def public_members() -> Iterator[tuple[str, Any]]:
    for module in (aiospinach, signals, testing):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield name, value
            if inspect.isclass(value):
                for member, attribute in vars(value).items():
                    if member.startswith("_"):
                        continue
                    if inspect.isfunction(attribute) or isinstance(
                        attribute, (property, staticmethod, classmethod)
                    ):
                        yield f"{name}.{member}", getattr(value, member)


@pytest.mark.parametrize(
    ("name", "value"), list(public_members()), ids=lambda part: part if isinstance(part, str) else ""
)
def test_everything_public_is_documented(name: str, value: Any) -> None:
    text = value.__doc__ if inspect.isclass(value) else inspect.getdoc(value)
    assert text
    assert text.strip()[0].isupper() or text.strip()[0] in "`'\""
    assert len(text.strip()) > 10


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def run(code: str) -> str:
    """What a fresh interpreter prints that runs this, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_importing_it_installs_no_log_handler_and_changes_no_level() -> None:
    code = """
import logging
before = logging.root.level, list(logging.root.handlers)
import aiospinach, aiospinach.contrib.fastapi, aiospinach.contrib.starlette
assert (logging.root.level, list(logging.root.handlers)) == before
ours = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("aiospinach")]
print(sorted(logger.name for logger in ours))
assert ours
for logger in ours:
    assert not logger.handlers and logger.propagate and not logger.disabled and logger.level == 0
"""
    assert "'aiospinach.signals'" in run(code)


def test_importing_it_imports_no_framework_starts_nothing_and_needs_no_loop() -> None:
    code = f"""
import signal, sys, threading
handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
import aiospinach, aiospinach.contrib.fastapi, aiospinach.contrib.starlette
engine = aiospinach.Engine(aiospinach.MemoryBroker())
@engine.task
async def work(a: int) -> None: ...
assert threading.active_count() == 1
assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
print(sorted(set({sorted(FRAMEWORKS - IMPORTED_BY_REDIS)!r}) & set(sys.modules)))
"""
    assert run(code) == "[]"
