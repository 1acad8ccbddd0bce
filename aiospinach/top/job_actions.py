"""The keys that steer a job, on each screen that has one in hand."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable

from textual.binding import Binding

from aiospinach import Engine, Job, JobStatus

from . import actions
from .dialogs import Confirm
from .live_screen import LiveScreen, T

JOB_KEYS = (
    Binding("r", "requeue", "Requeue"),
    Binding("n", "run_now", "Run now"),
    Binding("C", "cancel", "Cancel"),
    Binding("D", "discard", "Discard"),
)
_ALLOWED = {
    "requeue": {JobStatus.FAILED},
    "discard": {JobStatus.FAILED},
    "run_now": {JobStatus.WAITING},
    "cancel": {JobStatus.WAITING, JobStatus.QUEUED, JobStatus.RUNNING},
}
"""In which states of a job a key does something."""


class JobActions(LiveScreen[T]):
    """A screen with a job in hand and with JOB_KEYS. Capitals cannot be undone, and ask first."""

    @abstractmethod
    def job_in_hand(self) -> Job | None:
        """Return the job that a key steers."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something here: others are not shown."""
        if action in _ALLOWED:
            job = self.job_in_hand()
            return job is not None and job.status in _ALLOWED[action]
        return super().check_action(action, parameters)

    def action_requeue(self) -> None:
        """Queue the dead job again."""
        self._steer(actions.requeue)

    def action_run_now(self) -> None:
        """Queue the job that waits."""
        self._steer(actions.run_now)

    def action_cancel(self) -> None:
        """Cancel the job, if the user is sure."""
        self._steer(actions.cancel, "Cancel")

    def action_discard(self) -> None:
        """Forget the dead job, if the user is sure."""
        self._steer(actions.discard, "Discard")

    def _steer(self, act: Callable[[Engine, Job], Awaitable[str]], verb: str = "") -> None:
        job = self.job_in_hand()
        if job is None:
            return
        if not verb:
            self.carry_out(act(self.engine, job))
            return

        def answered(is_sure: bool | None) -> None:
            if is_sure:
                self.carry_out(act(self.engine, job))

        self.app.push_screen(Confirm(f"{verb} job {job.id} of task {job.task_name}?"), answered)
