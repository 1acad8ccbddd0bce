"""The results of all measurements and their conditions, kept as JSON; the report is drawn from them."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from .environments import LIBRARIES


@dataclass
class Record:
    """All runs of one case; a run is the figures of it, by name."""

    benchmark: str
    variant: str
    library: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True)
class Figure:
    """One figure of a case, in all of its runs."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def jitter(self) -> float:
        """From the least to the greatest, as a part of the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0


@dataclass
class Results:
    """All results of one call of the benchmarks."""

    facts: dict[str, str]
    records: list[Record] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    """Libraries that could not be installed, and why."""

    def record(self, benchmark: str, variant: str, library: str) -> Record:
        """The record of a case, made if there is none."""
        for record in self.records:
            if (record.benchmark, record.variant, record.library) == (benchmark, variant, library):
                return record
        self.records.append(Record(benchmark, variant, library))
        return self.records[-1]

    def figure(self, benchmark: str, variant: str, library: str, name: str) -> Figure | None:
        """One figure, if it was measured."""
        for record in self.records:
            if (record.benchmark, record.variant, record.library) == (benchmark, variant, library):
                values = tuple(float(run[name]) for run in record.runs if name in run)
                return Figure(values) if values else None
        return None

    def libraries(self, benchmark: str) -> list[str]:
        """The libraries that a benchmark was tried with, in the order of the catalogue."""
        tried = {record.library for record in self.records if record.benchmark == benchmark}
        return [name for name in LIBRARIES if name in tried]

    def errors(self) -> Iterator[tuple[str, str]]:
        """The errors, and where they occurred."""
        yield from self.unavailable.items()
        for record in self.records:
            if record.error:
                yield f"{record.library}, {record.benchmark} {record.variant}".strip(), record.error

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), default=str))

    @classmethod
    def read(cls, path: Path) -> Self:
        found = json.loads(path.read_text())
        records = [Record(**record) for record in found["records"]]
        return cls(facts=found["facts"], records=records, unavailable=found["unavailable"])


def facts(server: str) -> dict[str, str]:
    """The conditions."""
    import aiospinach

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "aiospinach": f"{aiospinach.__version__}{commit()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"{server}, without persistence, on the loopback interface",
        "processor": f"{processor()}, {os.cpu_count()} of them",
        "system": f"{platform.system()} {platform.release()}",
        "load before": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }


def commit() -> str:
    """The commit that is checked out, and whether the package was changed since; empty without a checkout."""
    folder = Path(__file__).parent.parent
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True, check=False
    )
    if head.returncode:
        return ""
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "aiospinach"], cwd=folder, check=False)
    return f", commit {head.stdout.strip()}{' with changes' if changed.returncode else ''}"


def processor() -> str:
    """The model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
