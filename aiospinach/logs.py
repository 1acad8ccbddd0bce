"""The logger of the package: records with fields, which never raise and may be throttled."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Hashable, Mapping
from types import TracebackType
from typing import Final

from .job import Job

Fields = Mapping[str, str] | None
ExcInfo = BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | None


FIELDS: Final = ("namespace", "queue", "task_name", "job_id", "worker")
"""Attributes that every record has; None if the record is not about such a thing."""


def fields_of(job: Job) -> dict[str, str]:
    """The fields of a record about a job."""
    return {
        "namespace": job.namespace,
        "queue": job.queue,
        "task_name": job.task_name,
        "job_id": job.id,
    }


class Log:
    """A logger that never raises, and whose records have ``FIELDS``.

    A Job among the arguments of a record sets the first four, and ``fields`` sets others. If a handler or a
    filter raises, the record is lost, and standard error gets one line. The caller goes on.
    """

    def __init__(self, name: str) -> None:
        self._logger: Final = logging.getLogger(name)

    def debug(self, message: str, *arguments: object, fields: Fields = None) -> None:
        self._log(logging.DEBUG, message, arguments, fields)

    def info(self, message: str, *arguments: object, fields: Fields = None) -> None:
        self._log(logging.INFO, message, arguments, fields)

    def warning(
        self, message: str, *arguments: object, exc_info: ExcInfo = None, fields: Fields = None
    ) -> None:
        self._log(logging.WARNING, message, arguments, fields, exc_info)

    def error(
        self, message: str, *arguments: object, exc_info: ExcInfo = None, fields: Fields = None
    ) -> None:
        self._log(logging.ERROR, message, arguments, fields, exc_info)

    def critical(
        self, message: str, *arguments: object, exc_info: ExcInfo = None, fields: Fields = None
    ) -> None:
        self._log(logging.CRITICAL, message, arguments, fields, exc_info)

    def _log(
        self,
        level: int,
        message: str,
        arguments: tuple[object, ...],
        fields: Fields,
        exc_info: ExcInfo = None,
    ) -> None:
        try:
            if not self._logger.isEnabledFor(level):
                return
            extra: dict[str, str | None] = dict.fromkeys(FIELDS)
            for argument in arguments:
                if isinstance(argument, Job):
                    extra.update(fields_of(argument))
            extra.update(fields or {})
            # The record names the line of the caller.
            self._logger.log(level, message, *arguments, exc_info=exc_info, stacklevel=3, extra=extra)
        except Exception as error:
            with contextlib.suppress(Exception):
                print(f"aiospinach: a log record was lost: {type(error).__name__}", file=sys.stderr)


class LogThrottle:
    """Remembers what was logged lately, so that no line is repeated too often."""

    def __init__(self) -> None:
        self._until: dict[Hashable, float] = {}

    def allows(self, what: Hashable, every: float) -> bool:
        """True if ``what`` was not logged within the last ``every`` seconds; it counts as logged now."""
        now = time.monotonic()
        if now < self._until.get(what, now):
            return False
        self._until = {key: until for key, until in list(self._until.items()) if until > now}
        self._until[what] = now + every
        return True
