"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(
    condition: Callable[[], object],
    what: str = "the condition",
    *,
    timeout: float = 10.0,
    show: Callable[[], object] | None = None,
) -> None:
    """Return when the condition is true; fail after ``timeout`` seconds, with ``what`` in the message."""
    deadline, pause = time.monotonic() + timeout, 0.001
    while not condition():
        if time.monotonic() > deadline:
            seen = f": {show()}" if show is not None else ""
            raise AssertionError(f"{what} did not come true in {timeout:g} s{seen}")
        await asyncio.sleep(pause)
        pause = min(1.2 * pause, 0.02)  # a condition may ask a server, and others need the processor
