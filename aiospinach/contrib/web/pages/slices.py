"""Parts of long lists, with the link to the next part in the URL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from aiospinach import InvalidValue

T = TypeVar("T")


class Slice(msgspec.Struct, Generic[T], frozen=True):
    """Some of the rows of a list."""

    rows: Sequence[T]
    total: int
    first: int
    """How many rows come before."""
    before: int | None
    """Where the slice before begins; None if this is the first one."""
    after: int | None
    """Where the next slice begins; None if this is the last one."""


def slice_of(rows: Sequence[T], first: str, size: int) -> Slice[T]:
    """The rows from a number on, as the URL has it. Raises InvalidValue if it is no number."""
    if first and not (first.isascii() and first.isdigit() and len(first) < 10):
        raise InvalidValue("from= in the URL takes a number")
    start = int(first or 0)
    end = start + size
    return Slice(
        rows[start:end],
        len(rows),
        start,
        max(0, start - size) if start else None,
        end if end < len(rows) else None,
    )
