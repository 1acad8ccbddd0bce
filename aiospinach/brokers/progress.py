"""The progress of running jobs, as brokers keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..job import Progress
from ..timing import from_milliseconds

STEPS_KEPT = 100
"""How many rows of ``job_progress`` a queue keeps, for readers that wait."""


class Step(msgspec.Struct, frozen=True, array_like=True):
    """How far a job has come: what a worker reports, and what is stored as JSON."""

    current: int | float
    total: int | float | None = None
    note: str = ""

    def as_progress(self, at: int) -> Progress:
        """Return it as users see it; ``at`` is when it was stored, in milliseconds since 1970."""
        return Progress(self.current, self.total, self.note, from_milliseconds(at))

    @property
    def data(self) -> Mapping[str, Any]:
        """The data of an event."""
        return {"current": self.current, "total": self.total, "note": self.note}


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Step)


def encode_step(step: Step) -> bytes:
    """Return the step as JSON in one line."""
    return _encoder.encode(step)


def decode_step(text: bytes | str) -> Step:
    """Return the step in a JSON text. Raises ValueError."""
    return _decoder.decode(text)


def decode_progress(stored: bytes) -> Progress | None:
    """Return the progress in ``<moment> <step>``; None if it is missing or malformed."""
    moment, _, text = stored.partition(b" ")
    try:
        return decode_step(text).as_progress(int(moment))
    except (ValueError, OverflowError, OSError):
        return None
