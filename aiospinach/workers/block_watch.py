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
TURNS = 4
"""How often the event loop rings the thread within ``BLOCKED_AFTER`` seconds."""
HAND_OVER_WITHIN = 0.002
"""Seconds for which the event loop waits at most until the thread has heard the ring."""


class BlockWatch:
    """A thread that logs which task blocks the event loop, unless the loop rings in time.

    The loop rings while jobs run, and waits until the thread has heard it, for some 50 microseconds. Without
    this wait, the thread would have to win the interpreter's lock from a busy loop, which gives it away for
    an instant only. The thread would wake a thousand times for one look, and this costs the loop 8 % of its
    time. A thread that is rung in time never has to look.
    """

    def __init__(self, state: PoolState, runs: Runs) -> None:
        self._loop = state.loop
        self._runs = runs
        self._loop_thread = threading.get_ident()
        self._rung = threading.Event()
        self._heard = threading.Event()
        self._has_ended = False
        self._due_at = 0.0
        """When the loop has to ring next, by time.monotonic(). If it does not, it has been blocked since then
        or longer."""
        self._timer: asyncio.TimerHandle | None = None
        """Rings the thread. It is None while no job runs."""
        runs.on_first_start = self._on_first_start
        self._thread = threading.Thread(target=self._work, name=f"aiospinach watch {state.name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End the thread, and wait for it, which takes no time. It also ends if its loop is closed."""
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._rung.set()
        self._thread.join()

    # In the event loop.

    def _on_first_start(self) -> None:
        if self._timer is None and not self._has_ended:
            self._set_timer()

    def _set_timer(self) -> None:
        period = BLOCKED_AFTER / TURNS
        self._due_at = time.monotonic() + period
        self._timer = self._loop.call_later(period, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._runs:
            self._set_timer()
            self._heard.clear()
            self._rung.set()
            self._heard.wait(HAND_OVER_WITHIN)

    # In the thread.

    def _work(self) -> None:
        period = BLOCKED_AFTER / TURNS
        pause, resumed_at, logged = BLOCKED_AFTER, 0.0, -1.0
        while not (self._has_ended or self._loop.is_closed()):
            planned = time.monotonic() + pause
            if self._rung.wait(pause):
                self._rung.clear()
                self._heard.set()
                pause = period + BLOCKED_AFTER
                continue
            now, due_at = time.monotonic(), self._due_at
            if now - planned > BLOCKED_AFTER / 2:
                resumed_at = now  # this thread stood still as well: the process was suspended, perhaps
            since = max(due_at, resumed_at)
            pause = since + BLOCKED_AFTER - now
            if self._timer is None or due_at == logged:
                pause = BLOCKED_AFTER
            elif pause <= 0:
                pause = period
                if self._log_blocker(now - since):
                    logged = due_at

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
