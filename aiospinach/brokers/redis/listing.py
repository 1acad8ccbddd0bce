"""Lists the jobs of a queue in Redis, place by place."""

from __future__ import annotations

import heapq
import re
from typing import Any

from ..places import JobSeen, LeaseSeen, LookPlace, Place, PlacePage
from ..progress import decode_progress
from ..records import Envelope
from . import schema, scripts
from .calls import ScriptCalls
from .queue_session import QueueSession
from .reports import decode_worker

FEW_LEASES = 5000
"""Fewer leases than that are read in one call."""
LEASES_AT_ONCE = 500
SHOWN_AT_ONCE = 1000
FIRST_START = 10**12
"""The number of an exchange is the moment of its sending, if it is as large as that: a moment after 2001."""
_POSITIONS = {
    Place.READY: re.compile(r"\d{1,15} .+", re.DOTALL),
    Place.FUTURE: re.compile(r"[0-9.e+]+ .+", re.DOTALL),
    Place.DEAD: re.compile(r"[0-9.e+]+"),
}


async def list_place(calls: ScriptCalls, state: QueueSession, question: LookPlace) -> PlacePage:
    """Return a page of the jobs in a place. Raises ValueError if the position cannot be one."""
    place, position = question.place, question.position
    if position and place in _POSITIONS and not _POSITIONS[place].fullmatch(position):
        raise ValueError(f"no position of {place.value}")
    if place is Place.LEASES:
        return await _list_leases(calls, state, question)
    arguments = [place.value, _bytes(position), question.limit, question.looks, question.task]
    _, after, looks, *flat = await calls.produce(scripts.LISTING, state, arguments)
    listed = zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
    found = [_decode(place, *each) for each in listed]
    return PlacePage(found, looks, None if after is None else _text(after))


async def scan_leases(calls: ScriptCalls, state: QueueSession, pattern: str = "*") -> list[bytes]:
    """Return all leases; if there are many, those that match a pattern."""
    few: list[bytes] = await calls.ask("ZRANGE", state.keys.leases, 0, FEW_LEASES - 1)
    if len(few) < FEW_LEASES:
        return few
    leases: set[bytes] = set()
    cursor = b"0"
    while True:  # a scan returns each lease, whichever are renewed meanwhile
        page: list[bytes]
        cursor, page = await calls.ask(
            "ZSCAN", state.keys.leases, cursor, "MATCH", pattern, "COUNT", LEASES_AT_ONCE
        )
        leases.update(page[::2])
        if cursor == b"0":
            return list(leases)


def lease_seen(lease: bytes, ends: Any, report: bytes, step: bytes) -> LeaseSeen:
    """Return what is known of a lease: its name, its end, the report of its worker or ``b""``, and the
    progress of its job or ``b""``."""
    worker = decode_worker(b"", report) if report else None
    name = worker.name if worker is not None and worker.level else ""
    return LeaseSeen(int(float(ends)), _start_of(lease), name, decode_progress(step) if step else None)


def _start_of(lease: bytes) -> int:
    number = lease.rpartition(b".")[2]
    return int(number) if number.isdigit() and FIRST_START <= int(number) <= schema.LAST_MOMENT else 0


async def _list_leases(calls: ScriptCalls, state: QueueSession, question: LookPlace) -> PlacePage:
    """List running jobs, those that run longest first. Renewals do not change this order."""
    position = _bytes(question.position)
    after = _order(position) if position else (-1, b"")
    leases = await scan_leases(calls, state)
    later = heapq.nsmallest(question.looks + 1, (pair for pair in map(_order, leases) if pair > after))
    names = [name for _, name in later[: min(question.looks, SHOWN_AT_ONCE)]]
    if not names:
        return PlacePage([], 0, None)
    _, _, _, *flat = await calls.produce(scripts.LISTING, state, ["leases", *names])
    found: list[JobSeen] = []
    seen = dict(zip(flat[::5], zip(*(flat[part::5] for part in range(1, 5)), strict=True), strict=True))
    for looks, name in enumerate(names, 1):
        if name in seen:
            envelope, ends, report, step = seen[name]
            job = read_job(name.rpartition(b":")[0], envelope)
            if not question.task or job.task == question.task:
                found.append(JobSeen(job, Place.LEASES, _text(name), lease_seen(name, ends, report, step)))
        is_last = looks == len(later)
        if len(found) == question.limit or looks == len(names):
            return PlacePage(found, looks, None if is_last else _text(name))
    raise AssertionError("unreachable")


def _order(lease: bytes) -> tuple[int, bytes]:
    return _start_of(lease), lease


def read_job(job_id: bytes, envelope: bytes) -> Envelope:
    """Return the job in an envelope; with an empty task if the envelope is empty: it cannot be read."""
    if envelope:
        return schema.decode(job_id, envelope)
    return Envelope(job_id.decode(errors="backslashreplace"), "", b"")


def _decode(place: Place, job_id: bytes, stored: bytes, is_readable: Any, after: bytes) -> JobSeen:
    if place is not Place.DEAD:
        return JobSeen(read_job(job_id, stored), place, _text(after))
    dead = schema.decode_dead(job_id, stored, is_readable)
    return JobSeen(dead.job, place, _text(after), dead=dead)


def _text(position: bytes) -> str:
    return position.decode(errors="surrogateescape")  # foreign ids may be any bytes


def _bytes(position: str) -> bytes:
    return position.encode(errors="surrogateescape")
