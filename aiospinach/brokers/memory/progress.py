"""The progress of running jobs, in memory."""

from __future__ import annotations

from collections.abc import Mapping

from ..progress import Step
from ..records import Envelope
from .queue import QueueState


def note_steps(state: QueueState, steps: Mapping[str, tuple[str, Step]], now: int, session: str) -> bool:
    """Store how far the jobs of these leases have come. Returns True if events of it were written."""
    jobs: list[tuple[Envelope, Step]] = []
    for lease, (_, step) in steps.items():
        if (job := state.leases.jobs.get(lease)) is not None:
            state.leases.progress[lease] = step.as_progress(now)
            jobs.append((job, step))
    if not (jobs and state.events.most):
        return False
    state.events.note_steps(jobs, now, state.names.get(session, ""))
    return True
