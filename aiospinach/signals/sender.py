"""Sends signals for one engine: under its namespace, and within its time limit."""

from __future__ import annotations

from contextvars import Context
from typing import Any

from .signal import SafeNamedSignal


class Sender:
    """The namespace and the time limit under which an engine sends signals.

    ``timeout`` is how many seconds the receivers of one sending have together, unless the signal has a
    ``timeout`` of its own.
    """

    __slots__ = ("namespace", "timeout")

    def __init__(self, namespace: str, timeout: float) -> None:
        self.namespace: str = namespace
        self.timeout: float = timeout

    async def send(
        self, signal: SafeNamedSignal, kwargs: dict[str, Any], *, context: Context | None = None
    ) -> None:
        """Send a signal and wait for its receivers.

        Receivers run in ``context``, by default that of the caller. If the call is cancelled, CancelledError
        is raised when the receivers have ended or their time is over.
        """
        if signal.receivers and not signal.is_muted:
            await signal._dispatch(self.namespace, kwargs, timeout=self.timeout, context=context)
