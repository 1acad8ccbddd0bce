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
from aiospinach import signals

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "aiospinach"

# Each module may import what stands in the layers before its own, and in its own.
LAYERS: list[tuple[str, set[str]]] = [
    (
        "foundation",
        {
            "exceptions",
            "timing",
            "names",
            "functions",
            "hints",
            "codec",
            "forks",
            "logs",
            "patience",
            "losses",
            "models",
            "rewriting",
            "shapes",
            "zones",
        },
    ),
    ("nouns", {"task", "cron", "job", "batch", "outcome", "redaction"}),
    ("signals", {"signals", "receivers", "faults"}),
    ("brokers", {"brokers"}),
    ("workers", {"workers"}),
    ("engine", {"engine", "entries", "registry", "producer", "execution", "dead_jobs", "duplicates"}),
    ("face", {"__init__", "testing"}),
    ("contrib", {"contrib"}),
]
RANKS = {module: rank for rank, (_, modules) in enumerate(LAYERS) for module in modules}
# Brokers stand beside the signals, not above them: a store sends none.
FORBIDDEN = {("brokers", "signals")}
FRAMEWORKS = {"starlette", "fastapi", "pydantic", "uvloop", "attr", "attrs"}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """The first part of the module's name within the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports_of(node: ast.AST, path: Path) -> Iterator[str]:
    """Every module that this one imports when it runs, wherever the import stands, as an absolute name."""
    package = ["aiospinach", *path.relative_to(PACKAGE).parts[:-1]]
    for child in ast.iter_child_nodes(node):
        if is_for_type_checkers(child):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = package[: len(package) - child.level + 1] if child.level else []
            full = [*base, *child.module.split(".")] if child.module else base
            yield from (".".join([*full, alias.name]) for alias in child.names)
        else:
            yield from imports_of(child, path)


def ours(path: Path) -> set[str]:
    """The first parts of the modules of the package that a file imports."""
    found = set()
    for name in imports_of(ast.parse(path.read_text()), path):
        parts = name.split(".")
        if parts[0] == "aiospinach":
            target = parts[1] if len(parts) > 1 else "__init__"
            is_module = (PACKAGE / target).is_dir() or (PACKAGE / f"{target}.py").is_file()
            found.add(target if is_module else "__init__")
    return found


def test_every_module_has_its_place() -> None:
    assert {module_of(path) for path in FILES} <= set(RANKS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    module = module_of(path)
    if module == "contrib":
        assert ours(path) <= {"__init__", "signals", "contrib"}
        return
    for target in ours(path) - {module}:
        assert RANKS[target] <= RANKS[module], f"{module} imports {target}, which stands above it"
        assert (module, target) not in FORBIDDEN, f"{module} imports {target}"


def test_the_test_of_imports_sees_them() -> None:
    assert {"codec", "cron", "names", "timing"} <= ours(PACKAGE / "task.py")
    assert "job" not in ours(PACKAGE / "exceptions.py")  # for type checkers only
    assert {"signals", "brokers", "task"} <= ours(PACKAGE / "workers" / "pool.py")
    memory = {"brokers", "exceptions", "timing", "job", "outcome", "forks"}
    assert ours(PACKAGE / "brokers" / "memory.py") <= memory
    assert ours(PACKAGE / "contrib" / "starlette.py") == {"__init__"}


@pytest.mark.parametrize("module", sorted(LAYERS[0][1] - {"forks"}))
def test_the_foundation_knows_nothing_above_it(module: str) -> None:
    assert ours(PACKAGE / f"{module}.py") <= LAYERS[0][1] - {"forks"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_framework_is_imported(path: Path) -> None:
    foreign = FRAMEWORKS if module_of(path) == "brokers" else FRAMEWORKS | {"redis"}
    first_parts = {name.split(".")[0] for name in imports_of(ast.parse(path.read_text()), path)}
    if module_of(path) != "contrib":
        assert not first_parts & foreign


@pytest.mark.parametrize("module", [aiospinach, signals], ids=lambda module: module.__name__)
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
    assert found | {"ANY", "SafeNamedSignal"} == set(signals.__all__)
    assert all(getattr(signals, name).name == name for name in found)
    assert all(getattr(signals, name).__doc__ for name in found)


def public_members() -> Iterator[tuple[str, Any]]:
    for module in (aiospinach, signals):
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
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
import aiospinach, aiospinach.contrib.starlette
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
import aiospinach, aiospinach.contrib.starlette
engine = aiospinach.Engine(aiospinach.MemoryBroker())
@engine.task
async def work(a: int) -> None: ...
assert threading.active_count() == 1
assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
print(sorted(set({sorted(FRAMEWORKS)!r}) & set(sys.modules)))
"""
    assert run(code) == "[]"
