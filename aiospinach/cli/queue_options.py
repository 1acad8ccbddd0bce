"""The option ``--queue``: queues in their order, or with their shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .exits import WrongUsage

Queues = Sequence[str] | Mapping[str, int]
"""What ``start_workers(queue=)`` takes."""


def read_queues(options: Sequence[str] | None) -> Queues | None:
    """Return the queues of the options; None if there is no option. Raises WrongUsage."""
    if not any("=" in option for option in options or ()):
        return options or None
    shares: dict[str, int] = {}
    for option in options or ():
        queue, _, weight = option.partition("=")
        if not (weight.isascii() and weight.isdigit()):
            raise WrongUsage(
                f"--queue takes a share for each queue or for none, as in -q {queue}=3, not {option}"
            )
        if queue in shares:
            raise WrongUsage(f"--queue names the queue {queue} twice")
        shares[queue] = int(weight)
    return shares


def queue_options(queues: Queues | None) -> list[str]:
    """Return the words of the options, for another process."""
    weights = queues if isinstance(queues, Mapping) else {}
    names = [f"{queue}={weights[queue]}" if queue in weights else queue for queue in queues or ()]
    return [word for name in names for word in ("--queue", name)]
