"""The progress of running jobs, in memory."""

from __future__ import annotations

from collections.abc import Mapping

from ..progress import Step
from .queue import QueueState


def note_steps(state: QueueState, steps: Mapping[str, tuple[str, Step]], now: int, session: str) -> bool:
    """Store how far jobs have come, by lease. Returns whether readers of events are told of it."""
    live = [(lease, step) for lease, (_, step) in steps.items() if lease in state.leases.jobs]
    for lease, step in live:  # guard: progress of a lease in memory
        state.leases.progress[lease] = step.as_progress(now)
    if not (live and state.events.most):
        return False
    jobs = [(state.leases.jobs[lease], step) for lease, step in live]
    state.events.note_steps(jobs, now, state.names.get(session, ""))
    return True
