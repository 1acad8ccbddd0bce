"""What a forked child does not take over from its parent: connections, jobs in memory, running workers."""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol
from weakref import WeakSet


class Forgetful(Protocol):
    """Something that must not be used on both sides of a fork."""

    def _forget_parent(self) -> object:
        """Start anew, within the child; returns what belongs to the parent."""


_forgetful: WeakSet[Forgetful] = WeakSet()
_inherited: list[object] = []
"""Kept unused in a child: collecting it would close, or complain about, what the parent still uses."""


def forget_in_child(thing: Forgetful) -> None:
    """Have every process that is forked from this one call ``thing._forget_parent()`` first."""
    _watch_forks()  # guard: watch forks
    _forgetful.add(thing)


@cache
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):  # where there is none, nothing forks
        os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    _inherited.extend([thing._forget_parent() for thing in list(_forgetful)])
