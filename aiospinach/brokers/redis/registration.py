"""Registers limits and periodic tasks of a queue in Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import schema, scripts
from .calls import ScriptCalls
from .queue_session import QueueSession


class Registration:
    """``register`` of one broker."""

    def __init__(self, calls: ScriptCalls) -> None:
        self._work = calls.work

    async def register(
        self, state: QueueSession, limits: Mapping[str, int], periodic: Mapping[str, int], worker: str
    ) -> Mapping[str, int]:
        state.worker = worker
        state.periodic.update(periodic)
        if state.has_lost_dues or state.is_uncertain:
            limits = {**state.registered, **limits}
        state.has_lost_dues, replaced = await self.renew(state, limits, periodic)
        return replaced

    async def renew(
        self, state: QueueSession, limits: Mapping[str, int], periodic: Mapping[str, int]
    ) -> tuple[bool, Mapping[str, int]]:
        """Register tasks. Returns whether the server had lost earlier registrations, and the replaced
        limits."""
        arguments = state.register_arguments(limits, periodic)
        was_uncertain, state.is_uncertain = state.is_uncertain, True
        now, epoch, was_lost, adopted, replaced = await self._work(scripts.REGISTER, state, arguments)
        state.note_registered(limits, now, epoch)
        state.is_uncertain = False
        if adopted:
            await self._adopt(state, adopted)
        if was_lost and len(state.limits) > len(limits):  # guard: limits registered before
            await self.renew(state, state.registered, {})
        return bool(was_lost or was_uncertain), {
            task.decode(): int(limit) for task, limit in schema.pairs(replaced)
        }

    async def _adopt(self, state: QueueSession, tasks: Sequence[bytes]) -> None:
        """Count the running jobs of tasks that had no limit when these jobs were leased."""
        cursor = b"0"
        while True:
            _, cursor = await self._work(scripts.ADOPT, state, [cursor, *tasks])
            if cursor == b"0":
                return
