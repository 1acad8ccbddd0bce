"""The measurements: each runs a library's program against a fresh server, and returns its figures."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from typing import Any

from .environments import Library
from .ledger import memory, runs_in
from .processes import Failed, Process, cpu_seconds_of
from .server import Server

Values = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A library that is ready to be measured."""

    library: Library
    call: list[str]
    binary: str

    def program(self, server: Server, what: str, jobs: int, *options: str) -> Process:
        """Start the library's program against a server."""
        return Process([*self.call, what, str(jobs), "--url", server.url, *options])

    def fill(self, server: Server, jobs: int, *options: str, first: int = 0) -> Values:
        """Schedule jobs in the fastest way that it has."""
        how = "batch" if self.library.has_batch else "callers"
        return self.schedule(server, jobs, how, *options, first=first)

    def schedule(self, server: Server, jobs: int, how: str, *options: str, first: int = 0) -> Values:
        """Schedule jobs in one way."""
        if jobs == 0:
            return {"seconds": 0.0, "cpu": 0.0, "times": []}
        with self.program(server, "schedule", jobs, "--how", how, "--first", str(first), *options) as program:
            return program.receive(120)


def schedule(subject: Subject, *, jobs: int, how: str) -> Values:
    """How many jobs a second are stored."""
    with Server(subject.binary) as server:
        before = server.reading()
        report = subject.schedule(server, jobs, how)
        done = server.reading().since(before)
    return {
        "schedule/s": jobs / report["seconds"],
        "client us/job": report["cpu"] / jobs * 1e6,
        "redis us/job": done.cpu / jobs * 1e6,
        "commands/job": done.count / jobs,
    }


def drain(
    subject: Subject,
    *,
    jobs: int,
    queued: int | None = None,
    concurrency: int = 32,
    options: tuple[str, ...] = (),
) -> Values:
    """How many jobs a second are done, of ``queued``, and what each costs."""
    queued = queued or jobs
    with Server(subject.binary) as server:
        empty = server.memory()
        subject.fill(server, queued, *options)
        stored = server.memory() - empty
        before = server.reading()
        settings = ["--concurrency", str(concurrency), "--until", str(jobs), *options]
        with subject.program(server, "work", queued, *settings) as worker:
            worker.receive()
            report = worker.receive(120)
            done = server.reading().since(before)
    values = costs(report, jobs)
    if queued == jobs:
        check(runs_in(report))
        values |= {"redis us/job": done.cpu / jobs * 1e6, "commands/job": done.count / jobs}
        values["scripts/job"] = (done.commands.get("evalsha", 0) + done.commands.get("fcall", 0)) / jobs
    elif max(runs_in(report)) > 1:
        raise Failed("a job ran twice")
    return {
        **values,
        "stored bytes/job": stored / queued,
        "memory MB": report["memory"] / 1e6,
    }


def costs(report: Values, jobs: int) -> Values:
    """The figures of a worker's report, from its first to its last job."""
    return {"drain/s": (jobs - 1) / report["seconds"], "worker us/job": report["cpu"] / jobs * 1e6}


def check(*runs: bytes) -> None:
    """Each job ran exactly once, in one of these processes."""
    counts = [sum(of_job) for of_job in zip(*runs, strict=True)]
    lost, doubled = counts.count(0), sum(count > 1 for count in counts)
    if lost or doubled:
        raise Failed(f"of {len(counts)} jobs {lost} did not run, and {doubled} ran more than once")


def pick_up(subject: Subject, *, jobs: int) -> Values:
    """Milliseconds from the call of schedule to the body, on a worker that has nothing to do."""
    with Server(subject.binary) as server:
        subject.fill(server, 1)
        options = ["--until", str(jobs + 1), "--times"]
        with subject.program(server, "work", jobs + 1, *options) as worker:
            worker.receive()
            time.sleep(0.5)
            called = subject.schedule(server, jobs, "paced", first=1)["times"]
            report = worker.receive()
    check(runs_in(report))
    late = [(began - at) * 1000 for at, began in zip(called, report["times"][1:], strict=True)]
    late.sort()
    return {"p50 ms": late[len(late) // 2], "p99 ms": late[int(len(late) * 0.99)], "latencies": late}


def results(subject: Subject, *, jobs: int) -> Values:
    """How many jobs a second one process schedules and awaits the results of, all at once."""
    with Server(subject.binary) as server:
        subject.fill(server, 1, "--results")
        with subject.program(server, "work", jobs + 1, "--results", "--until", str(jobs + 1)) as worker:
            worker.receive()
            time.sleep(0.5)
            before = server.reading()
            report = subject.schedule(server, jobs, "results", "--results", first=1)
            done = server.reading().since(before)
            ran = worker.receive()
    check(runs_in(ran))
    return {
        "results/s": jobs / report["seconds"],
        "client us/job": report["cpu"] / jobs * 1e6,
        "redis us/job": done.cpu / jobs * 1e6,
        "commands/job": done.count / jobs,
    }


def idle(subject: Subject, *, seconds: float) -> Values:
    """What a worker without jobs costs, per second."""
    with Server(subject.binary) as server:
        subject.fill(server, 1)
        with subject.program(server, "work", 1, "--until", "2") as worker:
            worker.receive()
            time.sleep(1)
            before, cpu = server.reading(), cpu_seconds_of(worker.number)
            time.sleep(seconds)
            done, used = server.reading().since(before), cpu_seconds_of(worker.number) - cpu
            resident = memory(worker.number)
    return {
        "commands/s": done.count / seconds,
        "worker ms/s": used / seconds * 1000,
        "memory MB": resident / 1e6,
    }


def processes(subject: Subject, *, jobs: int, count: int) -> Values:
    """How many jobs a second so many workers do together, from when all are at work."""
    with Server(subject.binary) as server, contextlib.ExitStack() as stack:
        subject.fill(server, jobs)
        options = ["--until", str(jobs + 1), "--times"]
        workers = [stack.enter_context(subject.program(server, "work", jobs, *options)) for _ in range(count)]
        for worker in workers:
            worker.receive()
        wait_until_still(server)
        reports = [worker.ask_for_report() for worker in workers]
    check(*(runs_in(report) for report in reports))
    began = max(report["began_at"] for report in reports)
    ended = max(report["ended_at"] for report in reports)
    together = sum(time >= began for report in reports for time in report["times"])
    return {"drain/s": (together - 1) / (ended - began)}


def future(subject: Subject, *, jobs: int, ahead: float) -> Values:
    """Jobs that are all due at one moment, while a worker waits for it."""
    with Server(subject.binary) as server:
        due, due_at = time.time() + ahead, time.monotonic() + ahead
        stored = subject.fill(server, jobs, "--at", str(due))["seconds"]
        before = server.reading()
        with subject.program(server, "work", jobs) as worker:
            worker.receive(ahead + 30)
            report = worker.receive(120)
            done, slow = server.reading().since(before), server.slowest()
    check(runs_in(report))
    if report["started_at"] > due_at:
        raise Failed("storing the jobs took longer than they were ahead")
    return {
        **costs(report, jobs),
        "schedule/s": jobs / stored,
        "redis us/job": done.cpu / jobs * 1e6,
        "commands/job": done.count / jobs,
        "first ms late": (report["began_at"] - due_at) * 1000,
        "calls over 10 ms": slow,
    }


def saturated(subject: Subject, *, blocked: int, jobs: int) -> Values:
    """Jobs behind those of a task that has as many running as it may."""
    with Server(subject.binary) as server:
        subject.fill(server, blocked, "--blocked")
        subject.fill(server, jobs)
        before = server.reading()
        with subject.program(server, "work", jobs, "--blocked") as worker:
            worker.receive()
            report = worker.receive(120)
            done, slow = server.reading().since(before), server.slowest()
    check(runs_in(report))
    return {
        **costs(report, jobs),
        "first after s": report["began_at"] - report["started_at"],
        "commands/job": done.count / (jobs + blocked),
        "calls over 10 ms": slow,
    }


def profile(module: str, *options: str, binary: str | None = None) -> Values:
    """The figures of a program of ``benchmarks.profiles``; on a server, if a binary is given."""
    call = [sys.executable, "-m", f"benchmarks.profiles.{module}", *options]
    if binary is None:
        with Process(call) as program:
            return program.receive()
    with Server(binary) as server, Process([*call, "--url", server.url]) as program:
        return program.receive()


def wait_until_still(server: Server, within: float = 120.0) -> None:
    """Wait until the server runs hardly any commands."""
    deadline = time.monotonic() + within
    last = server.reading()
    while True:
        time.sleep(0.25)
        now = server.reading()
        if now.since(last).count < 50:
            return
        if time.monotonic() > deadline:
            raise Failed("the workers did not come to rest")
        last = now
