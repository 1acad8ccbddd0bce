"""Objects that start anew in a forked child: connections, jobs in memory, running workers."""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol
from weakref import WeakSet


class Forgetful(Protocol):
    """An object that must not be used on both sides of a fork."""

    def _forget_parent(self) -> object:
        """Start anew, within the child. Returns the objects that belong to the parent."""


_forgetful: WeakSet[Forgetful] = WeakSet()
_inherited: list[object] = []
"""The parent's objects, kept unused in a child: collecting them would close connections of the parent."""


def forget_in_child(thing: Forgetful) -> None:
    """Have every process that is forked from this one first call ``thing._forget_parent()``."""
    _watch_forks()  # guard: watch forks
    _forgetful.add(thing)


@cache
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):  # Windows has none, and does not fork
        os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    _inherited.extend([thing._forget_parent() for thing in list(_forgetful)])
