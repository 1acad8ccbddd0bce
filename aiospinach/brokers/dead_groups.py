"""Dead jobs counted by their task and error."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .questions import Question

COUNTED_AT_ONCE = 1000
"""How many dead jobs a page looks at."""


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
    position: str | None
    """Where the next page begins; None if this is the last one."""


class LookDeadGroups(Question[DeadGroupPage], frozen=True):
    """Which tasks and errors do dead jobs have, and how many each? The latest jobs come first.

    Jobs that die or are requeued between two pages are in none of them, or in one.
    """

    position: str = ""
    """Where the page begins; empty: with the latest job."""
    limit: int = COUNTED_AT_ONCE
    """How many jobs the page looks at, at most; it looks at fewer if they are large."""
