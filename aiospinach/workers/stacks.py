"""Stacks of running bodies: where a body waits, from the function of the task to the innermost call."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any

from ..job import running_job
from .run import Run
from .threads import Threads

PACKAGE = str(Path(__file__).parent.parent)
FRAMES_AT_MOST = 200
Places = list[tuple[FrameType, int]]
"""Frames, each with the number of the line that it is at."""


def stack_of_run(run: Run, threads: Threads) -> list[str]:
    """Return a line ``file:line function`` for each frame of the body of a run, the outermost first.

    The list is empty if the body does not run at this moment, or waits for a thread. Arguments are not shown.
    """
    if not run.body.is_running:
        return []
    if run.body.is_async:
        return lines_of(stack_of_coroutine(run.task.get_coro()))
    return lines_of(_stack_in_thread(run, threads))


def stack_of_coroutine(awaitable: object) -> Places:
    """Return the frames of a suspended coroutine, and of all that it waits for, the outermost first."""
    return [(frame, frame.f_lineno or 0) for frame in _awaited_frames(awaitable)]


def _awaited_frames(awaitable: object) -> Iterator[FrameType]:
    seen: set[int] = set()
    while awaitable is not None and id(awaitable) not in seen and len(seen) < sys.getrecursionlimit():
        seen.add(id(awaitable))
        frame, awaitable = _step(awaitable)
        if frame is not None:
            yield frame


def _step(awaitable: Any) -> tuple[FrameType | None, object]:
    """Return the frame of an awaitable, if it has one, and what it waits for."""
    if isinstance(awaitable, asyncio.Task):
        return None, awaitable.get_coro()
    for prefix in ("cr", "gi", "ag"):
        if hasattr(awaitable, f"{prefix}_frame"):
            awaited = "gi_yieldfrom" if prefix == "gi" else f"{prefix}_await"
            return getattr(awaitable, f"{prefix}_frame"), getattr(awaitable, awaited, None)
    return None, _wrapped(awaitable)


def _wrapped(awaitable: object) -> object:
    """Return what an iterator of the interpreter waits for: it has no attribute that names it.

    Such are a step of an async generator, ``__await__`` of a coroutine, and a wait for an asyncio task.
    """
    if type(awaitable).__module__ not in ("builtins", "_asyncio"):
        return None
    for referent in gc.get_referents(awaitable):
        if isinstance(referent, (CoroutineType, AsyncGeneratorType, GeneratorType, asyncio.Task)):
            return referent
    return None


def _stack_in_thread(run: Run, threads: Threads) -> Places:
    """Return the frames of the thread that runs the function of a run."""
    frames = sys._current_frames()
    for ident in threads.idents():
        inner = frames.get(ident)
        if inner is not None:
            stack = [(frame, frame.f_lineno or 0) for frame in _outer_frames(inner)][::-1]
            for place, (frame, _) in enumerate(stack):
                context = threads.context_in(frame)
                if context is not None and context.get(running_job) is run.job:
                    return stack[place:]
    return []


def _outer_frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def lines_of(stack: Places) -> list[str]:
    """Return a line for each frame, from the first that is not of this package."""
    lines = [
        f"{frame.f_code.co_filename}:{line} {frame.f_code.co_qualname}"
        for frame, line in _without_first_of_package(stack)
    ]
    left_out = len(lines) - FRAMES_AT_MOST
    if left_out > 0:
        half = FRAMES_AT_MOST // 2
        lines[half : half + left_out] = [f"... {left_out} frames"]
    return lines


def _without_first_of_package(stack: Places) -> Sequence[tuple[FrameType, int]]:
    for place, (frame, _) in enumerate(stack):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return stack[place:]
    return []
