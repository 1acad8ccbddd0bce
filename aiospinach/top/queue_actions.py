"""The keys that pause and resume a queue, on each screen that has one in hand."""

from __future__ import annotations

from abc import abstractmethod

from textual.binding import Binding

from . import actions
from .dialogs import AskText
from .live_screen import LiveScreen, T

QUEUE_KEYS = (
    Binding("p", "pause", "Pause"),
    Binding("u", "resume", "Resume"),
)
REASON_HELP = "The reason, for people that wonder (may be empty). Enter pauses, escape does not."


class QueueActions(LiveScreen[T]):
    """A screen with a queue in hand, and with QUEUE_KEYS."""

    @abstractmethod
    def queue_in_hand(self) -> str | None:
        """Return the name of the queue that a key steers."""

    @abstractmethod
    def has_pauses(self) -> bool:
        """Return whether something of that queue is paused."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something here: others are not shown."""
        if action == "pause":
            return self.queue_in_hand() is not None
        if action == "resume":
            return self.has_pauses()
        return super().check_action(action, parameters)

    def action_pause(self) -> None:
        """Pause the queue, for a reason that the user types."""
        queue = self.queue_in_hand()
        if queue is None:
            return

        def answered(reason: str | None) -> None:
            if reason is not None:
                self.carry_out(actions.pause(self.engine, queue, reason.strip()))

        self.app.push_screen(AskText(f"Pause the queue {queue}?", REASON_HELP), answered)

    def action_resume(self) -> None:
        """End the pause of the queue, or else those of its tasks."""
        if (queue := self.queue_in_hand()) is not None:
            self.carry_out(actions.resume(self.engine, queue))
