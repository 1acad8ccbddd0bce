"""Cancels, requeues and discards jobs in Redis."""

from __future__ import annotations

import re
from typing import Any

from ...job import JobStatus
from ..orders import ORDERS
from ..questions import Act, Cancel, Requeue, SteerResult
from . import schema, scripts
from .calls import ScriptCalls
from .queue_session import QueueSession

LEASES_AT_ONCE = 1000


class Steering:
    """``steer`` of one broker."""

    def __init__(self, calls: ScriptCalls) -> None:
        self._calls = calls

    async def steer(self, queue: str, act: Act) -> SteerResult:
        state = self._calls.queue(queue)
        if isinstance(act, Cancel):
            return await self._cancel(state, act.job_id)
        action = "requeue" if isinstance(act, Requeue) else "discard"
        _, where, why = await self._steer(state, action, act.job_id)
        return SteerResult(JobStatus(where.decode()), is_bare=why == b"bare")

    async def _cancel(self, state: QueueSession, job_id: str) -> SteerResult:
        _, where, envelope = await self._steer(state, "cancel", job_id)
        if where == b"marked":
            if await self._is_leased(state, job_id):
                where = b"running"
            else:  # it is in a line, where the mark stops it, or it has ended
                _, where, _ = await self._steer(state, "cancel again", job_id, envelope)
        job = schema.decode(job_id.encode(), envelope) if envelope and where != b"not_set" else None
        return SteerResult(JobStatus(where.decode()), job)

    async def _steer(self, state: QueueSession, action: str, job_id: str, envelope: bytes = b"") -> Any:
        arguments = [action, job_id, state.keys.prefix + ORDERS, envelope]
        return await self._calls.produce(scripts.STEER, state, arguments, [state.keys.result(job_id)])

    async def _is_leased(self, state: QueueSession, job_id: str) -> bool:
        """Return whether a job has a lease; reads all leases, a thousand a call."""
        cursor, pattern = b"0", re.sub(r"[\[\]*?\\]", r"\\\g<0>", job_id) + ":*"
        while True:
            found: list[bytes]
            cursor, found = await self._calls.ask(
                "ZSCAN", state.keys.leases, cursor, "MATCH", pattern, "COUNT", LEASES_AT_ONCE
            )
            if any(lease.rpartition(b":")[0] == job_id.encode() for lease in found[::2]):
                return True
            if cursor == b"0":
                return False
