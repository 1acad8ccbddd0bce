"""The application of the terminal view."""

from __future__ import annotations

import contextlib
from typing import ClassVar

from textual.app import App
from textual.binding import BindingType

from aiospinach import BrokerError, Engine, InvalidValue

from .overview_screen import OverviewScreen

SHORTEST_INTERVAL = 0.1


class TopApp(App[None]):
    """Shows the queues, jobs and workers of an engine, and steers them. It runs no jobs.

    ``interval`` is the time between two looks in seconds. With 2 seconds, it makes less than one call of the
    store a second; where the link is slow, it looks less often. Raises InvalidValue.
    """

    TITLE: str | None = "aiospinach top"
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False
    BINDINGS: ClassVar[list[BindingType]] = [("ctrl+c", "quit", "Quit")]

    def __init__(self, engine: Engine, *, interval: float = 2.0) -> None:
        super().__init__()
        if not isinstance(engine, Engine):
            raise InvalidValue(f"top takes an Engine, not {type(engine).__name__}")
        is_number = isinstance(interval, (int, float)) and not isinstance(interval, bool)
        if not is_number or not SHORTEST_INTERVAL <= interval <= 3600:
            raise InvalidValue(f"interval= takes 0.1 to 3600 seconds, not {interval!r}")
        self._engine = engine
        self._interval = float(interval)

    def on_mount(self) -> None:
        """Show the first screen."""
        self.push_screen(OverviewScreen(self._engine, self._interval))


async def show(app: TopApp, engine: Engine) -> None:
    """Run the application, and close the connections of the engine as it ends."""
    try:
        await app.run_async()
    finally:
        with contextlib.suppress(BrokerError):  # a store that is away has no connections to close
            async with engine:
                pass
