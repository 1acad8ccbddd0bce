"""The benchmarks: which cases each has. A case is one library in one situation, measured again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import measure
from .measure import Subject, Values
from .profiles.pairs import KINDS as PAIRS
from .profiles.queues import KINDS as QUEUES

SLOW = ("arq", "saq", "taskiq", "streaq", "docket", "dramatiq", "bullmq")
"""Slow libraries, which get a third of the jobs."""
THREADED = ("aiospinach", "spinach", "dramatiq")
"""Libraries that run plain functions in threads."""
OFTENER = {"length": 2}
"""Benchmarks with additional runs: their cases differ by less than single runs do."""


@dataclass(frozen=True)
class Case:
    """One library in one situation."""

    benchmark: str
    variant: str
    library: str
    run: Callable[[], Values]
    once: bool = False
    """It is long, and its figures hardly vary."""


class Suite:
    """All cases of some libraries; ``quick`` makes them smaller, to see whether they run."""

    def __init__(self, subjects: dict[str, Subject], binary: str, *, quick: bool) -> None:
        self._subjects = subjects
        self._binary = binary
        self._divisor = 10 if quick else 1

    def cases(self, benchmark: str) -> list[Case]:
        """The cases of one benchmark, in the order in which they alternate."""
        made: list[Case] = getattr(self, benchmark.replace("-", "_"))()
        return made

    def schedule(self) -> list[Case]:
        """Storing jobs: one after the other, from 32 concurrent callers, in batches of 1,000."""
        return [
            Case(
                "schedule", how, name, partial(measure.schedule, subject, jobs=self._few(jobs, name), how=how)
            )
            for how, jobs in (("sequential", 2_000), ("callers", 20_000), ("batch", 20_000))
            for name, subject in self._subjects.items()
            if how != "batch" or subject.library.has_batch
        ]

    def drain(self) -> list[Case]:
        """Doing 20,000 no-op jobs, 1, 32 or 256 at once."""
        return [
            Case(
                "drain",
                str(concurrency),
                name,
                partial(measure.drain, subject, jobs=size(jobs, name), concurrency=concurrency),
            )
            for concurrency, jobs, size in (
                (32, 20_000, self._few),
                (1, 4_000, self._one_by_one),
                (256, 20_000, self._few),
            )
            for name, subject in self._subjects.items()
        ]

    def signals(self) -> list[Case]:
        """Doing them with no receiver, a sync or an async one on every signal of jobs."""
        return [
            Case(
                "signals",
                f"{kind}, {concurrency}",
                "aiospinach",
                partial(
                    measure.drain,
                    self._subjects["aiospinach"],
                    jobs=self._size(jobs),
                    concurrency=concurrency,
                    options=("--receivers", kind),
                ),
            )
            for concurrency, jobs in ((32, 20_000), (1, 4_000))
            for kind in ("none", "sync", "async")
            if "aiospinach" in self._subjects
        ]

    def plain(self) -> list[Case]:
        """Doing 20,000 no-op plain functions in 32 threads, beside other libraries' threads."""
        return [
            Case(
                "plain",
                "32",
                name,
                partial(
                    measure.drain, self._subjects[name], jobs=self._few(20_000, name), options=("--plain",)
                ),
            )
            for name in THREADED
            if name in self._subjects
        ]

    def pick_up(self) -> list[Case]:
        """From the call of schedule to the body, on an idle worker."""
        return [
            Case("pick-up", "", name, partial(measure.pick_up, subject, jobs=self._size(300)))
            for name, subject in self._subjects.items()
        ]

    def results(self) -> list[Case]:
        """Scheduling 1,000 jobs from one process, and awaiting their results."""
        return [
            Case("results", "", name, partial(measure.results, subject, jobs=self._size(1_000)))
            for name, subject in self._subjects.items()
            if subject.library.has_results
        ]

    def length(self) -> list[Case]:
        """Doing the first 20,000 jobs of a queue that is longer and longer."""
        return [
            Case(
                "length",
                str(queued),
                name,
                partial(
                    measure.drain,
                    self._subjects[name],
                    jobs=min(self._size(20_000), self._size(queued)),
                    queued=self._size(queued),
                ),
            )
            for queued in (2_000, 20_000, 200_000, 1_000_000)
            for name in ("floor", "aiospinach")
            if name in self._subjects
        ]

    def million(self) -> list[Case]:
        """Doing 1,000,000 jobs: the worker's memory must stay flat."""
        return [
            Case("million", "", name, partial(measure.drain, subject, jobs=self._size(1_000_000)), once=True)
            for name, subject in self._own()
        ]

    def future(self) -> list[Case]:
        """100,000 jobs that are due at one moment."""
        return [
            Case("future", "", name, partial(measure.future, subject, jobs=self._size(100_000), ahead=6))
            for name, subject in self._own()
        ]

    def saturated(self) -> list[Case]:
        """20,000 jobs behind 100,000 of a task of which one may run at a time."""
        return [
            Case(
                "saturated",
                "",
                name,
                partial(measure.saturated, subject, blocked=self._size(100_000), jobs=self._size(20_000)),
            )
            for name, subject in self._own()
        ]

    def processes(self) -> list[Case]:
        """Two worker processes against one."""
        return [
            Case(
                "processes",
                str(count),
                name,
                partial(measure.processes, self._subjects[name], jobs=self._size(jobs), count=count),
            )
            for count in (1, 2)
            for name, jobs in (("floor", 200_000), ("aiospinach", 100_000))
            if name in self._subjects
        ]

    def idle(self) -> list[Case]:
        """What a worker costs that has nothing to do."""
        return [
            Case("idle", "", name, partial(measure.idle, subject, seconds=max(2, self._size(6))), once=True)
            for name, subject in self._subjects.items()
        ]

    def wakeups(self) -> list[Case]:
        """How many of 100 idle workers wake for one job."""
        run = partial(measure.profile, "wakeups", binary=self._binary)
        return [Case("wakeups", "", name, run) for name, _ in self._own()]

    def punctuality(self) -> list[Case]:
        """How late jobs start that were scheduled ahead, and while another is due much later."""
        count = ("--count", str(max(5, self._size(50))))
        return [
            Case(
                "punctuality",
                variant,
                name,
                partial(measure.profile, "punctuality", *count, *options, binary=self._binary),
            )
            for variant, options in (("idle", ()), ("asleep", ("--later",)))
            for name, _ in self._own()
        ]

    def memory(self) -> list[Case]:
        """Draining the MemoryBroker, and dispatching one signal."""
        run = partial(measure.profile, "memory", "--jobs", str(self._size(20_000)))
        return [Case("memory", "", name, run) for name, _ in self._own()]

    def queues(self) -> list[Case]:
        """A worker of 1, 10 and 100 queues: trickle (300 jobs a second), drain, and idle."""
        jobs = str(self._size(10_000))
        return [
            Case(
                "queues",
                f"{what}, {count}",
                name,
                partial(
                    measure.profile,
                    "queues",
                    *("--what", what, "--queues", str(count), "--jobs", jobs, "--server", self._binary),
                ),
                once=what == "idle",
            )
            for what, (_, counts) in QUEUES.items()
            for count in counts
            for name, _ in self._own()
        ]

    def singly(self) -> list[Case]:
        """Doing 100,000 jobs that were scheduled one by one, beside those of batches, 2,000 a turn."""
        return [self._pair("singly", "", "singly", name) for name, _ in self._own()]

    def limits(self) -> list[Case]:
        """Doing 25,000 jobs of a limited task where 10,000 have limits, beside 10, 5,000 a turn."""
        return [
            self._pair("limits", variant, what, name)
            for variant, what in (("none is held back", "limits"), ("most are held back", "lanes"))
            for name, _ in self._own()
        ]

    def _pair(self, benchmark: str, variant: str, what: str, name: str) -> Case:
        options = ("--what", what, "--turns", str(self._size(PAIRS[what].turns)), "--server", self._binary)
        return Case(benchmark, variant, name, partial(measure.profile, "pairs", *options))

    def _own(self) -> list[tuple[str, Subject]]:
        return [(name, subject) for name, subject in self._subjects.items() if name == "aiospinach"]

    def _size(self, count: int) -> int:
        return max(1, count // self._divisor)

    def _few(self, count: int, library: str) -> int:
        return self._size(count // 3 if library in SLOW else count)

    def _one_by_one(self, count: int, library: str) -> int:
        polls = self._subjects[library].library.polls
        return 30 if polls else self._few(count, library)


BENCHMARKS = {
    name: str(getattr(Suite, name.replace("-", "_")).__doc__)
    for name in (
        "drain",
        "schedule",
        "pick-up",
        "results",
        "signals",
        "plain",
        "length",
        "million",
        "future",
        "saturated",
        "processes",
        "idle",
        "wakeups",
        "punctuality",
        "memory",
        "queues",
        "singly",
        "limits",
    )
}
