"""Carries out orders about jobs and queues in Redis."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ...job import JobStatus
from ..bulk import BulkResult, CancelSome, SteerDead
from ..orders import ORDERS
from ..pauses import Pause, Resume
from ..questions import Act, Cancel, Discard, Requeue, Reschedule, SteerResult
from . import schema, scripts
from .calls import ScriptCalls
from .queue_session import QueueSession

LEASES_AT_ONCE = 1000


class Steering:
    """``steer`` of one broker."""

    def __init__(self, calls: ScriptCalls) -> None:
        self._calls = calls

    async def steer(self, queue: str, act: Act[Any]) -> Any:
        state = self._calls.queue(queue)
        if isinstance(act, Cancel):
            return await self._cancel(state, act.job_id)
        if isinstance(act, Reschedule):
            return await self._reschedule(state, act)
        if isinstance(act, Pause):
            why = schema.encode_why(act.by, act.reason)
            await self._calls.produce(scripts.PAUSE, state, ["pause", act.task, act.until, why])
            return None
        if isinstance(act, Resume):
            _, was_paused = await self._calls.produce(scripts.PAUSE, state, ["resume", act.task])
            return bool(was_paused)
        if isinstance(act, CancelSome):
            return await self._cancel_some(state, act)
        if isinstance(act, SteerDead):
            return await self._steer_dead(state, act)
        assert isinstance(act, Requeue | Discard)
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

    async def _reschedule(self, state: QueueSession, act: Reschedule) -> SteerResult:
        async def move(action: str) -> bytes:
            _, where = await self._calls.produce(scripts.RESCHEDULE, state, [action, act.job_id, act.at])
            return bytes(where)

        where = await move("move")
        if where == b"marked":
            is_running = await self._is_leased(state, act.job_id)
            where = await move("running" if is_running else "move again")
        return SteerResult(JobStatus(where.decode()))

    async def _cancel_some(self, state: QueueSession, act: CancelSome) -> BulkResult:
        arguments = [act.task, int(act.with_jobs), self._calls.events, *(act.cursor or ("future", "", -1))]
        _, place, position, left, count, flat = await self._calls.produce(
            scripts.CANCEL_ALL, state, arguments
        )
        jobs = [schema.decode(job_id, envelope) for job_id, envelope in schema.pairs(flat)]
        return BulkResult(count, (place, position, left) if place else None, jobs=jobs)

    async def _steer_dead(self, state: QueueSession, act: SteerDead) -> BulkResult:
        action = "requeue" if act.is_to_run else "discard"
        error = "" if act.error is None else msgspec.json.encode(act.error)
        arguments = [action, act.task, act.reason, error, *(act.cursor or ("", ""))]
        _, after, last, count, bare = await self._calls.produce(scripts.BULK_DEAD, state, arguments)
        return BulkResult(count, (after, last) if after else None, bare)

    async def _steer(self, state: QueueSession, action: str, job_id: str, envelope: bytes = b"") -> Any:
        arguments = [action, job_id, state.keys.prefix + ORDERS, self._calls.events, envelope]
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
