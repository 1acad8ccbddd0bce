"""A scope for code that was cancelled and still has to wait."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import anyio


def shielded_if(was_cancelled: bool) -> AbstractContextManager[object]:
    """A context to wait in; after a cancellation, one that anyio's cancelled scopes do not reach.

    A cancelled scope of anyio cancels its tasks again in each turn of the event loop, and would keep a
    processor busy. ``task.cancel()`` still cancels the wait.
    """
    return anyio.CancelScope(shield=True) if was_cancelled else contextlib.nullcontext()
