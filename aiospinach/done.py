"""The end of a job that somebody waited for."""

from __future__ import annotations

from typing import Generic, TypeVar, cast

import msgspec

from .exceptions import AiospinachError
from .job import Job

R = TypeVar("R")


class Done(msgspec.Struct, Generic[R], frozen=True, kw_only=True, eq=False):
    """A job that has ended, from ``Engine.as_completed``. The repr does not show the result."""

    job: Job[R]
    """The snapshot that the caller passed."""
    error: AiospinachError | None = None
    """Why there is no result, as ``Engine.result`` would raise it; None if there is one."""
    _result: R | None = None

    @property
    def result(self) -> R:
        """The result of the job. Raises ``error`` if there is one."""
        if self.error is not None:
            raise self.error
        return cast("R", self._result)

    def __repr__(self) -> str:
        outcome = "done" if self.error is None else type(self.error).__name__
        return f"<Done {outcome} {self.job!r}>"
