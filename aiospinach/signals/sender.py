"""Sending signals for one engine."""

from __future__ import annotations

from contextvars import Context
from typing import Any

from .signal import SafeNamedSignal


class Sender:
    """Sends signals under the namespace of an engine, and within its time limit.

    ``timeout`` is how many seconds the receivers of one sending have together, unless the signal says
    otherwise.
    """

    __slots__ = ("namespace", "timeout")

    def __init__(self, namespace: str, timeout: float) -> None:
        self.namespace: str = namespace
        self.timeout: float = timeout

    async def send(
        self, signal: SafeNamedSignal, kwargs: dict[str, Any], *, context: Context | None = None
    ) -> None:
        """Send a signal and wait for its receivers; it costs nothing if there are none.

        Receivers run in ``context``, or in the context of the caller. If it is cancelled, the receivers still
        get their time before the cancellation goes on.
        """
        if signal.receivers and not signal.is_muted:
            await signal._dispatch(self.namespace, kwargs, timeout=self.timeout, context=context)
