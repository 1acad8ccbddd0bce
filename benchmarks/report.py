"""The report: tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .environments import LIBRARIES
from .results import Figure, Results
from .targets import Targets, number, ratio

Column = tuple[str, str, str, str]
"""The title of a column, and its benchmark, variant and figure."""

OVERVIEW: list[Column] = [
    ("schedule/s, one by one", "schedule", "sequential", "schedule/s"),
    ("32 callers", "schedule", "callers", "schedule/s"),
    ("batches", "schedule", "batch", "schedule/s"),
    ("drain/s", "drain", "32", "drain/s"),
    ("worker CPU us/job", "drain", "32", "worker us/job"),
    ("Redis CPU us/job", "drain", "32", "redis us/job"),
    ("commands/job", "drain", "32", "commands/job"),
    ("bytes/job", "drain", "32", "stored bytes/job"),
    ("pick-up p50 ms", "pick-up", "", "p50 ms"),
    ("p99 ms", "pick-up", "", "p99 ms"),
    ("idle commands/s", "idle", "", "commands/s"),
    ("idle memory MB", "idle", "", "memory MB"),
]
CONCURRENCY: list[Column] = [
    (f"{title}, {count} at once", "drain", count, figure)
    for count in ("1", "32", "256")
    for title, figure in (("drain/s", "drain/s"), ("worker CPU us", "worker us/job"))
]
OWN = {
    "signals": ("drain/s", "worker us/job", "redis us/job", "commands/job", "scripts/job"),
    "plain": ("drain/s", "worker us/job", "redis us/job", "commands/job"),
    "results": ("results/s", "client us/job", "redis us/job", "commands/job"),
    "length": ("drain/s", "worker us/job", "stored bytes/job", "memory MB"),
    "million": ("drain/s", "worker us/job", "redis us/job", "commands/job", "memory MB"),
    "future": ("drain/s", "commands/job", "redis us/job", "first ms late", "calls over 10 ms"),
    "saturated": ("drain/s", "first after s", "commands/job", "calls over 10 ms"),
    "processes": ("drain/s",),
    "wakeups": ("woken", "woken at most"),
    "punctuality": ("p50 ms", "p99 ms", "worst ms"),
    "memory": (
        "schedule/s",
        "drain/s",
        "worker us/job",
        "dispatch none us",
        "dispatch sync us",
        "dispatch async us",
    ),
    "queues": (
        "drain/s",
        "worker us/job",
        "redis us/job",
        "scripts/job",
        "commands/job",
        "connections/s",
        "calls/5 s",
    ),
    "singly": tuple(
        f"{figure}, {what}"
        for figure in ("redis us/job", "worker us/job")
        for what in ("one by one", "in batches", "ratio")
    ),
    "limits": tuple(
        f"{figure}, {what}"
        for figure in ("redis us/job", "bytes sent/job")
        for what in ("10,000 limits", "10 limits", "ratio")
    ),
}


def text_of(results: Results) -> str:
    """The whole report."""
    return "\n".join(lines_of(results)) + "\n"


def lines_of(results: Results) -> Iterator[str]:
    yield "# Benchmarks"
    yield ""
    yield "Made by `nox -s benchmarks`; see `python -m benchmarks --help`. Medians, and in brackets the"
    yield "distance of the least and the greatest run, as a part of the median. Runs alternate."
    yield "Libraries that need long for a job were given a third as many."
    yield "**Read the ratios**: the figures are of one machine at one moment, with whatever else ran on it."
    yield ""
    yield from table(["", ""], [[name, value] for name, value in results.facts.items()])
    targets = [t for t in Targets(results) if t.measured is not None]
    if targets:
        yield "## Targets"
        yield ""
        rows = [[t.title, t.wanted, t.measured_values, t.verdict, t.beside] for t in targets]
        yield from table(["", "target", "measured (least to most)", "", ""], rows)
        if missed := [t for t in targets if t.is_missed]:
            yield "What is missed, and why; [docs/performance.md](../docs/performance.md) has the profile:"
            yield ""
            yield from (f"- **{t.title}**: {t.why}" for t in missed)
            yield ""
    names = [name for name in LIBRARIES if any(record.library == name for record in results.records)]
    for title, columns in (("Libraries", OVERVIEW), ("Concurrency", CONCURRENCY)):
        found = [column for column in columns if any(value(results, column, name) for name in names)]
        if found:
            yield f"## {title}"
            yield ""
            rows = [[name, *(cell(value(results, column, name)) for column in found)] for name in names]
            yield from table(["", *(column[0] for column in found)], rows)
    if drains := [row for name in names if (row := compared(results, name))]:
        yield "## Drain, 32 at once, over each library"
        yield ""
        yield from table(["", "aiospinach's drain over it", "its worker CPU over aiospinach's"], drains)
    for benchmark, figures in OWN.items():
        records = [r for r in results.records if r.benchmark == benchmark and r.runs]
        if records:
            yield f"## {benchmark.capitalize()}"
            yield ""
            rows = [
                [
                    r.library,
                    r.variant,
                    *(cell(results.figure(benchmark, r.variant, r.library, f)) for f in figures),
                ]
                for r in records
            ]
            yield from table(["", "", *figures], rows)
    yield "## Versions and settings"
    yield ""
    rows = [
        [name, ", ".join(LIBRARIES[name].requirements) or "this checkout", LIBRARIES[name].note]
        for name in (*names, *results.unavailable)
    ]
    yield from table(["", "pinned", ""], rows)
    if errors := [list(error) for error in results.errors()]:
        yield "## What could not be measured"
        yield ""
        yield from table(["", "why"], errors)


def value(results: Results, column: Column, library: str) -> Figure | None:
    _, benchmark, variant, figure = column
    return results.figure(benchmark, variant, library, figure)


def cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    jitter = f" ({figure.jitter:.0%})" if len(figure.values) > 1 else ""
    return number(figure.median) + jitter


def compared(results: Results, library: str) -> list[str]:
    """How much faster aiospinach is than a library, and how much less its worker needs."""
    rates, costs = (
        [results.figure("drain", "32", name, figure) for name in ("aiospinach", library)]
        for figure in ("drain/s", "worker us/job")
    )
    faster, cheaper = ratio(rates[0], rates[1]), ratio(costs[1], costs[0])
    if library == "aiospinach" or faster is None or cheaper is None:
        return []
    return [library, f"{faster.median:.2f}", f"{cheaper.median:.2f}"]


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table, with figures to the right, and an empty line after it."""
    yield "| " + " | ".join(titles) + " |"
    yield "|---" * len(titles) + "|"
    for row in rows:
        yield "| " + " | ".join(part.replace("|", "/") for part in row) + " |"
    yield ""
