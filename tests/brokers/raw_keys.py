"""What lies in a queue's keys, read with a plain client and by its own rules, without asking the broker."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

REMAINING = {"control", "looked", "workers", "periodic", "dedup:0", "dedup:1", "wake", "dead", "deadjobs"}
"""What may remain of a queue that has been drained, besides what sessions have for a time."""
OF_SESSIONS = ("sess:", "nudge:", "answers:")

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
        """The header of an envelope; None if it is unreadable."""
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
        """Every key that there is, without the prefix, and what lies in it."""
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
            else:
                pipe.get(name)
        found = pipe.execute() if names else []
        return {name.removeprefix(self.prefix): value for name, value in zip(names, found, strict=True)}

    def places(self, seen: Mapping[str, Any] | None = None) -> dict[str, list[str]]:
        """The ids in each place: queued (in ready or a lane), leased, waiting, parked."""
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
        """Assert the invariants I2 and I3, and that what belongs together is together.

        ``most`` is how many leases each limited task may have, if not as many as its limit is.
        """
        seen = self.read()
        jobs = seen.get("jobs", {})
        places = self.places(seen)
        marks = {job_id.decode(): mark for job_id, mark in seen.get("cancels", {}).items()}
        gone = {job_id for job_id in marks if job_id.encode() not in jobs}
        assert all(marks[job_id] == b"gone" for job_id in gone)
        assert gone <= set(places["queued"]), "what was cancelled in line lies there still"
        assert not marks or b" cancels" in seen["control"], "that there are marks is known"
        everything = Counter(job_id for ids in places.values() for job_id in ids)
        assert set(everything.values()) <= {1}, f"I2: disjoint: {everything}"
        assert set(everything) - gone == {job_id.decode() for job_id in jobs}, "I2: their union is jobs"
        leases = _decoded(lease for lease, _ in seen.get("leases", []))
        for job_id in marks.keys() - gone:
            place = "queued" if marks[job_id] == b"later" else "leased"
            assert job_id in places[place], "a mark goes with its job"
        headers = {job_id.decode(): Header.read(envelope) for job_id, envelope in jobs.items()}
        for job_id, header in headers.items():
            assert header is not None or job_id in places["parked"]
        for job_id, score in seen.get("future", []):
            due = headers[job_id.decode()]
            assert due is not None
            assert due.at == int(score), "its due is said in two places"
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
        """I3. A task whose limit was removed may keep slots of what was leased before."""
        known = {task.decode(): entry for task, entry in seen.get("control", {}).items() if task[:1] != b" "}
        limits = {task: limit for task, entry in known.items() if (limit := int(entry.split(b" ")[0]))}
        slots = {member.decode() for member, _ in seen.get("slots", [])}
        holders = set()
        for lease in leases:
            header = headers[lease.rpartition(":")[0]]
            assert header is not None, "what is leased can be read"
            holders.add(f"{header.task}\n{lease}")
        assert slots <= holders, "I3: a slot does not leak"
        assert {slot.partition("\n")[0] for slot in slots} <= set(known), "I3: only limited tasks have slots"
        for task, limit in limits.items():
            own = {holder for holder in holders if holder.startswith(task + "\n")}
            assert own <= slots, "I3: each lease of a limited task has a slot"
            assert len(own) <= (limit if most is None else most[task]), "I3: within the limit"
        control, opened = seen.get("control", {}), _decoded(seen.get("open", ()))
        held = {entry.partition(b"\n")[0].decode() for entry, _ in seen.get("lanes", [])}
        assert (b" lanes" in control) >= bool(held), "what is held back is known to be"
        for task in held:
            if task.startswith("?"):
                assert task not in opened, "what is parked waits for a worker that wants it"
                continue
            used = sum(slot.startswith(task + "\n") for slot in slots)
            assert task in opened or used >= limits.get(task, math.inf), "what may pass has an open gate"

    def check_drained(self) -> None:
        """I9: nothing is left but what is meant to, and that of each call and session for a time."""
        seen = self.read()
        assert {name for name in seen if not name.startswith(OF_SESSIONS)} <= REMAINING
        for name in seen:
            if name.startswith((*OF_SESSIONS, "dedup:")):
                assert self._client.pttl(self.prefix + name) > 0, f"{name} ends by itself"


def _decoded(values: Any) -> list[str]:
    return [value.decode("utf-8", "backslashreplace") for value in values]
