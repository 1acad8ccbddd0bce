"""Outages of a broker: one log line for the beginning, and one for the end."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..exceptions import BrokerUnavailable
from ..logs import Log

logger: Log = Log("aiospinach")

LOG_EVERY = 60.0
"""Seconds between two lines of the log about the same outage."""


class Outage:
    """An outage: from the first failed call of a service until all failed services were answered."""

    def __init__(self, what: str, fields: Mapping[str, str]) -> None:
        self._what = what
        self._fields = fields
        self._failing: set[str] = set()
        self._since = 0.0
        self._logged_at = 0.0
        self._repeated = 0
        self._refusals: set[str] = set()
        """Errors of this outage that are not about a server that is away."""

    def is_of(self, service: str) -> bool:
        """The last call of this service failed."""
        return service in self._failing

    def begin(self, service: str, error: Exception) -> None:
        """A call of a service failed."""
        now = time.monotonic()
        is_refusal = not isinstance(error, BrokerUnavailable)
        if not self._failing:
            self._since, self._repeated, self._logged_at = now, 0, now
            self._refusals = {str(error)} if is_refusal else set()
            logger.error("%s: %s: %s; trying on", self._what, service, error, fields=self._fields)
        elif is_refusal and str(error) not in self._refusals:
            self._refusals.add(str(error))
            logger.error("%s: %s, and now: %s; trying on", self._what, service, error, fields=self._fields)
        elif now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            logger.error(
                "%s: %s: %s; trying on, for %.0f s by now",
                self._what,
                service,
                error,
                now - self._since,
                fields=self._fields,
            )
        self._failing.add(service)

    def end(self, service: str, *, repeated: int = 0) -> None:
        """A call of a service was answered. A call that was a repeat had ``repeated`` outcomes of jobs."""
        if service in self._failing:
            self._failing.discard(service)
            self._repeated += repeated
            if not self._failing:
                self._log_end()

    def leave(self, service: str) -> None:
        """A service makes no more calls."""
        self._failing.discard(service)

    def _log_end(self) -> None:
        again = f"; the outcomes of {self._repeated} jobs were sent again" if self._repeated else ""
        lasted = time.monotonic() - self._since
        logger.warning(
            "%s: the broker answers again, after %.1f s%s", self._what, lasted, again, fields=self._fields
        )
