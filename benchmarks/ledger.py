"""The ledger of a worker process: counts how often each job ran, when, and at what cost.

Every library's environment imports this file, so it uses only the standard library.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import resource
import sys
import threading
import time
import zlib
from array import array
from pathlib import Path
from typing import Any

SETTLING = 0.3
"""Seconds to wait after the last job: the library acknowledges it, and a second run of a job shows."""


class Ledger:
    """Counts the runs of jobs 0 to ``size - 1``.

    It reports and ends the process after the ``until``-th run, or after a line on stdin.
    """

    def __init__(self, size: int, *, until: int, times: bool = False) -> None:
        self.runs = bytearray(size)
        self.times: array[float] | None = array("d", [0.0]) * size if times else None
        self._until = until
        self._number = itertools.count(1)  # next() of it is atomic, also between threads
        self._first = (0.0, 0.0)
        self._last: tuple[float, float] | None = None
        self._seen = 0.0
        self._started = time.monotonic()
        self._has_begun = threading.Event()
        self._has_ended = threading.Event()

    def note(self, n: int) -> None:
        """Count a run of job ``n``."""
        self._seen = time.monotonic()
        if self.times is not None:
            self.times[n] = self._seen
        self.runs[n] += 1
        number = next(self._number)
        if number == 1:
            self._first = (self._seen, cpu_seconds())
            self._has_begun.set()
        if number == self._until:
            self._last = (self._seen, cpu_seconds())
            self._has_ended.set()

    def watch(self) -> None:
        """Start the threads that exchange messages with the measuring process."""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._speak, daemon=True).start()

    def _listen(self) -> None:
        sys.stdin.readline()
        self._has_ended.set()

    def _speak(self) -> None:
        self._has_begun.wait()
        send({"began": True})
        self._has_ended.wait()
        time.sleep(SETTLING)
        send(self._report())
        os._exit(0)

    def _report(self) -> dict[str, Any]:
        ended, cpu = self._last or (self._seen, cpu_seconds())
        return {
            "started_at": self._started,
            "began_at": self._first[0],
            "ended_at": ended,
            "seconds": ended - self._first[0],
            "cpu": cpu - self._first[1],
            "ran": next(self._number) - 1,
            "runs": base64.b64encode(zlib.compress(bytes(self.runs), 1)).decode(),
            "times": self.times.tolist() if self.times is not None else None,
            "memory": memory(),
        }


def runs_in(report: dict[str, Any]) -> bytes:
    """How often each job ran, from a report."""
    return zlib.decompress(base64.b64decode(report["runs"]))


def send(message: dict[str, Any]) -> None:
    """Send one line of JSON to the measuring process."""
    print(json.dumps(message), flush=True)


def cpu_seconds() -> float:
    """Processor time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def memory(process: str = "self") -> int:
    """Bytes that a process has in memory; without /proc, the most that this process ever had."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
