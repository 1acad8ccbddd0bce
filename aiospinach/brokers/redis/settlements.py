"""Settlements as arguments of the script ``exchange``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...outcome import SUCCESS
from ..records import Settlement
from . import schema

SETTLED_AT_ONCE = 1000
BYTES_AT_ONCE = 256 * 1024
"""Bytes of details, results and successors in one call, unless a single settlement has more."""

_DONE = SUCCESS.action


class SettlementArguments(NamedTuple):
    """The first settlements of a list, as many as fit into one call."""

    settled: Sequence[Settlement]
    arguments: list[Any]
    job_keys: list[str]
    """The keys of single jobs: each settled job that keeps its result has one."""


_NOTHING = SettlementArguments((), [], [])


def encode_settlements(settled: Sequence[Settlement], keys: schema.Keys) -> SettlementArguments:
    """Encode the first settlements of a list.

    Jobs that are simply done, without a result and a successor, stand in rows of one task, and others one by
    one. This is a part of the time of each job, so the loop calls nothing for a job that is simply done.
    """
    if not settled:
        return _NOTHING
    arguments: list[Any] = []
    job_keys: list[str] = []
    task, done = "", list[str]()
    size = count = 0
    for settlement in settled:
        if count == SETTLED_AT_ONCE or size > BYTES_AT_ONCE:
            break
        count += 1
        lease = settlement.lease
        job = lease.job
        is_simple = settlement.action is _DONE and settlement.successor is None and not job.result_ttl
        if done and not (is_simple and job.task == task):
            arguments += (task, len(done), *done)
            done = []
        if is_simple:
            task = job.task
            done.append(lease.id)
            continue
        arguments += _encode_one(settlement)
        size += _size_of(settlement)
        if job.result_ttl:
            job_keys.append(keys.result(job.id))
    if done:
        arguments += (task, len(done), *done)
    return SettlementArguments(settled[:count], arguments, job_keys)


def _encode_one(settlement: Settlement) -> list[Any]:
    word = "fail bare" if settlement.drops_arguments else settlement.action.value
    return [
        settlement.lease.job.task,
        *((0,) if settlement.pause is None else (-1, settlement.pause)),
        settlement.lease.id,
        word,
        schema.milliseconds(settlement.delay),
        settlement.detail,
        *schema.encode_successor(settlement.successor),
        *schema.encode_end_of(settlement),
    ]


def _size_of(settlement: Settlement) -> int:
    successor = settlement.successor
    return len(settlement.detail) + len(settlement.result) + (0 if successor is None else len(successor.body))
