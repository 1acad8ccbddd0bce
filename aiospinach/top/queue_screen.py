"""The screen of one queue: its jobs, by their states."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static

from aiospinach import Engine, Job, Page

from .bar import tab_bar, title_bar
from .cell import MUTED
from .dialogs import AskFilter
from .filters import Filter, parse_filter
from .job_actions import JOB_KEYS, JobActions
from .job_screen import JobScreen
from .jobs import TABS, Jobs, counts_of, filter_words, job_table, teaching
from .live_screen import BACK, OPEN, QUIT
from .queue_actions import QUEUE_KEYS, QueueActions
from .queues import pause_lines
from .table_view import TableView

PLAIN_CALLS = 3
"""Of a read: the counts, and the jobs in up to two places."""
FILTERED_CALLS = 12
LARGEST_PAGE = 1000


class QueueScreen(JobActions[Jobs], QueueActions[Jobs]):
    """Lists the jobs of one queue: a tab for each state, a page at a time."""

    DEFAULT_CSS: ClassVar[str] = """
    #tabs, #filter, #pauses {
        padding: 0 1;
        height: auto;
    }
    #tabs {
        padding: 0 1 1 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        OPEN,
        Binding("left,shift+tab", "tab(-1)", "Tab", key_display="←→", priority=True),
        Binding("right,tab", "tab(1)", show=False, priority=True),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("greater_than_sign", "page(1)", "Next", key_display=">"),
        Binding("less_than_sign", "page(-1)", "Before", key_display="<"),
        *JOB_KEYS,
        *QUEUE_KEYS,
        BACK,
        QUIT,
    ]

    def __init__(self, engine: Engine, interval: float, queue: str) -> None:
        super().__init__(engine, interval)
        self._queue = queue
        self._tab = 0
        self._filter = Filter()
        self._cursors: list[str | None] = [None]
        """The beginnings of the pages up to the one that is shown."""
        self._tabs = Static(id="tabs")
        self._words = Static(id="filter")
        self._pauses = Static(id="pauses")
        self._table = TableView()

    def body(self) -> list[Widget]:
        return [self._tabs, self._pauses, self._words, self._table]

    @property
    def calls(self) -> int:
        """A filter looks through many jobs."""
        return FILTERED_CALLS if self._filter.is_slow else PLAIN_CALLS

    async def read(self) -> Jobs:
        # Keys may change these while the store is asked.
        tab, words, number, cursor = self._tab, self._filter, len(self._cursors), self._cursors[-1]
        overview = await self.engine.overview(queue=self._queue)
        page = await self._page(tab, words, cursor)
        return Jobs(overview.at, overview.queues[self._queue], page, tab, words, number)

    async def _page(self, tab: int, words: Filter, cursor: str | None) -> Page:
        if words.id:
            job = await self.engine.job(words.id, queue=self._queue)
            return Page([] if job is None else [job], None, False)
        return await self.engine.page(
            queue=self._queue,
            status=TABS[tab].status,
            task=words.task or None,
            key=words.key or None,
            error=words.error or None,
            after=cursor,
            limit=min(self._table.room, LARGEST_PAGE),
        )

    def title_of(self, snapshot: Jobs | None, width: int) -> Content:
        time = "" if snapshot is None else f"{snapshot.at:%H:%M:%S} UTC"
        path = ["aiospinach", self.engine.namespace, self._queue]
        return title_bar(path, Content.styled(time, MUTED), width)

    def draw(self, snapshot: Jobs) -> None:
        titles = [tab.title for tab in TABS]
        self._tabs.update(
            tab_bar(list(zip(titles, counts_of(snapshot.queue.counts), strict=True)), self._tab)
        )
        self._show_line(self._pauses, Content("\n").join(pause_lines(snapshot.queue.pauses, snapshot.at)))
        current = self._current()
        self._show_line(self._words, filter_words(self._filter, current))
        jobs = [] if current is None else current.page.jobs
        hint = "" if jobs else "…" if current is None else teaching(current)
        self._table.show(job_table(TABS[self._tab], jobs, snapshot.at), hint)

    def _current(self) -> Jobs | None:
        """The snapshot, if it is of the tab, filter and page that the user has chosen since."""
        snapshot = self.snapshot
        is_shown = snapshot is not None and snapshot.is_of(self._tab, self._filter, len(self._cursors))
        return snapshot if is_shown else None

    def _show_line(self, line: Static, content: Content) -> None:
        line.display = bool(content.plain)
        line.update(content)

    # What keys do.

    def job_in_hand(self) -> Job | None:
        current, key = self._current(), self._table.highlighted
        jobs = () if current is None else current.page.jobs
        return next((job for job in jobs if job.id == key), None)

    def queue_in_hand(self) -> str | None:
        return self._queue

    def has_pauses(self) -> bool:
        return self.snapshot is not None and bool(self.snapshot.queue.pauses)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something here: others are not shown."""
        if action == "open":
            return self.job_in_hand() is not None
        if action == "page":
            current = self._current()
            has_more = current is not None and current.page.cursor is not None
            return has_more if parameters == (1,) else len(self._cursors) > 1
        return super().check_action(action, parameters)

    def on_option_list_option_highlighted(self) -> None:
        """Another job is highlighted, which other keys may suit."""
        self.refresh_bindings()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A job was clicked."""
        event.stop()
        self.action_open()

    def action_open(self) -> None:
        """Show the highlighted job."""
        if (job := self.job_in_hand()) is not None:
            self.app.push_screen(JobScreen(self.engine, self.interval, job))

    def action_tab(self, step: int) -> None:
        """Show the jobs of another state."""
        self._turn_to((self._tab + step) % len(TABS), self._filter)

    def action_filter(self) -> None:
        """Ask which jobs to show."""

        def answered(text: str | None) -> None:
            if text is not None:
                self._turn_to(self._tab, parse_filter(text))

        self.app.push_screen(AskFilter(self._filter), answered)

    def action_page(self, step: int) -> None:
        """Show the next page, or the one before."""
        current = self._current()
        if step < 0:
            self._cursors.pop()
        elif current is not None:
            self._cursors.append(current.page.cursor)
        self._read_anew()

    def action_back(self) -> None:
        """Show all jobs again if there is a filter; else leave the screen."""
        if any(self._filter):
            self._turn_to(self._tab, Filter())
        else:
            super().action_back()

    def _turn_to(self, tab: int, words: Filter) -> None:
        self._tab, self._filter = tab, words
        self._cursors = [None]
        self._read_anew()

    def _read_anew(self) -> None:
        self.redraw()
        self.read_now()
