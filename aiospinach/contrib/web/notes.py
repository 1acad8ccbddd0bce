"""Notes: what an action has done, in one sentence on the page that follows.

The URL of that page holds the name of the note and a number, and no text: so no link can put words into the
view.
"""

from __future__ import annotations

from aiospinach.views import number

_ONE_AND_MANY = {
    "cancelled": ("1 job was cancelled.", "{} jobs were cancelled."),
    "requeued": ("1 dead job was queued again.", "{} dead jobs were queued again."),
    "discarded": ("1 dead job was discarded.", "{} dead jobs were discarded."),
    "run": ("1 job is queued now.", "{} jobs are queued now."),
    "moved": ("1 job was moved to another moment.", "{} jobs were moved to another moment."),
    "paused": ("It is paused. Jobs that run go on.", ""),
    "resumed": ("The pause has ended.", ""),
    "scheduled": ("The job is scheduled.", ""),
}
NOTHING = "Nothing was changed: what you saw had changed meanwhile."


def note_of(name: str, count: str) -> str | None:
    """The sentence of a note; None if there is no such note."""
    if name not in _ONE_AND_MANY or not count.isascii() or not count.isdigit() or len(count) > 9:
        return None
    one, many = _ONE_AND_MANY[name]
    if int(count) == 0:
        return NOTHING
    return one if int(count) == 1 or not many else many.format(number(int(count)))
