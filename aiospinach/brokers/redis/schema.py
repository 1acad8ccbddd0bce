"""How a queue's keys are called and what lies in them: the stored format, which only a new prefix changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any

from ..records import DeadRecord, Envelope, Firing, ParkedTask
from .scripts import Script

PREFIX = "ais2"
VERSION = 2
OWN_PARKED = f"/{VERSION}"
"""Jobs that another release could not read, but this one can, are parked under this name."""
KNOWN_LINES = 1024
LAST_MOMENT = 253370764799999
"""The end of the year 9998: no moment that we write is later."""

_NAMES = (
    "ready",
    "jobs",
    "leases",
    "slots",
    "future",
    "cancels",
    "dead",
    "deadjobs",
    "control",
    "lanes",
    "open",
    "dedup:0",
    "dedup:1",
    "periodic",
    "wake",
    "looked",
    "workers",
)

_SWEPT = (
    *("ready", "leases", "future", "periodic", "control", "looked", "open", "lanes", "workers"),
    *("jobs", "cancels", "slots"),
)


class Keys:
    """The keys of one queue. They share a hash tag, and so a slot of a Cluster. Some are of the session that
    works, others of the one that schedules."""

    def __init__(self, namespace: str, queue: str, session: str, producing: str) -> None:
        self._prefix = f"{PREFIX}:{{{namespace}:{queue}}}:"
        self._by_name = {name: self._prefix + name for name in _NAMES}
        self._by_name["sess"] = f"{self._prefix}sess:{session}"
        self._by_name["answers"] = f"{self._prefix}answers:{producing}"
        self._by_name["nudge"] = f"{self._prefix}nudge:{session}"
        self.wake: str = self._by_name["wake"]
        self.nudge: str = self._by_name["nudge"]
        self.leases: str = self._by_name["leases"]

    def of(self, script: Script) -> list[str]:
        """What a script gets."""
        return [self._by_name[name] for name in script.keys]

    def of_sweep(self) -> list[str]:
        """What a sweep looks at."""
        return [self._by_name[name] for name in _SWEPT]

    def all(self) -> list[str]:
        """Everything that is stored of the queue."""
        return list(self._by_name.values())


def encode(job: Envelope) -> bytes:
    """The envelope: two lines of a header, and the body, which no script looks into.

    ``2 task max_retries priority flags`` is the same for all jobs of a task; ``at retries crashes parked
    created expires key unique`` differs, and is rewritten by scripts. Words that they do not know are kept.
    """
    return _header_of(job) + job.body


def encode_rows(jobs: Iterable[Envelope]) -> list[Any]:
    """The jobs as the script that stores them takes them: what those in a row have in common stands once."""
    arguments: list[Any] = []
    for _, group in groupby(jobs, _in_common):
        alike = list(group)
        header = _header_of(alike[0])
        # A moment by the client's clock may still be to come by the server's.
        due = 0 if alike[0].at_once else alike[0].at
        arguments += (int(alike[0].named), due, len(alike))
        for job in alike:
            arguments += (job.id, header + job.body)
    return arguments


def encode_firings(firings: Iterable[Firing]) -> list[Any]:
    """The ticks as the script that fires them takes them."""
    arguments: list[Any] = []
    for each in firings:
        stored = ("", "") if each.job is None else (each.job.id, encode(each.job))
        arguments += (each.task, each.due, each.next_due, *stored, int(each.may_overlap))
    return arguments


def encode_successor(job: Envelope | None) -> tuple[int, bytes]:
    """When a successor is due, and its envelope; empty if there is none."""
    if job is None:
        return 0, b""
    return 0 if job.at_once else job.at, encode(job)


def decode(job_id: bytes, envelope: bytes) -> Envelope:
    """The job in an envelope whose header a script has found readable."""
    static, variable, body = envelope.split(b"\n", 2)
    task, max_retries = _of_all(static)
    at, retries, crashes, parked_at = _of_this(variable)
    return Envelope(job_id.decode(), task, body, at, max_retries, retries, crashes, parked_at)


_in_common = attrgetter("named", "at_once", "at", "task", "max_retries", "retries", "crashes", "parked_at")


def _header_of(job: Envelope) -> bytes:
    return (
        f"{VERSION} {job.task} {job.max_retries} 0 -\n"
        f"{job.at} {job.retries} {job.crashes} {job.parked_at} - - - -\n"
    ).encode()


@lru_cache(KNOWN_LINES)
def _of_all(static: bytes) -> tuple[str, int]:
    """The task and its max_retries."""
    _, task, max_retries = static.split(b" ", 3)[:3]
    return task.decode(), int(max_retries)


@lru_cache(KNOWN_LINES)  # jobs that were scheduled together have the same
def _of_this(variable: bytes) -> tuple[int, int, int, int]:
    """When it is due, its retries and crashes, and since when it is parked."""
    at, retries, crashes, parked_at = map(int, variable.split(b" ", 4)[:4])
    return min(at, LAST_MOMENT), retries, crashes, min(parked_at, LAST_MOMENT)


def decode_dead(job_id: bytes, record: bytes, is_readable: int) -> DeadRecord:
    """The dead job in a record: time of death, length of the envelope, newline, envelope, detail."""
    header, _, rest = record.partition(b"\n")
    died_at, length = map(int, header.split(b" "))
    if is_readable:
        job = decode(job_id, rest[:length])
    else:
        job = Envelope(job_id.decode(errors="backslashreplace"), "", b"")
    return DeadRecord(job, died_at, rest[length:])


def encode_worker(name: str, level: int) -> str:
    """A worker among those that look at a queue."""
    return f"{level} {name}"


def decode_worker(worker: bytes) -> tuple[str, int]:
    """Its name, and its level; 0 if it tells none."""
    level, _, name = worker.decode(errors="replace").partition(" ")
    return name, int(level) if level.isdecimal() else 0


def decode_parked(flat: Sequence[Any]) -> dict[str, ParkedTask]:
    """The tasks of parked jobs, from four values for each."""
    parked = {}
    for task, since, count, known in zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True):
        words = known.decode(errors="replace").split(" ")
        owner = words[3] if len(words) > 3 else ""
        parked[task.decode()] = ParkedTask(int(since), count, "" if owner == "-" else owner)
    return parked


def milliseconds(seconds: float) -> int:
    """A span of time as the scripts take it."""
    return max(0, round(seconds * 1000))


def pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """``a b a b`` as pairs."""
    return zip(flat[::2], flat[1::2], strict=True)
