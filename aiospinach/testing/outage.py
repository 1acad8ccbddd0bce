"""Outages of the broker that a test makes."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self


class Outage:
    """A time in which the broker does not answer: until a moment of the test's clock, or until it is ended.

    As a context manager it ends with the block.
    """

    def __init__(self, now: Callable[[], int], until: int | None, *, lose_answers: bool) -> None:
        self._now = now
        self.until: int | None = until
        """When it ends, in milliseconds since 1970; None: when it is ended."""
        self.loses_answers: bool = lose_answers
        """Jobs are stored, and the answers that say so are lost. Other calls are answered."""
        self._has_ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    @property
    def is_over(self) -> bool:
        """The broker answers again."""
        return self._has_ended or (self.until is not None and self._now() >= self.until)

    def end(self) -> None:
        """Have the broker answer again."""
        self._has_ended = True
