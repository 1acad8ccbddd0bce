"""The stored format: the names of a queue's keys, and their contents. Only a new prefix changes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any

from ..pauses import StoredPause
from ..records import DeadRecord, Envelope, Firing, Lease, ParkedTask, Settlement
from ..reports import HOUR, ROWS_FOR
from ..results import created_of, encode_end
from .scripts import Script

PREFIX = "ais2"
VERSION = 2
OWN_PARKED = f"/{VERSION}"
"""The name under which another release parks jobs of this version."""
HAS_META = "m"
"""The flag of a job whose body has meta."""
KEEPS_RESULT = "r"
"""The flag of a job that keeps its result; the milliseconds follow."""
NO_ERROR = (b"-", b"bare")
"""Ninth words of the variable line that are no class of an error. Such a class has a dot."""
KNOWN_LINES = 1024
LAST_MOMENT = 253370764799999
"""The end of the year 9998, in milliseconds since 1970: no stored moment is later."""

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
    "pauses",
    "reports",
    "events",
    "progress",
    "steps",
)

_SWEPT = (
    *("ready", "leases", "future", "periodic", "control", "looked", "open", "lanes", "workers"),
    *("jobs", "cancels", "slots", "pauses", "reports", "progress"),
)
_SEEN = ("ready", "jobs", "leases", "future", "dead", "lanes", "pauses", "workers", "reports")


class Keys:
    """The keys and channels of one queue, which begin with ``prefix``. They share a hash tag, and so a slot
    of a Cluster. ``session`` leases jobs, ``producer_session`` schedules them."""

    def __init__(self, namespace: str, queue: str, session: str, producer_session: str) -> None:
        self.prefix: str = f"{PREFIX}:{{{namespace}:{queue}}}:"
        self._by_name = {name: self.prefix + name for name in _NAMES}
        self._by_name["sess"] = f"{self.prefix}sess:{session}"
        self._by_name["answers"] = f"{self.prefix}answers:{producer_session}"
        self._by_name["nudge"] = f"{self.prefix}nudge:{session}"
        self._of_script: dict[Script, list[str]] = {}
        self.wake: str = self._by_name["wake"]
        self.nudge: str = self._by_name["nudge"]
        self.leases: str = self._by_name["leases"]
        self.pauses: str = self._by_name["pauses"]
        self.control: str = self._by_name["control"]
        self.periodic: str = self._by_name["periodic"]
        self.events: str = self._by_name["events"]
        self.steps: str = self._by_name["steps"]

    def of(self, script: Script, job_keys: Sequence[str] = ()) -> Sequence[str]:
        """Return the keys of a script, in its order, and after them keys of single jobs."""
        keys = self._of_script.get(script)
        if keys is None:
            keys = self._of_script[script] = [self._by_name[name] for name in script.keys]
        return [*keys, *job_keys] if job_keys else keys

    def result(self, job_id: str) -> str:
        """Return the key that keeps the end of a job."""
        return f"{self.prefix}result:{job_id}"

    def of_sweep(self, hours: tuple[int, int]) -> list[str]:
        """Return the keys that a sweep reads, in its order. It writes rows of minutes of these two hours."""
        return [*(self._by_name[name] for name in _SWEPT), *map(self.minutes, hours)]

    def of_overview(self, hours: Sequence[int]) -> list[str]:
        """Return the keys that an overview reads, in its order, with the rows of these hours."""
        return [*(self._by_name[name] for name in _SEEN), *map(self.minutes, hours)]

    def minutes(self, hour: int) -> str:
        """Return the key that has the rows of the minutes of an hour, in hours since 1970."""
        return f"{self.prefix}minutes:{hour}"

    def all(self, now: int) -> list[str]:
        """Return all keys of the queue that this event loop knows."""
        hours = range(now // HOUR - ROWS_FOR // HOUR - 1, now // HOUR + 1)
        return [*self._by_name.values(), *map(self.minutes, hours)]


def names_key(namespace: str) -> str:
    """Return the key of the names of a namespace's queues. No queue has an empty name, and so this key."""
    return f"{PREFIX}:{{{namespace}:}}:queues"


def encode(job: Envelope) -> bytes:
    """Return the envelope of a job: a header of two lines, and the body, which no script reads.

    ``2 task max_retries priority flags`` is the same for all jobs of a task. The flags are ``m``, and ``r``
    with the milliseconds for which the result is kept. ``at retries crashes parked created expires key
    unique`` differs, and scripts rewrite it. A retry appends the class of its error. Scripts keep words that
    they do not know. The word ``created`` is a dash while it equals ``at``.
    """
    return _header_of(job) + job.body


def encode_rows(jobs: Iterable[Envelope]) -> list[Any]:
    """Return the jobs as arguments of the script ``enqueue``, in rows of jobs with a common header."""
    arguments: list[Any] = []
    for _, group in groupby(jobs, _header_fields):
        alike = list(group)
        header = _header_of(alike[0])
        # The server's clock may be behind the client's.
        due = 0 if alike[0].at_once else alike[0].at
        arguments += (int(alike[0].named), due, len(alike))
        for job in alike:
            arguments += (job.id, header + job.body)
    return arguments


def encode_firings(firings: Iterable[Firing]) -> list[Any]:
    """Return the ticks as arguments of the script ``fire``."""
    arguments: list[Any] = []
    for each in firings:
        stored = ("", "") if each.job is None else (each.job.id, encode(each.job))
        arguments += (each.task, each.due, each.next_due, *stored, int(each.may_overlap))
    return arguments


def encode_successor(job: Envelope | None) -> tuple[int, bytes]:
    """Return when a successor is due, and its envelope; 0 and b"" if there is none."""
    if job is None:
        return 0, b""
    return 0 if job.at_once else job.at, encode(job)


def encode_end_of(settlement: Settlement) -> tuple[int, bytes]:
    """Return for how many ms the end of a settled job is kept, and what is kept; 0 and b"" if it is not."""
    job = settlement.lease.job
    if not job.result_ttl:
        return 0, b""
    return job.result_ttl, encode_end(created_of(job), job.task, settlement.result)


def decode(job_id: bytes, envelope: bytes) -> Envelope:
    """Return the job in an envelope. A script has checked the header."""
    [lease] = decode_leased((job_id, envelope), "", 0.0)
    return lease.job


def decode_leased(flat: Sequence[bytes], suffix: str, trusted_until: float) -> list[Lease]:
    """Return the leases of jobs, from an id and an envelope for each. Scripts have checked the headers.

    Jobs that were scheduled together have a common header, which is read once.
    """
    leases: list[Lease] = []
    header, length = b"", 0
    for raw_id, envelope in pairs(flat):
        if not (length and envelope.startswith(header)):
            static, variable, body = envelope.split(b"\n", 2)
            length = len(envelope) - len(body)
            header = envelope[:length]
            task, max_retries, has_meta, result_ttl = _static_words(static)
            at, retries, crashes, parked_at, created, error = _variable_words(variable)
        job_id = raw_id.decode()
        job = Envelope(
            job_id,
            task,
            envelope[length:],
            at,
            max_retries,
            retries,
            crashes,
            parked_at,
            created=created,
            has_meta=has_meta,
            result_ttl=result_ttl,
            error=error,
        )
        leases.append(Lease(job_id + suffix, job, trusted_until))
    return leases


_header_fields = attrgetter(
    *("named", "at_once", "at", "task", "max_retries", "retries", "crashes", "parked_at"),
    *("created", "has_meta", "result_ttl"),
)


def _header_of(job: Envelope) -> bytes:
    flags = HAS_META if job.has_meta else "" if job.result_ttl else "-"
    if job.result_ttl:
        flags += f"{KEEPS_RESULT}{job.result_ttl}"
    created = job.created if job.created not in (0, job.at) else "-"
    return (
        f"{VERSION} {job.task} {job.max_retries} 0 {flags}\n"
        f"{job.at} {job.retries} {job.crashes} {job.parked_at} {created} - - -\n"
    ).encode()


_KEPT = re.compile(rb"[a-zA-Z]*r(\d{1,10})(?!\d)")


@lru_cache(KNOWN_LINES)
def _static_words(static: bytes) -> tuple[str, int, bool, int]:
    """Return task, max_retries, whether the body has meta, and for how many ms the result is kept."""
    _, task, max_retries, _, flags = static.split(b" ", 5)[:5]
    kept = _KEPT.match(flags)
    return task.decode(), int(max_retries), HAS_META.encode() in flags, int(kept[1]) if kept else 0


@lru_cache(KNOWN_LINES)  # jobs that were scheduled together share a line
def _variable_words(variable: bytes) -> tuple[int, int, int, int, int, str]:
    """Return at, retries, crashes, parked, created and error; 0 for a moment of creation that equals ``at``,
    and an empty error for a job that was not tried again."""
    words = variable.split(b" ", 9)
    at, retries, crashes, parked_at = map(int, words[:4])
    is_known = len(words) > 4 and words[4].isdigit() and len(words[4]) < 16
    created = min(int(words[4]), LAST_MOMENT) if is_known else 0
    error = words[8].decode("ascii", "replace") if len(words) > 8 and words[8] not in NO_ERROR else ""
    return min(at, LAST_MOMENT), retries, crashes, min(parked_at, LAST_MOMENT), created, error


def decode_dead(job_id: bytes, record: bytes, is_readable: int) -> DeadRecord:
    """Return the dead job in a record: time of death, length of the envelope, newline, envelope, detail."""
    header, _, rest = record.partition(b"\n")
    died_at, length = map(int, header.split(b" "))
    if is_readable:
        job = decode(job_id, rest[:length])
    else:
        job = Envelope(job_id.decode(errors="backslashreplace"), "", b"")
    return DeadRecord(job, died_at, rest[length:])


def decode_parked(flat: Sequence[Any]) -> dict[str, ParkedTask]:
    """Return the parked jobs by task, from four values for each task."""
    parked = {}
    for task, since, count, known in zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True):
        words = known.decode(errors="replace").split(" ")
        owner = words[3] if len(words) > 3 else ""
        parked[task.decode()] = ParkedTask(int(since), count, "" if owner == "-" else owner)
    return parked


def encode_why(by: str, reason: str) -> str:
    """Return by whom and why something is paused, as scripts store it."""
    return f"{by} {reason}"


def decode_pause(task: bytes, pause: bytes) -> StoredPause:
    """Return a pause: end, since when, by whom, and the reason. Malformed words are 0 or empty."""
    words = [*pause.decode(errors="replace").split(" ", 3), "", "", "", ""]
    until, since = (int(word) if word.isdecimal() and len(word) < 16 else 0 for word in words[:2])
    return StoredPause(
        task.decode(errors="replace"), min(since, LAST_MOMENT), min(until, LAST_MOMENT), *words[2:4]
    )


def decode_pauses(flat: Sequence[bytes]) -> list[StoredPause]:
    """Return the pauses of a queue, sorted by name."""
    return [decode_pause(*pair) for pair in sorted(pairs(flat))]


def milliseconds(seconds: float) -> int:
    """Return seconds as whole milliseconds, at least 0."""
    return max(0, round(seconds * 1000))


def pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Return the elements of a flat sequence in pairs."""
    return zip(flat[::2], flat[1::2], strict=True)
