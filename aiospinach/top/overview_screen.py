"""The first screen: all queues."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static

from aiospinach import Engine
from aiospinach.views import Overview, OverviewReader

from .bar import title_bar
from .live_screen import OPEN, QUIT
from .queue_actions import QUEUE_KEYS, QueueActions
from .queue_screen import QueueScreen
from .queues import NO_QUEUES, history, queue_detail, queue_table, summary
from .table_view import TableView
from .workers_screen import WorkersScreen

CHART_FROM = 28
"""A terminal of so many lines has room for a chart of the last hour."""


class OverviewScreen(QueueActions[Overview]):
    """Lists the queues with their counts, rates and pauses."""

    DEFAULT_CSS: ClassVar[str] = """
    #chart {
        padding: 1;
        height: auto;
    }
    #detail {
        height: 3;
        padding: 0 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        OPEN,
        Binding("w", "workers", "Workers"),
        *QUEUE_KEYS,
        QUIT,
    ]

    def __init__(self, engine: Engine, interval: float) -> None:
        super().__init__(engine, interval)
        self._reader = OverviewReader(engine)
        self._chart = Static(id="chart")
        self._table = TableView()
        self._detail = Static(id="detail")

    def body(self) -> list[Widget]:
        return [self._chart, self._table, self._detail]

    async def read(self) -> Overview:
        return await self._reader.read()

    def title_of(self, snapshot: Overview | None, width: int) -> Content:
        right = Content("") if snapshot is None else summary(snapshot)
        return title_bar(["aiospinach", self.engine.namespace], right, width)

    def draw(self, snapshot: Overview) -> None:
        self._table.show(queue_table(snapshot), "" if snapshot.queues else NO_QUEUES)
        self._detail.update(queue_detail(snapshot, self._table.highlighted))
        self._chart.display = self.size.height >= CHART_FROM and any(snapshot.per_minute)
        if self._chart.display:
            self._chart.update(history(snapshot, self.size.width - 2))

    def on_option_list_option_highlighted(self) -> None:
        """Another queue is highlighted."""
        if self.snapshot is not None:
            self._detail.update(queue_detail(self.snapshot, self._table.highlighted))
        self.refresh_bindings()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A queue was clicked."""
        event.stop()
        self.action_open()

    def action_open(self) -> None:
        """Show the jobs of the highlighted queue."""
        if (queue := self._table.highlighted) is not None:
            self.app.push_screen(QueueScreen(self.engine, self.interval, queue))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something here."""
        if action == "open":
            return self._table.highlighted is not None
        return super().check_action(action, parameters)

    def action_workers(self) -> None:
        """Show the workers."""
        self.app.push_screen(WorkersScreen(self.engine, self.interval))

    def queue_in_hand(self) -> str | None:
        return self._table.highlighted

    def has_pauses(self) -> bool:
        queues = () if self.snapshot is None else self.snapshot.queues
        queue = next((each for each in queues if each.name == self._table.highlighted), None)
        return queue is not None and bool(queue.pause or queue.paused_tasks)
