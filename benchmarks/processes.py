"""Processes of the programs that are measured, which send lines of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parent.parent


class Failed(Exception):
    """A program that was measured failed; the message says how."""


class Process:
    """A process that sends lines of JSON; ``with`` ends it."""

    def __init__(self, call: list[str]) -> None:
        self._call = call
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed on exit)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._call,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, AttributeError):
                pipe.close()  # type: ignore[union-attr]

    @property
    def number(self) -> str:
        """As the operating system counts it."""
        return str(self._process.pid)

    def receive(self, within: float = 120.0) -> dict[str, Any]:
        """The next message. Raises Failed if none comes in time, or if the process has ended."""
        deadline = time.monotonic() + within
        try:
            message = self._said.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise Failed(f"message nothing within {within:.0f} s{self._complaint()}") from None
        if message is None:
            raise Failed(f"ended with {self._process.wait()}{self._complaint()}")
        return message

    def ask_for_report(self) -> dict[str, Any]:
        """Have a worker report now, whatever it has done."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write("report\n")
            self._process.stdin.flush()
        while "ran" not in (message := self.receive(20)):
            pass
        return message

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):
            for line in self._process.stdout:
                with contextlib.suppress(json.JSONDecodeError):
                    self._said.put(json.loads(line))
        self._said.put(None)

    def _complaint(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f": {lines[-1][:200]}" if lines else ""


def cpu_seconds_of(number: str) -> float:
    """Processor time that another process has used."""
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
