"""The command that shows queues and jobs live, in the terminal."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from aiospinach import Engine

from .exits import WELL, WrongUsage, exit_code_of
from .target import Target, ask


def top(
    target: Target | None = None, *, interval: Annotated[float, Parameter(show_default=True)] = 2.0
) -> int:
    """Watch queues, jobs and workers live, and steer jobs, with the keyboard.

    ```console
    aiospinach top shop:engine
    ```

    It needs the extra `top`.

    Parameters
    ----------
    interval
        Seconds between two looks.
    """
    target = target or Target()
    engines: list[Engine] = []

    async def look(engine: Engine) -> None:
        engines.append(engine)

    try:
        run_top = _run_top()
        if not is_on_terminal():
            raise WrongUsage("top needs a terminal: counts and jobs print to files and pipes")
        code = ask(target, look)  # so that a wrong engine, or a store that is away, is a sentence
        if code != WELL:
            return code
        run_top(engines[0], interval=interval)
    except (Exception, KeyboardInterrupt) as error:
        return exit_code_of(error, debug=target.debug)
    return WELL


def is_on_terminal() -> bool:
    """Return whether a person reads the output, and types the input."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _run_top() -> Any:
    """Return the function that shows the view. Raises WrongUsage without the extra."""
    try:
        return importlib.import_module("aiospinach.top").run_top
    except ModuleNotFoundError as error:
        raise WrongUsage(f"top needs more packages ({error.name}): pip install 'aiospinach[top]'") from error
