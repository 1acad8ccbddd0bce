"""A mapping that forgets its entries after a while."""

from __future__ import annotations

from typing import Generic, TypeVar

from ..base import REMEMBERED_FOR

V = TypeVar("V")


class Recent(Generic[V]):
    """Remembers entries for ten to twenty minutes.

    There are two tables. Every ten minutes the older one is dropped, and a new one takes later entries.
    """

    def __init__(self) -> None:
        self._window = -1
        self._tables: tuple[dict[str, V], dict[str, V]] = ({}, {})

    def get(self, key: str, now: int) -> V | None:
        self._turn(now)
        newer, older = self._tables
        return newer.get(key, older.get(key))

    def put(self, key: str, value: V, now: int) -> None:
        self._turn(now)
        self._tables[0][key] = value

    def forget(self, key: str) -> None:
        """Remove an entry, if there is one."""
        for table in self._tables:
            table.pop(key, None)

    def _turn(self, now: int) -> None:
        window = max(now // int(REMEMBERED_FOR * 1000), self._window)  # the clock may be set back
        if window == self._window + 1:
            self._tables = ({}, self._tables[0])
        elif window != self._window:
            self._tables = ({}, {})
        self._window = window
