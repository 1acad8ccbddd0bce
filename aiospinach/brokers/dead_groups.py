"""Dead jobs counted by their task and error."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .questions import Question


class DeadGroupRow(msgspec.Struct, frozen=True, gc=False):
    """Dead jobs of one page that have the same task and the same error."""

    task: str
    """Empty if the jobs cannot be read."""
    error: str
    """The class of the error, with its module; empty if it is not known."""
    count: int
    latest_at: int
    """When the latest of them died, in milliseconds since 1970."""
    latest_id: str


class DeadGroupPage(msgspec.Struct, frozen=True):
    """The groups of some dead jobs. A group may have rows in several pages."""

    rows: Sequence[DeadGroupRow]
    offset: int | None
    """How many jobs the next page leaves out; None if this is the last one."""


class LookDeadGroups(Question[DeadGroupPage], frozen=True):
    """Which tasks and errors do dead jobs have, and how many each? The latest jobs come first.

    A page looks at a thousand jobs at most, and at fewer if they are large.
    """

    offset: int = 0
