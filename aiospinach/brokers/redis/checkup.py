"""Looks whether the stored parts of a queue in Redis fit together. It only reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from ..findings import FindingKind, Found
from . import scripts
from .calls import ScriptCalls
from .queue_session import QueueSession
from .schema import pairs

PAGE = 1000
FOUND_AT_MOST = 1000
"""Of each kind."""
LONG_LINE = 10_000
"""In a longer queue each call confirms one job: it may have to look through the whole line."""
QUICK = {
    *(FindingKind.SLOT_WITHOUT_LEASE, FindingKind.LEASE_WITHOUT_SLOT, FindingKind.CLOSED_GATE),
    *(FindingKind.UNRECORDED, FindingKind.DEAD_WITHOUT_RECORD),
}
"""Kinds that are confirmed without looking through a line: of these all suspects are confirmed."""
RECORDED = (b"lanes", b"cancels", b"pauses")
PARKED = b"?"

Suspects = dict[FindingKind, set[bytes]]


class _Parts(NamedTuple):
    """The ids and names in the parts of a queue, read one after the other."""

    jobs: set[bytes]
    in_line: list[bytes]
    """Ids in line and in lanes."""
    gates: set[bytes]
    """The tasks that have lanes."""
    future: set[bytes]
    leases: set[bytes]
    slots: set[bytes]
    marks: set[bytes]
    dead: set[bytes]
    records: set[bytes]


async def find_faults(calls: ScriptCalls, state: QueueSession) -> list[Found]:
    """Return what does not fit together, each kind in the order of its items."""
    first = _suspects_in(await _read(calls, state))
    parts = await _read(calls, state)
    second = _suspects_in(parts)
    is_long = len(parts.in_line) + len(parts.leases) > LONG_LINE
    found: list[Found] = []
    for kind in FindingKind:
        suspects = sorted(first[kind] & second[kind])
        at_once = 500 if kind in QUICK else 1 if is_long else 20
        wrong: list[bytes] = []
        for start in range(0, len(suspects) if kind in QUICK else min(len(suspects), FOUND_AT_MOST), at_once):
            _, some = await calls.produce(
                scripts.CHECK, state, [kind.value, *suspects[start : start + at_once]]
            )
            wrong += some
        found += (Found(kind, item.decode(errors="backslashreplace")) for item in wrong[:FOUND_AT_MOST])
    return found


def _suspects_in(parts: _Parts) -> Suspects:
    """Return what may be wrong, or has moved while the parts were read."""
    leased = [lease.rpartition(b":")[0] for lease in parts.leases]
    places = Counter([*parts.in_line, *leased, *parts.future])
    leases_of_slots = {slot: slot.partition(b"\n")[2] for slot in parts.slots}
    with_slots = set(leases_of_slots.values())
    return {
        FindingKind.NO_JOB: places.keys() - parts.jobs - (parts.marks - parts.future - {*leased}),
        FindingKind.NO_PLACE: parts.jobs - places.keys(),
        FindingKind.TWO_PLACES: {job_id for job_id, count in places.items() if count > 1},
        FindingKind.SLOT_WITHOUT_LEASE: {
            slot for slot, lease in leases_of_slots.items() if lease not in parts.leases
        },
        FindingKind.LEASE_WITHOUT_SLOT: parts.leases - with_slots,
        FindingKind.CLOSED_GATE: {gate for gate in parts.gates if not gate.startswith(PARKED)},
        FindingKind.UNRECORDED: set(RECORDED),
        FindingKind.DEAD_WITHOUT_RECORD: parts.dead ^ parts.records,
        FindingKind.STRAY_MARK: parts.marks - {*parts.in_line} - {*leased},
    }


async def _read(calls: ScriptCalls, state: QueueSession) -> _Parts:
    """Read all parts, a page a call: first the ids of jobs, then the places in the order of a job's way."""
    prefix = state.keys.prefix
    jobs = {job_id async for job_id in _job_ids(calls, state)}
    future = {member async for member in _members(calls, f"{prefix}future")}
    in_line = [job_id async for job_id in _elements(calls, f"{prefix}ready")]
    entries = {entry async for entry in _members(calls, f"{prefix}lanes")}
    leases = {lease async for lease in _members(calls, f"{prefix}leases")}
    return _Parts(
        jobs=jobs,
        in_line=[*in_line, *(entry.split(b"\n", 2)[-1] for entry in entries)],
        gates={entry.partition(b"\n")[0] for entry in entries},
        future=future,
        leases=leases,
        slots={slot async for slot in _members(calls, f"{prefix}slots")},
        marks={field async for field in _fields(calls, f"{prefix}cancels")},
        dead={job_id async for job_id in _members(calls, f"{prefix}dead")},
        records={*await calls.ask("HKEYS", f"{prefix}deadjobs")},  # 10,000 at most
    )


async def _job_ids(calls: ScriptCalls, state: QueueSession) -> AsyncIterator[bytes]:
    cursor = b"0"
    while True:
        _, cursor, ids = await calls.produce(scripts.CHECK, state, ["ids", cursor])
        for job_id in ids:
            yield job_id
        if cursor == b"0":
            return


async def _elements(calls: ScriptCalls, key: str) -> AsyncIterator[bytes]:
    """The elements of a list, from its end: elements that are taken from its head move no others."""
    last = -1
    while True:
        page = await calls.ask("LRANGE", key, last - PAGE + 1, last)
        for element in page:
            yield element
        if len(page) < PAGE:
            return
        last -= PAGE


async def _members(calls: ScriptCalls, key: str) -> AsyncIterator[bytes]:
    async for member in _scanned(calls, "ZSCAN", key):
        yield member


async def _fields(calls: ScriptCalls, key: str) -> AsyncIterator[bytes]:
    async for field in _scanned(calls, "HSCAN", key):
        yield field


async def _scanned(calls: ScriptCalls, command: str, key: str) -> AsyncIterator[bytes]:
    cursor = b"0"
    while True:
        cursor, flat = await calls.ask(command, key, cursor, "COUNT", PAGE)
        names: Iterable[bytes] = (name for name, _ in pairs(flat))
        for name in names:
            yield name
        if cursor == b"0":
            return
