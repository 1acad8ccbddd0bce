"""Reads the ends of jobs that keep results, in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..results import FoundJob, decode_record
from . import schema, scripts
from .calls import ScriptCalls
from .queue_session import QueueSession

READ_AT_ONCE = 100
"""Jobs that one call of the script reads, at most."""


async def read_results(calls: ScriptCalls, state: QueueSession, job_ids: Sequence[str]) -> list[FoundJob]:
    """Return what is known of the first of these jobs, in their order; of one at least."""
    some = job_ids[:READ_AT_ONCE]
    keys = [state.keys.result(job_id) for job_id in some]
    _, *answer = await calls.produce(scripts.RESULTS, state, some, keys)
    return list(map(_decode, some, *(answer[part::4] for part in range(4))))


def _decode(job_id: str, live: bytes, record: bytes, dead: bytes, is_readable: Any) -> FoundJob:
    name = job_id.encode()
    return FoundJob(
        schema.decode(name, live) if live else None,
        decode_record(record) if record else None,
        schema.decode_dead(name, dead, is_readable) if dead else None,
    )
