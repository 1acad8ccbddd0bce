"""The slots of a pool: decides how many more jobs it may ask for, and from which of its queues."""

from __future__ import annotations

from collections.abc import Callable

from .turns import Turns


class Slots:
    """The slots of a pool, and the turns of its queues.

    A job is *running* from its lease to the end of its body, and *finishing* from there to its last signal.
    *Claimed* slots are asked for in an exchange under way. The pool sets the callbacks.
    """

    def __init__(self, number: int, turns: Turns) -> None:
        self.number = number
        self.turns = turns
        self.on_free: Callable[[], None]
        """Called when a slot is free, for the queue that has the next turn."""
        self.on_turn: Callable[[], None]
        """Called when another queue may have the next turn: listeners decide again what to wait for."""
        self.running: int = 0
        self.finishing: int = 0
        self.claimed: int = 0

    @property
    def free(self) -> int:
        """How many jobs may be asked for now.

        At most ``number`` bodies run, and at most twice as many jobs run or finish. So slow receivers slow
        the jobs down.
        """
        used = self.running + self.claimed
        return max(0, min(self.number - used, 2 * self.number - used - self.finishing))

    def claim(self, place: int, most: int | None = None) -> int:
        """Claim free slots for an exchange with the queue at this place: all of them, or at most ``most``.

        Returns the number of claimed slots; 0 while the turn is another queue's. The caller passes the number
        to ``unclaim`` when the exchange has ended.
        """
        if not self.turns.may_ask(place):
            return 0
        free = self.free if most is None else min(self.free, most)
        self.claimed += free
        self.turns.charge(place, free)
        return free

    def worth_waiting_for(self) -> int | None:
        """The place before which empty queues are worth waiting for; None if all are worth it.

        While a slot is free, all empty queues are worth it.
        """
        return None if self.free else self.turns.places_before_which_to_wait()

    def unclaim(self, place: int, count: int) -> None:
        """Return the slots that an exchange claimed."""
        self.claimed -= count
        self.turns.charge(place, -count)

    def start(self) -> None:
        """Count a job that was leased."""
        self.running += 1

    def end_body(self) -> None:
        """Count a body that has ended."""
        self.running -= 1
        self.finishing += 1

    def finish(self) -> bool:
        """Count a job that has sent its last signal.

        Returns True if this makes a slot free: so many jobs were finishing that they held slots.
        """
        self.finishing -= 1
        return self.finishing >= self.number
