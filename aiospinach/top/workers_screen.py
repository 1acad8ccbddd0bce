"""The screen of the live workers."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.widget import Widget

from aiospinach import Engine, EngineOverview
from aiospinach.views import number

from .bar import title_bar
from .cell import MUTED
from .live_screen import BACK, QUIT, LiveScreen
from .table_view import TableView
from .workers import NO_WORKERS, worker_table


class WorkersScreen(LiveScreen[EngineOverview]):
    """Lists the workers, and how they are."""

    BINDINGS: ClassVar[list[BindingType]] = [BACK, QUIT]

    def __init__(self, engine: Engine, interval: float) -> None:
        super().__init__(engine, interval)
        self._table = TableView()

    def body(self) -> list[Widget]:
        return [self._table]

    async def read(self) -> EngineOverview:
        return await self.engine.overview()

    def title_of(self, snapshot: EngineOverview | None, width: int) -> Content:
        right = Content("")
        if snapshot is not None:
            busy = sum(worker.running for worker in snapshot.workers)
            slots = sum(worker.number for worker in snapshot.workers)
            right = Content.styled(
                f"{number(busy)} of {number(slots)} slots busy  {snapshot.at:%H:%M:%S} UTC", MUTED
            )
        return title_bar(["aiospinach", self.engine.namespace, "workers"], right, width)

    def draw(self, snapshot: EngineOverview) -> None:
        hint = "" if snapshot.workers else NO_WORKERS
        self._table.show(worker_table(snapshot.workers, snapshot.at), hint)
