"""Errors that the log has shown with a traceback: later ones of the same kind have none."""

from __future__ import annotations

from ..job import Job
from ..outcome import is_planned

KINDS_AT_MOST = 1000
"""So many kinds of errors are remembered."""


class KnownErrors:
    """The errors of bodies that were logged with a traceback. A kind is a task, a class and a line."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, type[BaseException], object]] = set()

    def is_new(self, job: Job, error: BaseException) -> bool:
        """The error is the first of its kind, and the body did not plan it."""
        if is_planned(error):
            return False
        kind = job.task_name, type(error), _line_of(error)
        if kind in self._seen:
            return False
        if len(self._seen) >= KINDS_AT_MOST:
            self._seen.clear()
        self._seen.add(kind)
        return True


def _line_of(error: BaseException) -> object:
    """Where it was raised."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return None if traceback is None else (traceback.tb_frame.f_code, traceback.tb_lineno)
