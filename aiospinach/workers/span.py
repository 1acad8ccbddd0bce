"""Queues that one call to the broker can name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .outage import Outage


class Span:
    """What the consumers, the listener and the sweeper of these queues share."""

    def __init__(self, queues: Sequence[str], fields: Mapping[str, str]) -> None:
        self.queues: tuple[str, ...] = tuple(queues)
        self.outage: Outage = Outage(f"queues {', '.join(queues)}", fields)
        self.asking: int = 0
        """Queues that were woken, and whose exchange that asks for jobs is not answered yet."""
