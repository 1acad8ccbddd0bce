"""The surroundings of jobs: context that travels, context managers around bodies, overrides, redaction."""

from __future__ import annotations

from .around import Around
from .carried import Carried
from .dependencies import Overrides
from .redaction import REDACT_NOTHING, Redaction


class Surroundings:
    """What the jobs of one engine run in, wherever they run."""

    def __init__(self) -> None:
        self.redaction: Redaction = REDACT_NOTHING
        self.carried: Carried = Carried()
        self.arounds: list[Around] = []
        """The first is the outermost."""
        self.overrides: Overrides = Overrides()
