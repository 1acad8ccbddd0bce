"""The terminal view: queues, jobs and workers, and keys that steer them. It needs the extra ``top``."""

from __future__ import annotations

import asyncio

from aiospinach import Engine

try:
    from .app import TopApp, show
except ModuleNotFoundError as _error:
    if _error.name is None or _error.name.partition(".")[0] not in ("textual", "rich"):
        raise
    raise ModuleNotFoundError(
        "aiospinach.top needs Textual: pip install 'aiospinach[top]'", name=_error.name
    ) from _error

__all__ = ["TopApp", "run_top"]


def run_top(engine: Engine, *, interval: float = 2.0) -> None:
    """Show the queues of an engine in the terminal until the user quits.

    ``interval`` is the time between two looks in seconds, from 0.1 to 3600. A store that is away does not end
    the view. Raises InvalidValue. It starts an event loop of its own, and cannot be called within one.
    """
    app = TopApp(engine, interval=interval)
    asyncio.run(show(app, engine))
