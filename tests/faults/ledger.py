"""A record of what the bodies of jobs did, in a file that is independent of the store."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """A line. Kinds: start, end or cancelled (of a body), finished (the signal), up or down (of a worker)."""

    kind: str
    key: str
    pid: int
    at: float
    """By time.monotonic(), which all processes of a machine share."""
    note: str


class Ledger:
    """A file to which any number of processes append whole lines, which survive kills."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

    def write(self, kind: str, key: str, note: str = "-") -> None:
        """Append a line; the arguments contain no spaces."""
        os.write(self._file, f"{kind} {key} {os.getpid()} {time.monotonic():.6f} {note}\n".encode())

    def read(self) -> list[Entry]:
        """All complete lines in the order of writing; the last line may be incomplete."""
        entries = []
        for line in self.path.read_text().split("\n")[:-1]:
            kind, key, pid, at, note = line.split(" ")
            entries.append(Entry(kind, key, int(pid), float(at), note))
        return entries

    def of(self, kind: str, key: str = "", *, pid: int | None = None) -> list[Entry]:
        """The lines of a kind whose key starts with ``key``, of one process or all."""
        return [
            entry
            for entry in self.read()
            if entry.kind == kind and entry.key.startswith(key) and pid in (None, entry.pid)
        ]

    def of_task(self, key: str) -> list[Entry]:
        """The lines whose key starts with ``key``."""
        return [entry for entry in self.read() if entry.key.startswith(key)]

    def counted(self, kind: str, key: str = "", *, pid: int | None = None) -> Counter[str]:
        """The number of lines of a kind by key."""
        return Counter(entry.key for entry in self.of(kind, key, pid=pid))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def most_at_once(entries: Iterable[Entry], *, stopped_at: Mapping[int, float]) -> int:
    """The maximum number of bodies that ran at the same time.

    ``stopped_at`` are the times at which processes were killed or suspended; their bodies count until then.
    """
    changes: list[tuple[float, int]] = []
    running: dict[tuple[str, int], float] = {}
    for entry in entries:
        run = entry.key, entry.pid
        if entry.kind == "start":
            running[run] = entry.at
        elif entry.kind in ("end", "cancelled") and run in running:
            began = running.pop(run)
            process_stopped = stopped_at.get(entry.pid, began)
            changes += [(began, 1), (process_stopped if began < process_stopped < entry.at else entry.at, -1)]
    for (_, pid), at in running.items():
        changes += [(at, 1), (stopped_at.get(pid, float("inf")), -1)]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most
