"""Starts the worker process anew when a file of the program changes."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from .supervisor import Supervisor

logger: logging.Logger = logging.getLogger("aiospinach.cli")

DEBOUNCE = 200
"""Milliseconds in which changes count as one: editors and checkouts write several files."""
STEP = 50


async def reload_on_changes(supervisor: Supervisor) -> None:
    """Watch the Python files of the current directory until the supervisor stops."""
    from watchfiles import PythonFilter, awatch

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it counts changes, which we name
    stopped = asyncio.Event()

    async def note_stop() -> None:
        await supervisor.stopped()
        stopped.set()

    noting = asyncio.create_task(note_stop())
    try:
        here = Path.cwd()
        async for changes in awatch(
            here, watch_filter=PythonFilter(), debounce=DEBOUNCE, step=STEP, stop_event=stopped
        ):
            names = sorted({Path(path).name for _, path in changes})
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            logger.warning(
                "%s%s changed: running jobs may finish, and then workers start anew", names[0], others
            )
            supervisor.restart()
    finally:
        noting.cancel()
