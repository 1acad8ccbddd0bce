"""A span: queues that one call to the broker can name, and the state that their services share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .outage import Outage


class Span:
    """The state that the consumers, the listener and the sweeper of these queues share."""

    def __init__(self, queues: Sequence[str], fields: Mapping[str, str]) -> None:
        self.queues: tuple[str, ...] = tuple(queues)
        self.outage: Outage = Outage(f"queues {', '.join(queues)}", fields)
        self.asking: int = 0
        """How many queues were woken whose exchange that asks for jobs is not answered yet."""
