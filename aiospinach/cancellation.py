"""Waiting on after a cancellation."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import anyio


def shielded_if(was_cancelled: bool) -> AbstractContextManager[object]:
    """What to wait within, if one must wait on although one was cancelled.

    A cancelled scope of anyio cancels its tasks again in each turn of the event loop, and would keep a
    processor busy. ``task.cancel()`` still reaches who waits.
    """
    return anyio.CancelScope(shield=True) if was_cancelled else contextlib.nullcontext()
