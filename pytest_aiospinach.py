"""The plugin of aiospinach for pytest: the fixture ``jobs``.

It stands outside of the package, which it imports only for a test that uses the fixture: pytest loads it in
each environment in which aiospinach is installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aiospinach.testing import Jobs

OPTION = "aiospinach_engine"
REMEDY = (
    f'set {OPTION} = "shop.jobs:engine" under [tool.pytest.ini_options] in pyproject.toml, or in pytest.ini'
    f" without the quotes; or define a fixture {OPTION} in conftest.py that returns the engine"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the engine."""
    parser.addini(OPTION, "The engine of the fixture jobs, as in shop.jobs:engine")


@pytest.fixture
def aiospinach_engine(pytestconfig: pytest.Config) -> Any:
    """The engine whose jobs a test runs; a fixture of the same name in conftest.py replaces this one."""
    name = pytestconfig.getini(OPTION)
    if not name:
        raise pytest.UsageError(f"the fixture jobs does not know the engine of the application: {REMEDY}")
    return _engine_of(name)


@pytest.fixture
def jobs(aiospinach_engine: Any) -> Iterator[Jobs]:
    """The jobs of the application, in memory and run by the clock of the test: ``testing.memory(engine)``."""
    from aiospinach import testing

    with testing.memory(aiospinach_engine) as jobs:
        yield jobs


def _engine_of(name: str) -> Any:
    """Import the engine that is named as in ``shop.jobs:engine``."""
    module, _, path = name.partition(":")
    if not (module and path):
        raise pytest.UsageError(f"{OPTION} = {name!r} names no module and its engine: {REMEDY}")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise pytest.UsageError(
            f"{OPTION} = {name!r} cannot be imported ({error}): check the name, and whether pytest finds the"
            ' module: pythonpath = ["."] adds the folder of pyproject.toml'
        ) from error
    return found
