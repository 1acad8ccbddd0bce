"""Naming the body that blocks the event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from types import FrameType

from ..logs import Log
from .run import Run
from .runs import Runs
from .state import PoolState

logger: Log = Log("aiospinach")

BLOCKED_AFTER = 1.0
"""Seconds in which the event loop does not turn, and something is said of it."""
LOOKS = 4
"""How often the watch looks within that time."""


class BlockWatch:
    """A thread that asks the event loop for a sign of life while jobs run.

    A loop that gives none is within a task that does not await. What that task does is read from its frames.
    """

    def __init__(self, state: PoolState, runs: Runs) -> None:
        self._loop = state.loop
        self._runs = runs
        self._loop_thread = threading.get_ident()
        self._ended = threading.Event()
        self._has_answered = True
        """The event loop has answered the last question; only this passes between the two threads."""
        self._thread = threading.Thread(target=self._work, name=f"aiospinach watch {state.name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Have the thread end, and wait for it, which takes no time."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        period = BLOCKED_AFTER / LOOKS
        looked_at = asked_at = time.monotonic()
        is_logged = False
        while not self._ended.wait(period):
            now = time.monotonic()
            stood_still, looked_at = now - looked_at > 2 * period, now  # as the whole process may have
            if self._has_answered:
                if self._runs:
                    asked_at, is_logged = now, False
                    self._ask()
            elif stood_still:
                asked_at = now
            elif now - asked_at >= BLOCKED_AFTER and not is_logged:
                is_logged = self._log_blocker(now - asked_at)

    def _ask(self) -> None:
        self._has_answered = False
        try:
            self._loop.call_soon_threadsafe(self._on_answer)
        except RuntimeError:  # the event loop has ended
            self._ended.set()

    def _on_answer(self) -> None:
        self._has_answered = True

    def _log_blocker(self, seconds: float) -> bool:
        """Log which task blocks the event loop; returns False if none does at this moment."""
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._loop_thread)
        if task is None or frame is None:
            return False
        run = next((run for run in list(self._runs) if run.task is task), None)
        logger.warning(
            "%s has blocked the event loop for %.1f s, %s: it should await, or be a plain function",
            f"job {run.summary}" if run is not None else f"task {task.get_name()}",
            seconds,
            _place_of(frame, run),
            fields=None if run is None else run.fields,
        )
        return True


def _place_of(frame: FrameType, run: Run | None) -> str:
    """Where the body is, and where it has got to from there."""
    at = _line_of(frame)
    body = run.code if run is not None else None
    outer: FrameType | None = frame
    while outer is not None:
        if outer.f_code is body and outer is not frame:
            return f"at {_line_of(outer)}, in {at}"
        outer = outer.f_back
    return f"at {at}"


def _line_of(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
