"""Log records that harm no caller."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Hashable
from types import TracebackType
from typing import Final

ExcInfo = BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | None


class Log:
    """A logger that never raises.

    A handler may fail to deliver a record, and a filter may raise. Such a record is lost, and one line on
    standard error says so; the job, the receiver or the service that wrote it goes on.
    """

    def __init__(self, name: str) -> None:
        self._logger: Final = logging.getLogger(name)

    def debug(self, message: str, *arguments: object) -> None:
        self._log(logging.DEBUG, message, arguments)

    def info(self, message: str, *arguments: object) -> None:
        self._log(logging.INFO, message, arguments)

    def warning(self, message: str, *arguments: object, exc_info: ExcInfo = None) -> None:
        self._log(logging.WARNING, message, arguments, exc_info)

    def error(self, message: str, *arguments: object, exc_info: ExcInfo = None) -> None:
        self._log(logging.ERROR, message, arguments, exc_info)

    def critical(self, message: str, *arguments: object, exc_info: ExcInfo = None) -> None:
        self._log(logging.CRITICAL, message, arguments, exc_info)

    def _log(self, level: int, message: str, arguments: tuple[object, ...], exc_info: ExcInfo = None) -> None:
        try:
            # The record names the line of the caller.
            self._logger.log(level, message, *arguments, exc_info=exc_info, stacklevel=3)
        except Exception as error:
            with contextlib.suppress(Exception):
                print(f"aiospinach: a log record was lost: {type(error).__name__}", file=sys.stderr)


class LogThrottle:
    """What was told lately, so that the log repeats nothing too often."""

    def __init__(self) -> None:
        self._until: dict[Hashable, float] = {}

    def allows(self, what: Hashable, every: float) -> bool:
        """It was not told within the last ``every`` seconds; it counts as told from now on."""
        now = time.monotonic()
        if now < self._until.get(what, now):
            return False
        self._until = {key: until for key, until in self._until.items() if until > now}
        self._until[what] = now + every
        return True
