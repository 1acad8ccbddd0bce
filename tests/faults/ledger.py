"""What the bodies of jobs did, in a file beside the store that is being broken."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """One line: ``kind`` is start or end of a body, finished (the signal), up or down of a worker."""

    kind: str
    key: str
    pid: int
    at: float
    """By time.monotonic(), which all processes of a machine share."""
    note: str


class Ledger:
    """Lines are appended whole by any number of processes, and survive those that are killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

    def write(self, kind: str, key: str, note: str = "-") -> None:
        """Append a line; the words hold no blanks."""
        os.write(self._file, f"{kind} {key} {os.getpid()} {time.monotonic():.6f} {note}\n".encode())

    def read(self) -> list[Entry]:
        """All whole lines, in the order in which they were written; the last one may be half there yet."""
        entries = []
        for line in self.path.read_text().split("\n")[:-1]:
            kind, key, pid, at, note = line.split(" ")
            entries.append(Entry(kind, key, int(pid), float(at), note))
        return entries

    def of(self, kind: str, key: str = "", *, pid: int | None = None) -> list[Entry]:
        """The lines of a kind, whose key begins so, of one process or of all."""
        return [
            entry
            for entry in self.read()
            if entry.kind == kind and entry.key.startswith(key) and pid in (None, entry.pid)
        ]

    def of_task(self, key: str) -> list[Entry]:
        """The lines whose key begins so."""
        return [entry for entry in self.read() if entry.key.startswith(key)]

    def counted(self, kind: str, key: str = "", *, pid: int | None = None) -> Counter[str]:
        """How many lines of a kind each key has."""
        return Counter(entry.key for entry in self.of(kind, key, pid=pid))

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)


def most_at_once(entries: Iterable[Entry], *, gone: Mapping[int, float]) -> int:
    """How many bodies ran at the same time at most.

    A process of ``gone`` stood still from the time given on: what it ran then is others' from there.
    """
    changes: list[tuple[float, int]] = []
    running: dict[tuple[str, int], float] = {}
    for entry in entries:
        place = entry.key, entry.pid
        if entry.kind == "start":
            running[place] = entry.at
        elif entry.kind in ("end", "cancelled") and place in running:
            began = running.pop(place)
            stood_still = gone.get(entry.pid, began)
            changes += [(began, 1), (stood_still if began < stood_still < entry.at else entry.at, -1)]
    for (_, pid), at in running.items():
        changes += [(at, 1), (gone.get(pid, float("inf")), -1)]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most
