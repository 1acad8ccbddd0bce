"""The targets of aiospinach, and their results. Ratios are taken run by run, since runs alternate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .results import Figure, Results

US = "aiospinach"
ASYNCIO = ("arq", "saq", "taskiq", "streaq", "docket")
PEERS = (*ASYNCIO, "spinach")


@dataclass(frozen=True)
class Target:
    """One figure, and the bound that it should keep."""

    title: str
    bound: float
    measured: Figure | None
    at_least: bool = True
    beside: str = ""
    why: str = ""
    """The reason, if the target is missed."""

    @property
    def is_missed(self) -> bool:
        """The median does not keep the bound."""
        if self.measured is None:
            return False
        value = self.measured.median
        return value < self.bound if self.at_least else value > self.bound

    @property
    def verdict(self) -> str:
        """Reached, or missed by how much."""
        if self.measured is None:
            return "not measured"
        if not self.is_missed:
            return f"reached{self._doubt}"
        return f"**missed** by {abs(self.measured.median - self.bound) / self.bound:.0%}{self._doubt}"

    @property
    def _doubt(self) -> str:
        """A remark if single runs fell on both sides of the bound."""
        values = self.measured.values if self.measured else ()
        kept = {value >= self.bound if self.at_least else value <= self.bound for value in values}
        return ", but runs fell on both sides" if len(kept) > 1 else ""

    @property
    def wanted(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:,g}"

    @property
    def measured_values(self) -> str:
        """The median, and the least and the greatest."""
        if self.measured is None:
            return ""
        least, most = min(self.measured.values), max(self.measured.values)
        return f"{number(self.measured.median)} ({number(least)} to {number(most)})"


def number(value: float) -> str:
    """A figure with its significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def ratio(over: Figure | None, under: Figure | None) -> Figure | None:
    """One figure over another, run by run."""
    if over is None or under is None or 0 in under.values:
        return None
    return Figure(tuple(a / b for a, b in zip(over.values, under.values, strict=False)))


TAKES_TURNS = (
    "one exchange of a queue is under way at a time, so that the worker and Redis take turns, and a job takes"
    " as long as both need for it. BullMQ has many calls under way: it uses both cores at once, and needs"
    " several times the CPU. Two exchanges at once would be half as full, and take twice the commands."
)
SLOWER_MACHINE = (
    "the floor takes more here, too, than on the machine that the bound was set on (6 us). Over it, the"
    " script counts slots, looks for cancelled jobs and reads headers, and the exchange is three commands"
    " longer. The same case stands under *Signals* (none, 32) as well: so far one run is from another."
)
TWO_STEPS = (
    "without a receiver of job_finished the task of a job ends with its body. With one it waits for the"
    " broker's answer, since a signal is sent after what it tells is stored: a future, a second step of the"
    " task, and a Job with the new status, besides two sendings: 4 us in a quiet run, where a job without"
    " receivers takes the worker 11."
)
TWO_THREADS = (
    "each batch of calls wakes a thread, and its end the event loop. Whatever else runs on the machine makes"
    " both dearer, and an async function as well."
)
NO_PROOF = (
    "the floor makes no Job, checks no argument and proves nothing: that is 2 of our 4 us of CPU. The floor"
    " that the bound was set on stored 110,000 a second, half of what this one does."
)
MORE_TO_ASK = (
    "the client takes no longer than the floor's, but the script takes 16 us, and the floor's 12: it looks"
    " whether an id was used before, and may store jobs for later."
)
TWO_TRIPS = (
    "a blocking read of a stream brings a job in one trip; here, as in the floor, one brings the wake-up, and"
    " another the job with its lease."
)
SAME_COMMANDS = (
    "a fetch runs the same commands whatever is queued, and a test counts them. See the jitter of the single"
    " runs, also of the floor: it is larger than the difference."
)
MANY_QUEUES = "each queue has exchanges, ticks and wake-ups of its own, and each exchange is less full."
OWN_HEADERS = "a script reads what all jobs of a task have in common once a call, and the rest for each job."
MANY_LIMITS = "an exchange has to look at the limits of its own jobs, however many others there are."
TWO_CORES = "two workers and Redis share two cores; the floor's two processes are held back as well."


class Targets:
    """All of them, for one set of results."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def __iter__(self) -> Iterator[Target]:
        yield from self._drain()
        yield from self._signals()
        yield from self._plain()
        yield from self._schedule()
        yield from self._waking()
        yield from self._size()
        yield from self._queues()
        yield from self._pairs()

    def best(
        self, names: Sequence[str], benchmark: str, variant: str, figure: str, *, least: bool = False
    ) -> tuple[str, Figure | None]:
        """The best of some libraries in a figure."""
        found = [
            (name, value)
            for name in names
            if (value := self._results.figure(benchmark, variant, name, figure)) is not None
        ]
        if not found:
            return "none", None
        return (min if least else max)(found, key=lambda pair: pair[1].median)

    def _drain(self) -> Iterator[Target]:
        ours = self._of("drain", "32", "drain/s")

        def over(name: str) -> Figure | None:
            return ratio(ours, self._of("drain", "32", "drain/s", name))

        yield Target("drain, over the floor", 0.6, over("floor"))
        yield Target("drain, over spinach", 3, over("spinach"))
        name, theirs = self.best(ASYNCIO, "drain", "32", "drain/s")
        yield Target(f"drain, over the fastest asyncio peer ({name})", 9, ratio(ours, theirs))
        yield Target("drain, over BullMQ on Node", 2.5, over("bullmq-node"), why=TAKES_TURNS)
        for title, figure, bound in (
            ("worker CPU per no-op job, us", "worker us/job", 20),
            ("Redis CPU per no-op job, us", "redis us/job", 8),
            ("commands per no-op job", "commands/job", 0.5),
        ):
            floors = self._of("drain", "32", figure, "floor")
            beside = f"the floor: {number(floors.median)}" if floors else ""
            yield Target(
                title,
                bound,
                self._of("drain", "32", figure),
                at_least=False,
                beside=beside,
                why=SLOWER_MACHINE,
            )

    def _signals(self) -> Iterator[Target]:
        for kind in ("none", "sync", "async"):
            trips = self._of("signals", f"{kind}, 1", "scripts/job")
            yield Target(
                f"round trips per job, concurrency 1, receivers: {kind}", 1.02, trips, at_least=False
            )
        bare = self._of("signals", "none, 32", "drain/s")
        for kind, bound in (("sync", 0.8), ("async", 0.5)):
            heard = ratio(self._of("signals", f"{kind}, 32", "drain/s"), bare)
            title = f"drain, one {kind} receiver on each signal of jobs, over none"
            yield Target(title, bound, heard, why=TWO_STEPS)
        for kind, bound in (("none", 0.3), ("sync", 3), ("async", 15)):
            cost = self._of("memory", "", f"dispatch {kind} us")
            yield Target(f"dispatch of one signal, receivers: {kind}, us", bound, cost, at_least=False)

    def _plain(self) -> Iterator[Target]:
        cost = self._of("plain", "32", "worker us/job")
        asynchronous = self._of("drain", "32", "worker us/job")
        beside = f"an async function: {number(asynchronous.median)}" if asynchronous else ""
        title = "worker CPU per no-op plain function, us"
        yield Target(title, 40, cost, at_least=False, beside=beside, why=TWO_THREADS)

    def _schedule(self) -> Iterator[Target]:
        for title, how, bound, why in (
            ("schedule_batch", "batch", 0.8, NO_PROOF),
            ("schedule, sequential", "sequential", 0.9, MORE_TO_ASK),
        ):
            ours, floors = (self._of("schedule", how, "schedule/s", name) for name in (US, "floor"))
            yield Target(f"{title}, over the floor", bound, ratio(ours, floors), why=why)
        ours = self._of("schedule", "callers", "schedule/s")
        name, theirs = self.best(PEERS, "schedule", "callers", "schedule/s")
        beside = f"{number(ours.median)}/s, and 30,000/s would do as well" if ours else ""
        yield Target(
            f"schedule, 32 callers, over the best peer ({name})", 3, ratio(ours, theirs), beside=beside
        )

    def _waking(self) -> Iterator[Target]:
        for part in ("p50 ms", "p99 ms"):
            name, theirs = self.best(PEERS, "pick-up", "", part, least=True)
            late = ratio(self._of("pick-up", "", part), theirs)
            title = f"pick-up by an idle worker, {part[:3]}, over the best peer's ({name})"
            floors = ratio(self._of("pick-up", "", part, "floor"), theirs)
            beside = f"the floor: {number(floors.median)}" if floors else ""
            yield Target(title, 1, late, at_least=False, beside=beside, why=TWO_TRIPS)
        name, theirs = self.best(ASYNCIO, "results", "", "results/s")
        awaited = ratio(self._of("results", "", "results/s"), theirs)
        yield Target(f"1,000 results awaited by one process, over the best peer ({name})", 5, awaited)
        woken = self._of("wakeups", "", "woken")
        yield Target("of 100 idle workers, woken by one job", 1, woken, at_least=False)

    def _size(self) -> Iterator[Target]:
        long, usual = (self._of("length", queued, "drain/s") for queued in ("1000000", "20000"))
        floors = ratio(*(self._of("length", n, "drain/s", "floor") for n in ("1000000", "20000")))
        beside = f"the floor: {number(floors.median)}" if floors else ""
        title = "drain with 1,000,000 queued, over 20,000"
        yield Target(title, 0.9, ratio(long, usual), beside=beside, why=SAME_COMMANDS)
        after, before = self._of("million", "", "memory MB"), self._of("drain", "32", "memory MB")
        yield Target("worker memory after 1,000,000 jobs, over 20,000", 1.1, ratio(after, before), False)
        stored = [self._of("drain", "32", "stored bytes/job", name) for name in (US, "spinach")]
        yield Target("Redis bytes per queued job, over spinach's", 1, ratio(stored[0], stored[1]), False)
        two, one = (self._of("processes", count, "drain/s") for count in ("2", "1"))
        floors = ratio(*(self._of("processes", count, "drain/s", "floor") for count in ("2", "1")))
        beside = f"the floor: {number(floors.median)}" if floors else ""
        yield Target("two worker processes, over one", 1.6, ratio(two, one), beside=beside, why=TWO_CORES)
        memory = ratio(self._of("memory", "", "drain/s"), self._of("drain", "32", "drain/s"))
        yield Target("MemoryBroker drain, over Redis", 1, memory)
        yield Target("memory of an idle worker, MB", 60, self._of("idle", "", "memory MB"), at_least=False)

    def _queues(self) -> Iterator[Target]:
        def over_one(what: str, count: int, figure: str) -> Figure | None:
            return ratio(*(self._of("queues", f"{what}, {n}", figure) for n in (count, 1)))

        for title, what, count, figures in (
            ("300 jobs a second", "trickle", 10, ("scripts/job", "commands/job", "worker us/job")),
            ("drain", "drain", 100, ("worker us/job",)),
            ("drain of the MemoryBroker", "memory", 100, ("worker us/job",)),
        ):
            for figure in figures:
                many = f"{title}, {figure} with {count} queues, over one"
                yield Target(many, 1.5, over_one(what, count, figure), at_least=False, why=MANY_QUEUES)
        for count in (10, 100):
            made = self._of("queues", f"trickle, {count}", "connections/s")
            title = f"300 jobs a second, new connections a second with {count} queues"
            yield Target(title, 0.1, made, at_least=False, why=MANY_QUEUES)
        title = "calls of an idle worker in 5 s with 100 queues, over one"
        yield Target(title, 1.5, over_one("idle", 100, "calls/5 s"), at_least=False, why=MANY_QUEUES)

    def _pairs(self) -> Iterator[Target]:
        kinds = ("one by one", "in batches")
        title = "Redis CPU per job that was scheduled one by one, over batches"
        yield self._pair(title, 1.05, "singly", "", "redis us/job", kinds, OWN_HEADERS)
        for variant in ("none is held back", "most are held back"):
            for what, figure in (("Redis CPU", "redis us/job"), ("bytes sent", "bytes sent/job")):
                title = f"{what} per job of a limited task, with 10,000 limits, over 10 ({variant})"
                yield self._pair(
                    title, 1.5, "limits", variant, figure, ("10,000 limits", "10 limits"), MANY_LIMITS
                )

    def _pair(
        self,
        title: str,
        bound: float,
        benchmark: str,
        variant: str,
        figure: str,
        kinds: tuple[str, str],
        why: str,
    ) -> Target:
        """A target for a ratio that was taken within each run; ``beside`` names its two figures."""
        one, other, over = (self._of(benchmark, variant, f"{figure}, {what}") for what in (*kinds, "ratio"))
        beside = f"{number(one.median)} over {number(other.median)}" if one and other else ""
        return Target(title, bound, over, at_least=False, beside=beside, why=why)

    def _of(self, benchmark: str, variant: str, figure: str, library: str = US) -> Figure | None:
        return self._results.figure(benchmark, variant, library, figure)
