"""Plots of the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .results import Results

OURS, OTHERS = "#1b7837", "#9e9e9e"


def draw(results: Results, folder: Path) -> None:
    """Draw every plot that there are figures for; none without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawing in (("drain", drain), ("length", length), ("latency", latency)):
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
        if drawing(results, axes):
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        pyplot.close(figure)


def drain(results: Results, axes: Any) -> bool:
    """Jobs a second of each library, with the least and the most."""
    bars = [
        (figure.median, name, figure)
        for name in results.libraries("drain")
        if (figure := results.figure("drain", "32", name, "drain/s"))
    ]
    bars.sort(key=lambda bar: bar[0])
    for place, (median, name, figure) in enumerate(bars):
        errors = [[median - min(figure.values)], [max(figure.values) - median]]
        axes.barh(place, median, xerr=errors, color=OURS if name == "aiospinach" else OTHERS)
        axes.text(max(figure.values), place, f"  {median:,.0f}", va="center")
    axes.set_yticks(range(len(bars)), [name for _, name, _ in bars])
    axes.margins(x=0.15)
    axes.set_xlabel("no-op jobs done per second, 32 at once")
    return bool(bars)


def length(results: Results, axes: Any) -> bool:
    """Jobs a second, by the length of the queue."""
    drawn = False
    for name in results.libraries("length"):
        points = [
            (int(record.variant), figure.median)
            for record in results.records
            if record.benchmark == "length" and record.library == name
            if (figure := results.figure("length", record.variant, name, "drain/s"))
        ]
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name,
                  color=OURS if name == "aiospinach" else OTHERS)  # fmt: skip
        drawn = True
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("jobs in the queue (logarithmic)")
    axes.set_ylabel("done per second")
    axes.legend()
    return drawn


def latency(results: Results, axes: Any) -> bool:
    """How many of the jobs began within how many milliseconds."""
    drawn = False
    for record in results.records:
        late = sorted(value for run in record.runs for value in run.get("latencies", ()))
        if record.benchmark == "pick-up" and late:
            parts = [(number + 1) / len(late) for number in range(len(late))]
            width, color = (2.5, OURS) if record.library == "aiospinach" else (1, None)
            axes.plot(late, parts, label=record.library, linewidth=width, color=color)
            drawn = True
    axes.set_xscale("log")
    axes.set_xlabel("ms from the call of schedule to the body, on an idle worker (logarithmic)")
    axes.set_ylabel("part of the jobs")
    axes.legend(fontsize=7)
    return drawn
