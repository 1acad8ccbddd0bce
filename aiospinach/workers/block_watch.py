"""The block watch: a thread that logs which task blocks the event loop, and at which line."""

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
"""Seconds after which an event loop that does not turn is logged."""
LOOKS = 4
"""The number of looks within ``BLOCKED_AFTER`` seconds."""


class BlockWatch:
    """A thread that calls back into the event loop again and again while jobs run.

    If the callback does not run in time, the current task of the loop does not await. The log names the line
    that this task has reached.
    """

    def __init__(self, state: PoolState, runs: Runs) -> None:
        self._loop = state.loop
        self._runs = runs
        self._loop_thread = threading.get_ident()
        self._ended = threading.Event()
        self._has_answered = True
        """The last callback has run. Only this attribute is shared by the two threads."""
        self._thread = threading.Thread(target=self._work, name=f"aiospinach watch {state.name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End the thread, and wait for it, which takes no time."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        period = BLOCKED_AFTER / LOOKS
        looked_at = asked_at = time.monotonic()
        is_logged = False
        while not self._ended.wait(period):
            now = time.monotonic()
            stood_still, looked_at = now - looked_at > 2 * period, now  # the process was suspended, perhaps
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
        """Log which task blocks the event loop. Returns False if no task runs at this moment."""
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._loop_thread)
        if task is None or frame is None:
            return False
        run = next((run for run in list(self._runs) if run.task is task), None)
        logger.warning(
            "%s has blocked the event loop for %.1f s, %s: have it await, or make it a plain function",
            f"job {run.summary}" if run is not None else f"task {task.get_name()}",
            seconds,
            _place_of(frame, run),
            fields=None if run is None else run.fields,
        )
        return True


def _place_of(frame: FrameType, run: Run | None) -> str:
    """The line of the body, and the line of the innermost call within it."""
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
