"""The surroundings of jobs: context that travels, context managers around bodies, overrides, redaction."""

from __future__ import annotations

from .around import Around
from .carried import Carried
from .dependencies import Overrides
from .redaction import Redaction


class Surroundings:
    """What the jobs of one engine run in, wherever they run."""

    def __init__(self, redaction: Redaction) -> None:
        self.redaction: Redaction = redaction
        self.carried: Carried = Carried(redaction)
        self.arounds: list[Around] = []
        """The first is the outermost."""
        self.overrides: Overrides = Overrides()
