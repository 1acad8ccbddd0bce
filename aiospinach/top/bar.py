"""The lines at the edges of a screen: its title, the tabs of a queue, and the state of the connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from textual.content import Content

from aiospinach.views import age, printable

from .cell import BAD, GOOD, MUTED, STRONG


def title_bar(path: Sequence[str], right: Content, width: int) -> Content:
    """Return the names of where the user is, and at the right a summary; of both, what there is room for."""
    names = [Content.styled(printable(name), STRONG) for name in path]
    left = Content.styled(" / ", MUTED).join(names)
    room = width - left.cell_length - 2
    if room < 8:
        return left.truncate(width, ellipsis=True)
    right = right.truncate(room, ellipsis=True)
    return Content.assemble(left, " " * (width - left.cell_length - right.cell_length), right)


def tab_bar(tabs: Sequence[tuple[str, str]], active: int) -> Content:
    """Return a line of tabs, each with a title and a count."""
    parts = []
    for number, (title, count) in enumerate(tabs):
        style = "reverse bold" if number == active else MUTED
        parts.append(Content.styled(f" {title} {count} ".replace("  ", " "), style))
    return Content(" ").join(parts)


class Connection(NamedTuple):
    """Whether the store answers."""

    read_at: datetime | None = None
    """When it answered last."""
    failed_since: datetime | None = None
    """Since when it has not answered; None if it answers."""
    error: str = ""

    @property
    def is_away(self) -> bool:
        """The store has not answered the last time."""
        return self.failed_since is not None

    def answered(self, now: datetime) -> Connection:
        """Return the connection after an answer."""
        return Connection(read_at=now)

    def failed(self, now: datetime, error: str) -> Connection:
        """Return the connection after an error. The first error of several has the moment."""
        return Connection(self.read_at, self.failed_since or now, error)


def status_line(connection: Connection, note: Content, now: datetime) -> Content:
    """Return the note of an action if there is one; an error of the store comes before it."""
    since = connection.failed_since
    if since is None:
        return note
    lasts = age((now - since).total_seconds())
    shown = " The last data is shown." if connection.read_at is not None else ""
    sentence = f"No data since {since:%H:%M:%S} UTC, for {lasts}.{shown} {printable(connection.error)}"
    return Content.styled(sentence, BAD)


def good_note(sentence: str) -> Content:
    """Return what an action has done."""
    return Content.styled(printable(sentence), GOOD)


def bad_note(sentence: str) -> Content:
    """Return why an action was not carried out."""
    return Content.styled(printable(sentence), BAD)
