"""Log records that harm no caller."""

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
"""Attributes that every record has. They are None where a record is about something else."""


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

    A Job among the arguments of a record sets the first four, and ``fields`` sets others. A handler may fail
    to deliver a record, and a filter may raise. Such a record is lost, and one line on standard error says
    so; the job, the receiver or the service that wrote it goes on.
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
    """Remembers what was logged lately, so that nothing is repeated too often."""

    def __init__(self) -> None:
        self._until: dict[Hashable, float] = {}

    def allows(self, what: Hashable, every: float) -> bool:
        """True if it was not logged within the last ``every`` seconds. It counts as logged from now on."""
        now = time.monotonic()
        if now < self._until.get(what, now):
            return False
        self._until = {key: until for key, until in self._until.items() if until > now}
        self._until[what] = now + every
        return True
