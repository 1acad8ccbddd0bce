"""The plugin for pytest: a fixture that is there for those that ask for it, and costs others nothing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_aiospinach

ROOT = Path(__file__).parent.parent.parent

APP = """
from aiospinach import Engine, MemoryBroker

engine = Engine(MemoryBroker(), "shop")
done = []


@engine.task(max_retries=3)
async def welcome(name: str) -> str:
    done.append(name)
    return name
"""
ASYNC_TEST = """
from shop import done, engine, welcome
from aiospinach import MemoryBroker


{mark}
async def test_one(jobs):
    assert not done
    assert type(engine._broker) is not MemoryBroker
    await welcome.schedule("ann")
    jobs.assert_scheduled(welcome, "ann", count=1)
    assert await jobs.drain() == 1
    assert await jobs.repeat(welcome, "bob") == ("bob", "bob")
    assert await jobs.advance(days=1) == 0
    assert done == ["ann", "bob", "bob"]
    done.clear()


{mark}
async def test_another(jobs):
    assert jobs.scheduled == []
    await welcome.schedule("eve")


def test_without():
    assert type(engine._broker) is MemoryBroker
"""
SYNC_TEST = """
from shop import done, engine, welcome

def test_plain(jobs):
    with engine.blocking as blocking:
        blocking.schedule(welcome, "ann")
    jobs.assert_scheduled(welcome, "ann")
    assert jobs.blocking.drain() == 1
    assert done == ["ann"]
"""
FILTERS = [
    "filterwarnings =",
    "    error",
    "    ignore:The configuration option .asyncio_default_fixture_loop_scope. is unset",
]


def is_installed() -> bool:
    """The package of the checkout is installed with its entry points, so that pytest loads the plugin."""
    return bool(importlib.metadata.entry_points(group="pytest11", name="aiospinach"))


class Project:
    """A project with tests of its own, which another pytest runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("shop.py", APP)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def configure(self, *lines: str) -> None:
        self.write("pytest.ini", "\n".join(["[pytest]", "pythonpath = .", *FILTERS, *lines]))

    def run(self, *arguments: str, code: int = 0) -> str:
        """What pytest prints, which must end with this code."""
        loaded = [] if is_installed() else ["-p", "pytest_aiospinach"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *loaded, *arguments],
            cwd=self.folder,
            env={**environment, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_package_has_the_plugin_as_an_entry_point() -> None:
    assert 'pytest11]\naiospinach = "pytest_aiospinach"\n' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("option", "mark"),
    [
        ("asyncio_mode = auto", ""),
        ("asyncio_mode = strict", "@pytest.mark.asyncio"),
        ("addopts = -p no:asyncio", "@pytest.mark.anyio"),
    ],
    ids=["asyncio-auto", "asyncio-strict", "anyio"],
)
def test_it_works_with_each_plugin_for_async_tests(project: Project, option: str, mark: str) -> None:
    project.configure("aiospinach_engine = shop:engine", option)
    project.write(
        "conftest.py", 'import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return "asyncio"\n'
    )
    project.write("test_shop.py", f"import pytest\n{ASYNC_TEST.format(mark=mark)}")
    assert "3 passed" in project.run()


def test_it_needs_no_plugin_for_async_tests_and_works_with_xdist(project: Project) -> None:
    project.configure("aiospinach_engine = shop:engine")
    project.write("test_shop.py", SYNC_TEST)
    assert "1 passed" in project.run("-p", "no:asyncio", "-p", "no:anyio", "-n", "1")


def test_a_fixture_may_make_the_engine(project: Project) -> None:
    project.configure()
    project.write(
        "conftest.py",
        "import pytest, shop\n\n"
        "@pytest.fixture(scope='session')\n"
        "def aiospinach_engine():\n"
        "    return shop.engine\n",
    )
    project.write("test_shop.py", SYNC_TEST)
    assert "1 passed" in project.run()


def test_loaded_and_unused_it_imports_nothing_of_the_package(project: Project) -> None:
    project.configure()
    project.write(
        "test_shop.py",
        "import sys\n\n"
        "def test_unused(request):\n"
        "    assert 'pytest_aiospinach' in sys.modules\n"
        "    assert 'aiospinach' not in sys.modules\n"
        "    assert not {'jobs', 'aiospinach_engine'} & set(request.fixturenames)\n",
    )
    assert "1 passed" in project.run()


def test_the_package_never_imports_pytest() -> None:
    code = "import sys, aiospinach.testing; assert not {'pytest', '_pytest'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=50)


def test_an_engine_that_is_not_named_is_an_error_that_helps(project: Project) -> None:
    project.configure()
    project.write("test_shop.py", SYNC_TEST)
    assert "does not know the engine of the application: set aiospinach_engine" in project.run(code=1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("json", "aiospinach_engine = 'json' names no module and its engine: set"),
        ("json:engine", "'json:engine' cannot be imported (module 'json' has no attribute 'engine'): check"),
        ("no_shop:engine", "cannot be imported (No module named 'no_shop'): check the name"),
    ],
)
def test_a_name_that_leads_nowhere_is_an_error_that_helps(name: str, message: str) -> None:
    with pytest.raises(pytest.UsageError, match=re.escape(message)):
        pytest_aiospinach._engine_of(name)


def test_a_name_may_lead_to_an_attribute_of_an_attribute() -> None:
    assert pytest_aiospinach._engine_of("json:decoder.JSONDecoder") is json.JSONDecoder
