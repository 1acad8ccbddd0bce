"""The pauses of one queue, in memory."""

from __future__ import annotations

import msgspec

from ..pauses import WHOLE_QUEUE, StoredPause


class Pauses(dict[str, StoredPause]):
    """Pauses by the name of their task, or WHOLE_QUEUE. A pause is in force until it is removed."""

    @property
    def has_queue(self) -> bool:
        """The whole queue is paused."""
        return WHOLE_QUEUE in self

    def hold(self, task: str) -> bool:
        """Return whether a pause keeps jobs of the task from starting."""
        return bool(self) and (task in self or WHOLE_QUEUE in self)

    def put(self, pause: StoredPause) -> None:
        """Begin a pause. One that exists is replaced, and keeps its beginning."""
        before = self.get(pause.task, pause)
        self[pause.task] = msgspec.structs.replace(pause, since=before.since)

    def prolong(self, pause: StoredPause) -> None:
        """Begin a pause, unless there is one without an end, or until a later moment."""
        before = self.get(pause.task)
        is_longer = before is not None and (not before.until or before.until >= pause.until)
        if is_longer:  # guard: longer pause in memory
            return
        self.put(pause)

    def end(self, now: int) -> None:
        """Remove the pauses whose time is over."""
        for pause in list(self.values()):
            if pause.is_over(now):
                del self[pause.task]

    def next_end(self) -> int | None:
        """Return when the next pause ends; None if none has an end."""
        return min((pause.until for pause in self.values() if pause.until), default=None)
