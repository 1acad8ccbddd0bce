"""A screen that reads its data again and again, and goes on while the store is away."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

from aiospinach import AiospinachError, BrokerError, Engine

from .bar import Connection, bad_note, good_note, status_line

if TYPE_CHECKING:
    from textual.timer import Timer

T = TypeVar("T")

OPEN = Binding("enter", "open", "Open", key_display="⏎", priority=True)
BACK = Binding("escape", "back", "Back")
QUIT = Binding("q", "app.quit", "Quit")
SHARE = 5
"""A read takes at most this part of the time: a slow link is asked less often."""
NOTE_FOR = 6.0
"""Seconds for which the result of an action is shown."""


class LiveScreen(Screen[None], Generic[T]):
    """Shows snapshots of type T. A subclass reads them, and draws them."""

    DEFAULT_CSS: ClassVar[str] = """
    LiveScreen {
        layout: vertical;
        & #title, & #status {
            height: 1;
            padding: 0 1;
            text-wrap: nowrap;
            text-overflow: ellipsis;
        }
        & #title {
            background: $panel;
        }
        & #body {
            height: 1fr;
        }
        &.-stale #body {
            opacity: 45%;
        }
    }
    """

    def __init__(self, engine: Engine, interval: float) -> None:
        super().__init__()
        self.engine: Engine = engine
        self.interval: float = interval
        self.snapshot: T | None = None
        self._title = Static(id="title")
        self._status = Static(id="status")
        self._connection = Connection()
        self._note = Content("")
        self._note_ends: Timer | None = None
        self._is_wanted_now = asyncio.Event()

    # What a subclass has.

    @property
    def calls(self) -> int:
        """How many calls of the store a read takes, at most."""
        return 1

    @abstractmethod
    async def read(self) -> T:
        """Return a new snapshot. Raises a BrokerError."""

    @abstractmethod
    def body(self) -> list[Widget]:
        """Return the widgets between the title and the status."""

    @abstractmethod
    def title_of(self, snapshot: T | None, width: int) -> Content:
        """Return the first line."""

    @abstractmethod
    def draw(self, snapshot: T) -> None:
        """Show a snapshot in the widgets of the body."""

    def now(self) -> datetime:
        """Return this moment, by the clock of this machine."""
        return datetime.now(UTC)

    # Within.

    def compose(self) -> ComposeResult:
        yield self._title
        yield Vertical(*self.body(), id="body")
        yield self._status
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """While the store is away, the last line counts the seconds."""
        self.set_interval(1.0, self._count_seconds)

    def on_screen_resume(self) -> None:
        """The screen is seen: read until it is hidden, also by a dialog."""
        self.run_worker(self._keep_fresh(), group="reads", exclusive=True)

    def on_screen_suspend(self) -> None:
        """The screen is hidden."""
        self.workers.cancel_group(self, "reads")

    def on_resize(self) -> None:
        """The terminal has another size."""
        self.call_after_refresh(self.redraw)

    async def _keep_fresh(self) -> None:
        while True:
            self._is_wanted_now.clear()
            began = time.monotonic()
            await self._read_once()
            took = time.monotonic() - began
            pause = self.pause_after(0.0 if self._connection.is_away else took)
            try:
                await asyncio.wait_for(self._is_wanted_now.wait(), pause)
            except TimeoutError:
                continue

    def pause_after(self, seconds: float) -> float:
        """Return for how long to wait after a read that took some seconds: with an interval of two seconds,
        the store gets less than one call a second."""
        return max(self.interval, self.calls * self.interval / 2, SHARE * seconds)

    async def _read_once(self) -> None:
        try:
            self.snapshot = await self.read()
        except BrokerError as error:
            self._connection = self._connection.failed(self.now(), str(error))
        except AiospinachError as error:  # such as a filter that names no task
            self.note(bad_note(str(error)))
        else:
            self._connection = self._connection.answered(self.now())
        self.redraw()

    def redraw(self) -> None:
        """Show the last snapshot, and whether it is fresh."""
        if not self.is_mounted:
            return
        self.set_class(self._connection.is_away, "-stale")
        self._title.update(self.title_of(self.snapshot, max(1, self.size.width - 2)))
        self._show_status()
        if self.snapshot is not None:
            self.draw(self.snapshot)
        self.refresh_bindings()

    def _show_status(self) -> None:
        self._status.update(status_line(self._connection, self._note, self.now()))

    def _count_seconds(self) -> None:
        if self._connection.is_away:
            self._show_status()

    def read_now(self) -> None:
        """Read without waiting for the next turn."""
        self._is_wanted_now.set()

    def carry_out(self, action: Awaitable[str]) -> None:
        """Carry out an action, and show the sentence that it returns, or its error."""

        async def run() -> None:
            try:
                self.note(good_note(await action))
            except AiospinachError as error:
                self.note(bad_note(str(error)))
            self.read_now()

        self.run_worker(run(), group="actions")

    def note(self, content: Content) -> None:
        """Show the result of an action for some seconds."""
        self._note = content
        if self._note_ends is not None:
            self._note_ends.stop()
        self._note_ends = self.set_timer(NOTE_FOR, self._end_note)
        self.redraw()

    def _end_note(self) -> None:
        self._note = Content("")
        self.redraw()

    def action_back(self) -> None:
        """Leave the screen. The first one stays."""
        if len(self.app.screen_stack) > 2:
            self.app.pop_screen()
