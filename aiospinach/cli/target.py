"""The engine that a command is about: of a program, or made of a URL and a namespace."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from cyclopts import Group, Parameter

from aiospinach import Engine, MemoryBroker

from .exits import WELL, WrongUsage, exit_code_of, say

ENGINE_VARIABLE = "AIOSPINACH_ENGINE"
URL_VARIABLE = "AIOSPINACH_URL"
ENGINES = Group("Engine", sort_key=2)


@Parameter(name="*", group=ENGINES)
@dataclass(frozen=True)
class Target:
    """Names the engine of a command."""

    engine: Annotated[str | None, Parameter(name="--engine")] = None
    """The engine of a program, as module:attribute: shop:engine. The module is found in the current directory
    as well. By default that of $AIOSPINACH_ENGINE."""
    url: Annotated[str | None, Parameter(name="--url")] = field(default=None, kw_only=True)
    """The URL of the store, instead of an engine: no code is needed. By default that of $AIOSPINACH_URL,
    which other users of the machine cannot see."""
    namespace: Annotated[str | None, Parameter(name="--namespace")] = field(default=None, kw_only=True)
    """The namespace of the jobs, with a URL. By default aiospinach, as that of an engine."""
    debug: Annotated[bool, Parameter(name="--debug", negative="")] = field(default=False, kw_only=True)
    """Print the traceback of an error."""

    def find(self) -> Engine:
        """Return the engine. Raises WrongUsage, InvalidValue or what the import of the module raises."""
        if self.engine is not None and self.url is not None:
            raise WrongUsage("give an engine or --url, not both")
        if self.url is not None:
            return engine_on(self.url, self.namespace)
        name = self.engine or os.environ.get(ENGINE_VARIABLE)
        if name is None and (url := os.environ.get(URL_VARIABLE)):
            return engine_on(url, self.namespace)
        if name is None:
            raise WrongUsage(
                f"name the engine, as in shop:engine or in ${ENGINE_VARIABLE}; or give --url redis://host:6379/0"
                " --namespace shop"
            )
        if self.namespace is not None:
            raise WrongUsage("--namespace goes with --url: an engine of a program has its own namespace")
        return import_engine(name)


def engine_on(url: str, namespace: str | None) -> Engine:
    """Return an engine without tasks on a store. Raises InvalidValue or WrongUsage."""
    from aiospinach import RedisBroker

    if url.startswith("memory:"):
        raise WrongUsage("jobs in memory are known to the process alone that has them: --url needs a Redis")
    broker = RedisBroker(url)
    return Engine(broker) if namespace is None else Engine(broker, namespace)


def name_of_program(target: Target | None, what: str) -> str:
    """Return the ``module:attribute`` of a command that needs the code, such as "a worker". Raises
    WrongUsage."""
    name = (target.engine if target is not None else None) or os.environ.get(ENGINE_VARIABLE)
    if name is None or (target is not None and target.url is not None):
        raise WrongUsage(f"{what} needs the program that has the tasks: name its engine, as in shop:engine")
    return name


def split_name(name: str) -> tuple[str, str]:
    """Return the module and the attribute of ``module:attribute``. Raises WrongUsage."""
    if "://" in name:  # it may have a password
        raise WrongUsage("an engine is named as module:attribute: give the URL of a store with --url")
    module_name, colon, path = name.partition(":")
    if not (colon and module_name and path):
        raise WrongUsage(f"{name!r} names no engine: give module:attribute, as in shop:engine")
    return module_name, path


def import_engine(name: str) -> Engine:
    """Return the engine ``module:attribute``. Raises WrongUsage."""
    module_name, path = split_name(name)
    found: Any = _import(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise WrongUsage(f"{module_name} has no {path}: name the variable that has the Engine")
        found = getattr(found, part)
    if not isinstance(found, Engine):
        raise WrongUsage(
            f"{name} is of the type {type(found).__name__}: name the variable that has the Engine"
        )
    return found


def find_modules_here() -> None:
    """Let modules of the current directory be imported."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)


def no_module(name: str) -> WrongUsage:
    """Return the error about a module that there is not."""
    return WrongUsage(
        f"there is no module {name}: run the command in the folder that has it, or set PYTHONPATH"
    )


def _import(name: str) -> Any:
    find_modules_here()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise no_module(error.name) from error
        raise WrongUsage(_failed_import(name, error)) from error
    except (Exception, SystemExit) as error:
        raise WrongUsage(_failed_import(name, error)) from error


def _failed_import(name: str, error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        where = ""  # its text has the place
    return f"the import of {name} raises {type(error).__name__}: {error}{where}"


def ask(
    target: Target | None, call: Callable[[Engine], Awaitable[int | None]], *, needs_queue: bool = True
) -> int:
    """Call with the engine of a target, which knows all queues of its namespace. Returns the exit code.

    Errors become sentences, and so does a namespace without a queue, unless the call does without. Without a
    code of its own, the call ended well.
    """
    target = target or Target()

    async def within() -> int:
        async with engine:
            if not (await engine.find_queues() or engine._tasks.by_name) and needs_queue:
                say(f"the store has no queue of the namespace {engine.namespace!r}: is that its name?")
            code = await call(engine)
        return WELL if code is None else code

    try:
        engine = target.find()
        if isinstance(engine._broker, MemoryBroker):
            raise WrongUsage(
                "the engine has its jobs in the memory of each process: this command sees those of none, and"
                " needs an engine with a RedisBroker"
            )
        return asyncio.run(within())
    except (Exception, KeyboardInterrupt) as error:
        return exit_code_of(error, debug=target.debug)
