"""The contents of a queue's keys, read with a plain client and without the code of the broker."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

REMAINING = {
    *(
        "control",
        "looked",
        "workers",
        "reports",
        "periodic",
        "dedup:0",
        "dedup:1",
        "wake",
        "dead",
        "deadjobs",
        "events",
        "steps",
    ),
}
"""Keys that may remain of a drained queue, besides those of sessions, which expire."""
OF_SESSIONS = ("sess:", "nudge:", "answers:", "minutes:")
OF_JOBS = ("result:",)
"""Keys of single jobs, which expire as well."""

_TYPES = {
    "ready": "list",
    "wake": "list",
    "lanes": "zset",
    "open": "set",
    "jobs": "hash",
    "deadjobs": "hash",
    "control": "hash",
    "leases": "zset",
    "slots": "zset",
    "future": "zset",
    "dead": "zset",
    "periodic": "zset",
    "cancels": "hash",
    "dedup": "set",
    "sess": "string",
    "answers": "hash",
    "nudge": "list",
    "looked": "string",
    "workers": "zset",
    "result": "string",
    "reports": "hash",
    "minutes": "hash",
    "pauses": "hash",
    "events": "stream",
    "steps": "stream",
    "progress": "hash",
}


@dataclass(frozen=True)
class Header:
    """The fields before the body."""

    retries: int
    max_retries: int
    crashes: int
    parked_at: int
    task: str
    at: int
    body: bytes

    @staticmethod
    def read(envelope: bytes) -> Header | None:
        """Parse the header of an envelope; None if it is unreadable."""
        lines = envelope.split(b"\n", 2)
        static = lines[0].split(b" ")
        variable = lines[1].split(b" ") if len(lines) == 3 else []
        if len(static) < 5 or len(variable) < 4 or static[0] != b"2":
            return None
        (task, most), (at, retries, crashes, parked), body = static[1:3], variable[:4], lines[2]
        return Header(int(retries), int(most), int(crashes), int(parked), task.decode(), int(at), body)


class RawKeys:
    """The keys of one queue."""

    def __init__(self, client: redis.Redis, namespace: str, queue: str) -> None:
        self._client = client
        self.prefix = f"ais2:{{{namespace}:{queue}}}:"

    def read(self) -> dict[str, Any]:
        """All keys of the queue without their prefix, and their contents."""
        names = sorted(_decoded(self._client.keys(self.prefix + "*")))
        pipe = self._client.pipeline(transaction=True)
        for name in names:
            kind = _TYPES[name.removeprefix(self.prefix).partition(":")[0]]
            if kind == "list":
                pipe.lrange(name, 0, -1)
            elif kind == "hash":
                pipe.hgetall(name)
            elif kind == "zset":
                pipe.zrange(name, 0, -1, withscores=True)
            elif kind == "set":
                pipe.smembers(name)
            elif kind == "stream":
                pipe.xrange(name)
            else:
                pipe.get(name)
        found = pipe.execute() if names else []
        return {name.removeprefix(self.prefix): value for name, value in zip(names, found, strict=True)}

    def ids_by_state(self, seen: Mapping[str, Any] | None = None) -> dict[str, list[str]]:
        """Job ids by state: queued (in ready or a lane), leased, waiting, parked."""
        seen = self.read() if seen is None else seen
        lanes = [entry.split(b"\n", 2) for entry, _ in seen.get("lanes", [])]
        held = [job_id for gate, _, job_id in lanes if gate[:1] != b"?"]
        return {
            "queued": _decoded([*seen.get("ready", []), *held]),
            "leased": _decoded(lease.rpartition(b":")[0] for lease, _ in seen.get("leases", [])),
            "waiting": _decoded(job_id for job_id, _ in seen.get("future", [])),
            "parked": _decoded(job_id for gate, _, job_id in lanes if gate[:1] == b"?"),
        }

    def check(self, most: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Assert the invariants I2 and I3, and the consistency of the keys.

        ``most`` is the number of leases that each limited task may have, if it is not its limit.
        """
        seen = self.read()
        jobs = seen.get("jobs", {})
        ids_by_state = self.ids_by_state(seen)
        marks = {job_id.decode(): mark for job_id, mark in seen.get("cancels", {}).items()}
        removed = {job_id for job_id in marks if job_id.encode() not in jobs}
        assert all(marks[job_id] == b"gone" for job_id in removed)
        assert removed <= set(ids_by_state["queued"]), "the id of a job cancelled in the queue stays there"
        assert not marks or b" cancels" in seen["control"], "control records that there are marks"
        is_recorded = b" pauses" in seen.get("control", {})
        assert is_recorded == bool(seen.get("pauses")), "control records whether there are pauses"
        everything = Counter(job_id for ids in ids_by_state.values() for job_id in ids)
        assert set(everything.values()) <= {1}, f"I2: disjoint: {everything}"
        assert set(everything) - removed == {job_id.decode() for job_id in jobs}, "I2: their union is jobs"
        leases = _decoded(lease for lease, _ in seen.get("leases", []))
        for job_id in marks.keys() - removed:
            state = "queued" if marks[job_id].startswith(b"later") else "leased"
            assert job_id in ids_by_state[state], "a mark belongs to a queued or leased job"
        headers = {job_id.decode(): Header.read(envelope) for job_id, envelope in jobs.items()}
        for job_id, header in headers.items():
            assert header is not None or job_id in ids_by_state["parked"]
        for job_id, score in seen.get("future", []):
            due = headers[job_id.decode()]
            assert due is not None
            assert due.at == int(score), "future and envelope have the same due"
        self._check_slots(seen, leases, headers, most)
        dead = _decoded(job_id for job_id, _ in seen.get("dead", []))
        assert sorted(dead) == sorted(_decoded(seen.get("deadjobs", {}))), "a dead job has a record"
        assert len(seen.get("wake", [])) <= 1, "a token wakes one worker"
        return seen

    @staticmethod
    def _check_slots(
        seen: Mapping[str, Any],
        leases: list[str],
        headers: Mapping[str, Header | None],
        most: Mapping[str, int] | None,
    ) -> None:
        """I3. A task whose limit was removed may keep slots of earlier leases."""
        known = {task.decode(): entry for task, entry in seen.get("control", {}).items() if task[:1] != b" "}
        limits = {task: limit for task, entry in known.items() if (limit := int(entry.split(b" ")[0]))}
        slots = {member.decode() for member, _ in seen.get("slots", [])}
        holders = set()
        for lease in leases:
            header = headers[lease.rpartition(":")[0]]
            assert header is not None, "a leased job is readable"
            holders.add(f"{header.task}\n{lease}")
        assert slots <= holders, "I3: a slot does not leak"
        assert {slot.partition("\n")[0] for slot in slots} <= set(known), "I3: only limited tasks have slots"
        for task, limit in limits.items():
            own = {holder for holder in holders if holder.startswith(task + "\n")}
            assert own <= slots, "I3: each lease of a limited task has a slot"
            assert len(own) <= (limit if most is None else most[task]), "I3: within the limit"
        control, opened = seen.get("control", {}), _decoded(seen.get("open", ()))
        held = {entry.partition(b"\n")[0].decode() for entry, _ in seen.get("lanes", [])}
        assert (b" lanes" in control) >= bool(held), "control records that there are lanes"
        for task in held:
            if task.startswith("?"):
                assert task not in opened, "a lane of parked jobs has no open gate"
                continue
            if task.encode() in seen.get("pauses", {}):
                continue
            used = sum(slot.startswith(task + "\n") for slot in slots)
            assert task in opened or used >= limits.get(task, math.inf), (
                "a lane with a free slot has an open gate"
            )

    def check_drained(self) -> None:
        """I9: only the keys in REMAINING are left, and keys of sessions, which expire."""
        seen = self.read()
        assert {name for name in seen if not name.startswith((*OF_SESSIONS, *OF_JOBS))} <= REMAINING
        for name in seen:
            if name.startswith((*OF_SESSIONS, *OF_JOBS, "dedup:")):
                assert self._client.pttl(self.prefix + name) > 0, f"{name} expires"


def _decoded(values: Any) -> list[str]:
    return [value.decode("utf-8", "backslashreplace") for value in values]
